"""A worker's end of the channel."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from ml_platform_server.supervisor.worker import StartupReport, Worker

PRELUDE = """
import signal, sys, time
from ml_platform_server.supervisor.lifeline import Lifeline
lifeline = Lifeline(int(sys.argv[1]), patience=0.2)
"""


def command(script: str):
    return lambda number, channel: (sys.executable, "-c", PRELUDE + script, str(channel))


async def test_a_worker_is_heard_of():
    """What the worker says at its end arrives at the other, line breaks and all."""
    ready = await Worker.start(command("lifeline.ready()\ntime.sleep(60)"), 0)
    failed = await Worker.start(command('lifeline.failed("Not valid.\\n  PORT: no")'), 1)
    assert list(await asyncio.gather(ready.news(), failed.news())) == [
        StartupReport(ready=True),
        StartupReport(ready=False, error="Not valid.\n  PORT: no"),
    ]
    ready.end()
    assert (await ready.wait(), await failed.wait()) == (-15, 0)


async def test_a_worker_without_a_word_is_heard_to_end():
    """A worker that ends before it says anything is told from one that is slow."""
    worker = await Worker.start(command("sys.exit(3)"), 0)
    assert (await worker.news(), await worker.wait()) == (StartupReport(ready=False), 3)


BEATING = """
import asyncio
async def main():
    lifeline.ready()
    lifeline.start_heartbeat()
    await asyncio.sleep(4.5)
    time.sleep(60)
asyncio.run(main())
"""


async def test_a_worker_whose_loop_hangs_is_killed_and_not_before():
    """Heartbeats keep a worker alive beyond the time of silence; once its event loop stands still it is killed."""
    worker = await Worker.start(command(BEATING), 0)
    assert await worker.news() == StartupReport(ready=True)
    begun = time.monotonic()
    worker.kill_when_silent(3.0)
    assert await worker.wait() == -9
    assert time.monotonic() - begun > 4.5


SUPERVISOR = """
import asyncio, sys
from ml_platform_server.supervisor.worker import Worker
async def main():
    worker = await Worker.start(lambda number, channel: (sys.executable, "-c", {script!r}, str(channel)), 0)
    await worker.news()
    print(worker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def orphan(script: str) -> int:
    """A worker whose supervisor was killed."""
    code = SUPERVISOR.format(script=PRELUDE + script)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        process.kill()
    return pid


def gone_within(pid: int, seconds: float) -> bool:
    """Whether a process of nobody's ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_worker_does_not_outlive_its_supervisor():
    """A worker whose supervisor is killed ends as if it was asked to."""
    assert gone_within(orphan("lifeline.ready()\ntime.sleep(60)"), 5)


def test_a_worker_that_hangs_does_not_outlive_its_supervisor_for_long():
    """A worker that does not end when it is asked to ends all the same when its time is up."""
    assert gone_within(orphan("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nlifeline.ready()\ntime.sleep(60)"), 5)
