"""The supervisor, with small real processes for workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ml_platform_server.supervisor import slot, supervisor
from ml_platform_server.supervisor.slot import RestartBackoff
from ml_platform_server.supervisor.supervisor import Supervisor, WorkersFailedError

PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
number, channel, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
with (folder / f"started-{number}").open("a") as started:
    print(os.getpid(), file=started)
starts = len((folder / f"started-{number}").read_text().split())
def say(**news):
    os.write(channel, json.dumps(news).encode() + b"\\n")
def on_term(*_):
    (folder / f"drained-{number}").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
def serve():
    say(ready=True)
    time.sleep(60)
"""


class House:
    """A supervisor of workers that run a script, and what is seen of them."""

    def __init__(self, folder: Path, script: str, *, workers: int = 2, drain: float = 5.0, worker_timeout: float = 120.0) -> None:
        self.folder = folder
        self.told: list[float] = []
        self.supervisor = Supervisor(
            workers=workers,
            command=lambda number, channel: (
                sys.executable,
                "-S",
                "-c",
                PRELUDE + script,
                str(number),
                str(channel),
                str(folder),
            ),
            drain=drain,
            worker_timeout=worker_timeout,
            on_ready=lambda: self.told.append(time.monotonic()),
            delays=lambda: RestartBackoff(first=0.02, longest=0.1),
        )
        self.running = asyncio.create_task(self.supervisor.run())

    def pids(self, number: int) -> list[int]:
        """Every process that a place has had."""
        path = self.folder / f"started-{number}"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def drained(self, number: int) -> bool:
        """Whether a worker of a place has ended as it was asked to."""
        return (self.folder / f"drained-{number}").exists()

    async def until(self, condition) -> None:
        """Wait for something, for ten seconds."""
        async with asyncio.timeout(10):
            while not condition():
                assert not self.running.done(), self.running
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop in an orderly way."""
        self.supervisor.stop()
        await asyncio.wait_for(asyncio.shield(self.running), 10)


@pytest.fixture
async def house(tmp_path):
    """Makes a house."""
    made = []

    def make(script: str, **options) -> House:
        made.append(House(tmp_path, script, **options))
        return made[-1]

    yield make
    for each in made:
        each.supervisor.kill()
        with contextlib.suppress(WorkersFailedError):
            await each.running


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_readiness_is_told_once_when_all_are_ready(house):
    """Who waits for the workers hears of them when the last one is ready, and only then."""
    one = house("""
if number == 1:
    while not (folder / "go on").exists(): time.sleep(0.01)
serve()
""")
    await one.until(lambda: one.pids(0) and one.pids(1))
    await asyncio.sleep(0.2)
    assert one.told == []
    (one.folder / "go on").touch()
    await one.until(lambda: one.told)
    await one.stop()
    assert len(one.told) == 1


async def test_a_stop_drains_every_worker(house):
    """All workers are asked to end, and are gone when the supervisor is."""
    one = house("serve()")
    await one.until(lambda: one.told)
    await one.stop()
    assert (one.drained(0), one.drained(1)) == (True, True)
    assert not any(alive(pid) for number in (0, 1) for pid in one.pids(number))


async def test_a_worker_that_crashes_is_replaced(house):
    """A worker that is killed has a successor; the other one stays as it is, and nobody is told a second time."""
    one = house("serve()")
    await one.until(lambda: one.told)
    os.kill(one.pids(1)[0], signal.SIGKILL)
    await one.until(lambda: len(one.pids(1)) == 2)
    await asyncio.sleep(0.2)
    assert (len(one.pids(0)), len(one.pids(1)), len(one.told)) == (1, 2, 1)
    await one.stop()
    assert one.drained(1)


HEARTBEATS = """
say(ready=True)
while True:
    time.sleep(0.05)
    os.write(channel, b"\\n")
"""


async def test_a_worker_that_hangs_is_replaced(house):
    """A worker that lives but sends no heartbeat is killed and has a successor; one that sends them is left alone."""
    one = house(HEARTBEATS, worker_timeout=2.0)
    await one.until(lambda: one.told)
    os.kill(one.pids(1)[0], signal.SIGSTOP)
    await one.until(lambda: len(one.pids(1)) == 2)
    assert not alive(one.pids(1)[0])
    await one.stop()
    assert (len(one.pids(0)), one.drained(0), one.drained(1)) == (1, True, True)


async def test_workers_that_were_frozen_with_their_supervisor_are_left_alone(house):
    """A pause of the whole machine, longer than the time that a worker may be silent, replaces nobody."""
    one = house(HEARTBEATS, workers=1, worker_timeout=1.0)
    await one.until(lambda: one.told)
    pid = one.pids(0)[0]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)  # noqa: ASYNC251  # the supervisor of this process stands still too
    os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(0.5)
    assert (one.pids(0), alive(pid)) == ([pid], True)
    await one.stop()


async def test_a_worker_that_never_starts_again_is_tried_again_and_again(house):
    """While one worker serves, another that cannot start is started anew for ever, with pauses; it serves once it can."""
    one = house("""
