"""What every part is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import psutil

from benchmarks import pair
from benchmarks.bench_stack import BenchStack
from benchmarks.effort import Effort
from benchmarks.pair import Pair


@dataclass
class Bench:
    """The running stack and how long to measure. The server and the echo are started by the first part that needs them."""

    stack: BenchStack
    effort: Effort

    @cached_property
    def pair(self) -> Pair:
        """The echo and Predict."""
        return pair.start(self.stack)

    def renew(self) -> None:
        """See the server's processes anew, after it was started again."""
        self.pair = replace(self.pair, server=self.stack.tree("server"))

    @property
    def valkey(self) -> list[psutil.Process]:
        """What serves the server on the load's cores."""
        return self.stack.tree("valkey")
