"""One page of metrics for all workers, each of which serves its own on a socket file."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Self

from ml_platform_server.observability.exposition import Page, scrape
from ml_platform_server.observability.merging import WorkerPages


class WorkersMetrics:
    """The socket files, in a folder of their own, and the page that is made of what is served there.

    Args:
        workers: how many.
    """

    def __init__(self, *, workers: int) -> None:
        self._workers = workers
        self._pages = WorkerPages()
        self._turn = asyncio.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="ml-platform-server-"))

    def __enter__(self) -> Self:
        """Have the folder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def socket_of(self, number: int) -> Path:
        """Where a worker is to serve its metrics."""
        return self._folder / f"{number}.sock"

    async def page(self, _accept: str) -> Page:
        """Read the metrics of every worker and merge them."""
        async with self._turn:
            answers = await asyncio.gather(*(scrape(self.socket_of(number)) for number in range(self._workers)))
            pages = {number: page for number, page in enumerate(answers) if page is not None}
            return Page(await asyncio.to_thread(self._pages.merged, pages))
