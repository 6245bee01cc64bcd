"""Logs as JSON lines."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from select import PIPE_BUF

import pytest
import structlog

from ml_platform_server import logs
from ml_platform_server.call import set_request_id
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


def test_the_request_id_is_in_every_line_of_a_call(stream):
    """Our lines and the libraries' carry the id of the call that the current task works for, set as the server sets it."""
    writer = logs.configure(LogSettings(), stream)

    def call() -> None:
        set_request_id("r-1")
        structlog.get_logger().info("ours")
        logging.getLogger("theirs").warning("theirs")

    contextvars.copy_context().run(call)
    writer.flush()
    assert [line["request_id"] for line in lines(stream)] == ["r-1", "r-1"]


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
    logs.line_writer({"event": "call", "level": "info", "who": '100% "ann"'}, {"id": "%s", "ms": "%.3f"})("r-1", 1.23456)
    after = datetime.now(UTC)
    logs.event_writer()({"event": "call", "level": "info", "who": '100% "ann"', "id": "r-1", "ms": 1.235})
    time.sleep(0.01)
    writer.flush()
    quick, usual = lines(stream)
    told = datetime.fromisoformat(quick.pop("timestamp"))
    assert usual.pop("timestamp")
    assert quick == usual
    assert before - timedelta(microseconds=1) <= told <= after
