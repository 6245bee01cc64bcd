"""How concurrent rows are gathered into batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.event_loop import IdleLoop, new_event_loop, when_idle
from ml_platform_server.observability.recorders import PredictionMetrics
from ml_platform_server.serving.dynamic_batching import LONG_SINGLE_STREAK, BatchingOptions, DynamicBatcher
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.outputs.prediction import PlainPrediction, Prediction


class Model:
    """Answers each row with its value; remembers the batches; waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.given_up = 0
        self.failure: Exception | None = None

    async def answer(self, rows: Sequence[Row]) -> list[PlainPrediction | PlatformError]:
        self.batches.append([row.values[0] for row in rows])
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.failure is not None:
            raise self.failure
        return [PlainPrediction(row.values[0], None, {}) for row in rows]


def row(value: object) -> Row:
    return Row({}, [value], [])


def in_an_hour() -> float:
    return time.monotonic() + 3600


def batcher_of(model: Model, **batching: int) -> DynamicBatcher:
    return DynamicBatcher(model.answer, BatchingOptions(**batching), PredictionMetrics().no_version)


def submitted(batcher: DynamicBatcher, value: object, deadline: float) -> asyncio.Future[Prediction | PlatformError]:
    """The outcome of a row, as something that can be cancelled and looked at."""
    return asyncio.ensure_future(batcher.submit(row(value), deadline))


def on_idle_loop(test: Callable[[], object]) -> Callable[[], None]:
    """Run a test on the loop that the server runs on."""

    def run() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(test())  # type: ignore[arg-type]  # a coroutine

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on_idle_loop
async def test_rows_that_come_together_are_answered_together():
    """Calls that are there before the loop runs dry make one batch, and each gets its own answer."""
    model = Model()
    batcher = batcher_of(model)

    async def call(value):
        for _ in range(value):  # each comes some turns of the loop later
            await asyncio.sleep(0)
        return (await batcher.submit(row(value), in_an_hour())).prediction

    assert await asyncio.gather(*(call(value) for value in range(20))) == list(range(20))
    assert model.batches == [list(range(20))]


@on_idle_loop
async def test_a_lone_caller_waits_for_nobody():
    """Call after call of one caller is a batch of its own; soon it is answered within its call, without a turn of the loop."""
    model = Model()
    batcher = batcher_of(model)
    for value in range(LONG_SINGLE_STREAK + 1):
        await batcher.submit(row(value), in_an_hour())
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    answer = await batcher.submit(row("at once"), in_an_hour())
    assert (answer.prediction, turned.done()) == ("at once", False)


@on_idle_loop
async def test_a_lone_caller_who_leaves_or_fails_leaves_room_for_the_next():
    """What ends the row of a lone caller ends nothing else: its error is its own, and its place is free again."""
    model = Model()
    batcher = batcher_of(model, max_concurrent=1, max_concurrent_slow=1)
    for value in range(LONG_SINGLE_STREAK + 1):
        await batcher.submit(row(value), in_an_hour())
    model.failure = backend_unavailable("Feast")
    assert await batcher.submit(row("fails"), in_an_hour()) == model.failure
    model.failure = None
    model.go_on.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batcher.submit(row("leaves"), in_an_hour()), 0.01)
    model.go_on.set()
    assert (await asyncio.wait_for(batcher.submit(row("next"), in_an_hour()), 5)).prediction == "next"
    assert model.given_up == 1


@on_idle_loop
async def test_a_caller_who_was_alone_is_joined_by_others():
    """Once others come, batches grow again."""
    model = Model()
    batcher = batcher_of(model)
    for value in range(LONG_SINGLE_STREAK * 4):
        await batcher.submit(row(value), in_an_hour())
    for _ in range(4):
        await asyncio.gather(*(batcher.submit(row(value), in_an_hour()) for value in range(8)))
    assert max(map(len, model.batches)) == 8


async def test_rows_gather_while_batches_run_and_no_batch_is_too_large():
    """No more batches run at once than may; what comes meanwhile makes the next ones, of at most so many rows."""
    model = Model()
    model.go_on.clear()
    batcher = batcher_of(model, max_batch_size=3, max_concurrent=1, max_concurrent_slow=1)
    first = batcher.submit(row("first"), in_an_hour())
    await asyncio.sleep(0.01)
    others = [batcher.submit(row(value), in_an_hour()) for value in range(5)]
    await asyncio.sleep(0.05)
    assert model.batches == [["first"]]
    model.go_on.set()
    await asyncio.gather(first, *others)
    assert model.batches == [["first"], [0, 1, 2], [3, 4]]


async def test_a_batch_that_takes_long_lets_others_run_beside_it():
    """While a batch waits for a slow store, the next ones begin, up to their number."""
    model = Model()
    model.go_on.clear()
    batcher = batcher_of(model, max_concurrent=1, max_concurrent_slow=2)
    futures = []
    for value in range(3):
        futures.append(batcher.submit(row(value), in_an_hour()))
        await asyncio.sleep(0.1)
    assert model.batches == [[0], [1]]
    model.go_on.set()
    await asyncio.gather(*futures)
    assert model.batches == [[0], [1], [2]]


