"""Runs the steps of a start, each as soon as those it needs are done, and stops all of them when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter

from deploy.local.progress import Progress


@dataclass(frozen=True)
class Step:
    """Something to be done once the steps it needs are done. `run` returns when it is, or raises."""

    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()
    tells: str = ""


def launch(steps: Iterable[Step], *, progress: Progress, cancelled: threading.Event) -> None:
    """Run all steps, side by side where their needs allow it.

    Raises whatever the first failing step raised, after the others have been told to stop and have stopped.
    """
    by_name = {step.name: step for step in steps}
    sorter = TopologicalSorter({step.name: step.needs for step in by_name.values()})
    sorter.prepare()
    running: dict[Future[None], tuple[Step, float]] = {}
    with ThreadPoolExecutor(len(by_name)) as pool:
        try:
            while sorter.is_active():
                for name in sorter.get_ready():
                    running[pool.submit(by_name[name].run)] = (by_name[name], time.monotonic())
                progress.waiting(step.name for step, _ in running.values())
                for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    step, started = running.pop(future)
                    future.result()
                    progress.ready(step.name, step.tells, time.monotonic() - started)
                    sorter.done(step.name)
        except BaseException:
            cancelled.set()
            raise
        finally:
            progress.clear()
