"""An interruption happens once, and an orderly end is not disturbed by more of them."""

from __future__ import annotations

import os
import signal

import pytest

from deploy.local.interrupts import Interrupted, interruptible, undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_further_ones_do_not(number: signal.Signals) -> None:
    """Whoever presses Ctrl-C twice does not leave half a stack behind; the status tells the signal, as shells have it."""
    cleaned: list[bool] = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            cleaned.append(True)

    with pytest.raises(Interrupted) as caught, interruptible():
        work()
    assert cleaned == [True]
    assert caught.value.status == 128 + number


def test_an_end_is_not_disturbed() -> None:
    """Signals during an end are ignored, and count again after it."""
    with interruptible():
        with undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_given_back() -> None:
    """What was there before is there afterwards."""
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