async def test_who_left_costs_nothing():
    """A row whose caller has left, or whose time is up, before its batch begins is not in it."""
    model = Model()
    batcher = batcher_of(model)
    left, late = submitted(batcher, "left", in_an_hour()), submitted(batcher, "late", time.monotonic() - 1)
    stays = batcher.submit(row("stays"), in_an_hour())
    left.cancel()
    assert (await stays).prediction == "stays"
    assert (await late).reason == errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED
    assert model.batches == [["stays"]]


async def test_everybody_waits_until_his_own_deadline():
    """In a batch that takes long, the first deadline ends one wait and no other; the model may take until the last."""
    model = Model()
    model.go_on.clear()
    seen = []
    answer = model.answer

    async def told(rows):
        seen.append(remaining(0.0))
        return await answer(rows)

    batcher = DynamicBatcher(told, BatchingOptions(), PredictionMetrics().no_version)
    soon, later = submitted(batcher, "soon", time.monotonic() + 0.05), submitted(batcher, "later", time.monotonic() + 30)
    outcome = await asyncio.wait_for(soon, 5)
    assert outcome.reason == errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED
    assert not later.done()
    model.go_on.set()
    assert (await later).prediction == "later"
    assert 29 < seen[0] <= 30


async def test_a_batch_that_nobody_waits_for_is_given_up():
    """When every caller has left, the work for them ends, and the next batch has its place."""
    model = Model()
    model.go_on.clear()
    batcher = batcher_of(model, max_concurrent=1, max_concurrent_slow=1)
    futures = [submitted(batcher, value, in_an_hour()) for value in range(2)]
    await asyncio.sleep(0.01)
    for future in futures:
        future.cancel()
    await asyncio.sleep(0.2)
    assert model.given_up == 1
    model.go_on.set()
    assert (await asyncio.wait_for(batcher.submit(row("next"), in_an_hour()), 5)).prediction == "next"


async def test_too_many_waiting_rows_are_refused():
    """Beyond its length the queue refuses at once, and says when to come again; who waits already is answered."""
    model = Model()
    model.go_on.clear()
    batcher = batcher_of(model, max_concurrent=1, max_concurrent_slow=1, max_queue_size=2)
    waiting = [batcher.submit(row("running"), in_an_hour())]
    await asyncio.sleep(0.01)
    waiting += [batcher.submit(row(value), in_an_hour()) for value in range(2)]
    with pytest.raises(PlatformError) as refused:
        batcher.submit(row("too many"), in_an_hour())
    assert (refused.value.reason, refused.value.retry_after) == (errors_pb2.ERROR_REASON_OVERLOADED, 1.0)
    model.go_on.set()
    assert len(await asyncio.gather(*waiting)) == 3


@pytest.mark.parametrize("failure", [backend_unavailable("Feast"), ZeroDivisionError("unforeseen")], ids=["told", "unforeseen"])
async def test_a_batch_that_fails_tells_everybody(failure):
    """What ends a batch reaches each of its callers, and the next batch goes on."""
    model = Model()
    model.failure = failure
    batcher = batcher_of(model)
    said = await asyncio.gather(*(batcher.submit(row(value), in_an_hour()) for value in range(3)), return_exceptions=True)
    assert said == [failure] * 3
    model.failure = None
    assert (await batcher.submit(row("next"), in_an_hour())).prediction == "next"


@on_idle_loop
async def test_the_loop_tells_when_it_has_nothing_else_to_do():
    """A callback comes after everything that was ready, and after what that made ready, and before the loop sleeps."""
    assert isinstance(asyncio.get_running_loop(), IdleLoop)
    order: list[object] = []
    idle = asyncio.Event()

    def told():
        order.append("idle")
        idle.set()

    when_idle(told)

    async def turns(count):
        for turn in range(count):
            order.append(turn)
            await asyncio.sleep(0)

    await asyncio.gather(turns(5), asyncio.wait_for(idle.wait(), 5))
    assert order == [0, 1, 2, 3, 4, "idle"]


def keep_busy() -> Callable[[], None]:
    """Give the loop something to do in each of its turns, as an overloaded one has; returns what ends that."""
    loop, stopped = asyncio.get_running_loop(), False

    def turn() -> None:
        if not stopped:
            loop.call_soon(turn)

    def stop() -> None:
        nonlocal stopped
        stopped = True

    turn()
    return stop


@on_idle_loop
async def test_rows_are_answered_on_a_loop_that_never_runs_out_of_work():
    """Rows do not wait for ever for a moment that does not come: what waits too long is taken, again and again."""
    stop = keep_busy()
    batcher = batcher_of(Model())
    for values in ((1, 2, 3), (4, 5)):
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*(batcher.submit(row(value), in_an_hour()) for value in values))
        assert [outcome.prediction for outcome in outcomes] == list(values)
    stop()


@on_idle_loop
async def test_a_full_batch_waits_for_nothing():
    """As many rows as a batch takes are taken at once, before the loop runs out of work."""
    stop = keep_busy()
    model = Model()
    batcher = batcher_of(model, max_batch_size=3)
    futures = [submitted(batcher, value, in_an_hour()) for value in range(4)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert model.batches == [[0, 1, 2]]
    stop()
    await asyncio.gather(*futures)
    assert model.batches == [[0, 1, 2], [3]]