if number == 1 and starts < 6:
    sys.exit(3)
serve()
""")
    await one.until(lambda: one.told)
    assert len(one.pids(1)) == 6
    await one.stop()


def test_the_pauses_between_starts_grow_and_are_forgotten():
    """Bad starts in a row wait longer and longer, up to a bound; after a worker that served well nothing is waited for."""
    delays = RestartBackoff(first=0.25, longest=10.0)
    assert [delays.after(0.0) for _ in range(8)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert (delays.after(slot.STABLE_SECONDS), delays.after(0.0)) == (0.0, 0.25)


async def test_a_first_start_that_fails_ends_with_the_workers_own_words(house):
    """What a worker says of its failed start is what the operator is told, once, and no worker is left."""
    one = house('say(ready=False, error="The pepper is missing.")\ntime.sleep(0.05)\nsys.exit(1)')
    with pytest.raises(WorkersFailedError, match=r"^The pepper is missing\.$"):
        await asyncio.wait_for(asyncio.shield(one.running), 10)
    assert one.told == []
    assert not any(alive(pid) for number in (0, 1) for pid in one.pids(number))


async def test_a_first_start_of_which_nobody_survives_ends(house):
    """Workers that all die without a word at the first start are not started for ever."""
    one = house("os.abort()")
    with pytest.raises(WorkersFailedError, match="No worker could start"):
        await asyncio.wait_for(asyncio.shield(one.running), 10)


async def test_a_worker_that_does_not_drain_is_killed(house, monkeypatch):
    """A worker that ignores the request to end is killed when its time is up."""
    monkeypatch.setattr(supervisor, "PATIENCE", 0.2)
    one = house("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()", drain=0.1)
    await one.until(lambda: one.told)
    begun = time.monotonic()
    await one.stop()
    assert 0.2 < time.monotonic() - begun < 5
    assert not alive(one.pids(0)[0])


async def test_a_second_word_ends_at_once(house):
    """Workers that drain for long are ended at once when that is asked for."""
    one = house("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()", drain=60.0)
    await one.until(lambda: one.told)
    one.supervisor.stop()
    await asyncio.sleep(0.05)
    one.supervisor.kill()
    await asyncio.wait_for(asyncio.shield(one.running), 5)
    assert not any(alive(pid) for number in (0, 1) for pid in one.pids(number))


async def test_a_stop_while_a_worker_waits_for_its_next_start_is_not_held_up(house):
    """A place that is between two starts ends with the others, and its next worker never comes."""
    one = house("""
if number == 1: sys.exit(3)
serve()
""")
    await one.until(lambda: len(one.pids(1)) >= 4)
    await one.stop()
    count = len(one.pids(1))
    await asyncio.sleep(0.3)
    assert len(one.pids(1)) == count


async def test_workers_are_replaced_one_after_the_other(house):
    """A roll starts a successor, waits until it is ready, and only then ends the one before."""
    one = house("""
if starts == 2: time.sleep(0.2)
serve()
""")
    await one.until(lambda: one.told)
    before = [one.pids(number)[0] for number in (0, 1)]
    one.supervisor.roll()
    await one.until(lambda: len(one.pids(0)) == 2)
    assert (alive(before[0]), len(one.pids(1))) == (True, 1)
    await one.until(lambda: len(one.pids(1)) == 2)
    await one.until(lambda: not any(alive(pid) for pid in before))
    assert (len(one.pids(0)), len(one.pids(1)), len(one.told)) == (2, 2, 1)
    await one.stop()


async def test_a_roll_stops_at_a_worker_that_does_not_become_ready(house):
    """When the successor cannot start, the worker before it goes on, and the others are left alone."""
    one = house("""
if starts == 2:
    say(ready=False, error="not today")
    sys.exit(1)
serve()
""")
    await one.until(lambda: one.told)
    one.supervisor.roll()
    await one.until(lambda: len(one.pids(0)) == 2)
    await asyncio.sleep(0.2)
    assert (alive(one.pids(0)[0]), len(one.pids(1)), one.running.done()) == (True, 1, False)
    await one.stop()


async def test_a_replaced_worker_that_crashes_is_replaced_too(house):
    """The successor is looked after as the first worker was."""
    one = house("serve()", workers=1)
    await one.until(lambda: one.told)
    one.supervisor.roll()
    await one.until(lambda: len(one.pids(0)) == 2 and not alive(one.pids(0)[0]))
    os.kill(one.pids(0)[1], signal.SIGKILL)
    await one.until(lambda: len(one.pids(0)) == 3)
    await one.stop()


async def test_ctrl_c_in_a_terminal_does_not_reach_the_workers(house):
    """Workers are in a session of their own: what a terminal sends to the supervisor's group passes them by."""
    one = house("serve()")
    await one.until(lambda: one.told)
    assert all(os.getsid(one.pids(number)[0]) == one.pids(number)[0] for number in (0, 1))
    await one.stop()
