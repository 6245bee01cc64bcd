"""Logs as JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import json
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from select import PIPE_BUF

import pytest
import structlog

from ml_platform_server import logs
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.call import set_correlation_id
from ml_platform_server.logs import LineWriter
from ml_platform_server.observability.recorders import PredictionMetrics
from ml_platform_server.serving.dynamic_batching import BatchingOptions, DynamicBatcher
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.settings import LogSettings


@pytest.fixture
def stream():
    yield io.StringIO()
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def lines(stream):
    """Each line as what it says."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ours_and_the_libraries_lines_look_alike(stream):
    """What structlog and the standard library log has a level, a time and one JSON object a line."""
    writer = logs.configure(LogSettings(), stream)
    structlog.get_logger("ours").info("something_happened", count=3)
    logging.getLogger("theirs").warning("it %s", "broke")
    writer.flush()
    ours, theirs = lines(stream)
    assert (ours["event"], ours["level"], ours["count"]) == ("something_happened", "info", 3)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("it broke", "warning", "theirs")
    assert "timestamp" in ours
    assert "timestamp" in theirs


def test_a_traceback_is_part_of_its_line(stream):
    """An exception stays within its line, however many lines its traceback has."""
    writer = logs.configure(LogSettings(), stream)
    try:
        [].pop()
    except IndexError:
        structlog.get_logger().exception("failed")
        logging.getLogger("theirs").exception("failed too")
    writer.flush()
    assert [line["exception"].splitlines()[-1] for line in lines(stream)] == ["IndexError: pop from empty list"] * 2


def test_what_is_below_the_level_is_not_written(stream):
    """The level in the settings holds for our lines; libraries are heard from warnings on."""
    writer = logs.configure(LogSettings(level="warning"), stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("theirs").info("quiet")
    writer.flush()
    assert lines(stream) == []


def test_the_correlation_id_is_in_every_line_of_a_call(stream):
    """Our lines and the libraries' carry the id of the call that the current task works for, set as the server sets it."""
    writer = logs.configure(LogSettings(), stream)

    def call() -> None:
        set_correlation_id("r-1")
        structlog.get_logger().info("ours")
        logging.getLogger("theirs").warning("theirs")

    contextvars.copy_context().run(call)
    writer.flush()
    assert [line["correlation_id"] for line in lines(stream)] == ["r-1", "r-1"]


def test_lines_of_several_processes_do_not_cut_each_other(stream):
    """What is written at once stays whole in a pipe that several processes write to; only a longer line goes alone."""
    written: list[str] = []
    stream.write = written.append
    writer = logs.configure(LogSettings(), stream)
    for size in [100] * 200 + [10_000, 100]:
        writer.msg("ä" * (size // 2))
    writer.flush()
    assert sum(text.count("\n") for text in written) == 202
    assert all(text.endswith("\n") for text in written)
    assert all(len(text.encode()) <= PIPE_BUF or text.count("\n") == 1 for text in written)
    assert len(written) < 10


def test_lines_that_have_most_in_common_are_written_like_others(stream):
    """The quick way gives the line that the usual one gives, with the time of when it was told and not of when it is written."""
    writer = logs.configure(LogSettings(), stream)
    before = datetime.now(UTC)
    logs.line_writer({"event": "grpc_call", "level": "info", "who": '100% "ann"'}, {"id": "%s", "ms": "%.3f"})("r-1", 1.23456)
    after = datetime.now(UTC)
    logs.event_writer()({"event": "grpc_call", "level": "info", "who": '100% "ann"', "id": "r-1", "ms": 1.235})
    time.sleep(0.01)
    writer.flush()
    quick, usual = lines(stream)
    told = datetime.fromisoformat(quick.pop("timestamp"))
    assert usual.pop("timestamp")
    assert quick == usual
    assert before - timedelta(microseconds=1) <= told <= after


async def test_a_backends_thread_logs_the_id_of_the_call(stream):
    """Vendors are asked in threads, and what they say belongs to a call."""
    writer = logs.configure(LogSettings(), stream)
    pool = BlockingPool("vendor", threads=1)

    def ask():
        structlog.get_logger().warning("vendor_failed")
        logging.getLogger("vendor").warning("failed")

    async def call(correlation_id):
        set_correlation_id(correlation_id)
        await pool.run(ask)

    for correlation_id in ("r-1", "r-2"):
        await asyncio.create_task(call(correlation_id))
    await pool.run(ask)
    pool.close()
    writer.flush()
    assert [line.get("correlation_id") for line in lines(stream)] == ["r-1", "r-1", "r-2", "r-2", None, None]


async def test_a_batch_logs_the_ids_of_its_calls(stream):
    """A failure that several calls share can be found by the id of each; a lone call's line has its id and no other."""
    writer = logs.configure(LogSettings(), stream)

    async def answer(rows):
        structlog.get_logger().warning("vendor_failed", rows=len(rows))
        return [None] * len(rows)

    batcher = DynamicBatcher(answer, BatchingOptions(), PredictionMetrics().no_version)

    async def call(correlation_id):
        set_correlation_id(correlation_id)
        await batcher.submit(Row({}, [1.0], []), time.monotonic() + 60)

    await asyncio.gather(*(asyncio.create_task(call(f"r-{at}")) for at in range(3)))
    await asyncio.create_task(call("r-3"))
    await asyncio.gather(*(asyncio.create_task(call(f"{at:0100}")) for at in range(200)))
    writer.flush()
    shared, lone, many = lines(stream)
    assert shared["correlation_id"].split(",") == ["r-0", "r-1", "r-2"]
    assert lone["correlation_id"] == "r-3"
    assert many["correlation_id"].startswith(f"{0:0100},{1:0100},")
    assert len(many["correlation_id"]) < PIPE_BUF


@pytest.mark.parametrize("fault", ["the reader ended", "the stream is closed"])
def test_lines_that_nobody_reads_are_lost_and_nothing_else(fault):
    """The thread goes on, without haste, and says later how many lines nobody has seen."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    writer = LineWriter(stream)
    if fault == "the reader ended":
        os.close(reading)
    else:
        stream.close()
    writer.msg("lost")
    wait_until(lambda: writer._lost == 1)
    used = time.process_time()
    writer.msg("lost")
    wait_until(lambda: writer._lost == 2)
    assert writer._thread.is_alive()
    assert time.process_time() - used < 1
    writer._stream = seen = io.StringIO()
    writer.msg('{"event":"seen"}')
    wait_until(seen.getvalue)
    assert [(line["event"], line.get("lines")) for line in lines(seen)] == [("log_lines_lost", 2), ("seen", None)]
    if fault == "the reader ended":
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    else:
        os.close(reading)


def test_a_line_that_cannot_be_made_is_told(stream):
    """And the lines after it are written."""
    writer = LineWriter(stream)
    writer.later(lambda now, values: str(now + len(values) / 0), ["a value"])
    writer.msg('{"event":"next"}')
    writer.flush()
    assert [line["event"] for line in lines(stream)] == ["log_line_failed", "next"]


def test_a_reader_that_stands_still_does_not_keep_a_process_from_ending():
    """The thread waits for it; who ends the process does not."""
    reading, writing = os.pipe()
    writer = LineWriter(os.fdopen(writing, "w"))
    for _ in range(100):
        writer.msg("x" * PIPE_BUF)
    wait_until(writer._writing.locked)
    writer.flush(0.05)
    os.close(reading)


def wait_until(true):
    """Wait for another thread."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
