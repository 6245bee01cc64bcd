"""Tells a person how a start goes: a line for what is ready, and on a terminal one that says what is waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TextIO


class Progress:
    """Writes to standard error, so that standard output stays what a command is asked for."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Write a line."""
        self.clear()
        print(text, file=self._stream, flush=True)

    def ready(self, name: str, tells: str, seconds: float) -> None:
        """Write that something is ready and how long it took."""
        self.say(f"  {name:<9} ready after {seconds:5.1f} s   {tells}".rstrip())

    def waiting(self, names: Iterable[str]) -> None:
        """Show what is waited for, in a line that the next one overwrites."""
        if self._live:
            self.clear()
            text = f"  waiting for {', '.join(names)} ... {time.monotonic() - self._started:.0f} s"
            print(text[:100], end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Take away the line that is to be overwritten."""
        if self._live:
            print("\r\033[K", end="", file=self._stream, flush=True)
