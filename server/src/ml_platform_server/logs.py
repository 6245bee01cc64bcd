"""Logs: JSON lines on standard error, ours and the libraries' alike, written by a thread so that no call waits for a pipe."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import TextIO

import orjson
import structlog

from ml_platform_server.call import current_correlation_id
from ml_platform_server.settings import LogSettings

# Between two writes, in seconds. A thread woken for every line would cost a call more than its line does.
_INTERVAL = 0.1
# A reader that stands still must not fill the memory; the oldest lines go first.
_MOST_LINES = 100_000


# How long the end of a process waits for lines that are just being written.
_LAST_PATIENCE = 2.0

# What writes a line, its time, and its values.
_Unwritten = tuple[Callable[[float, Sequence[object]], str], float, Sequence[object]]


class LineWriter:
    """Collects lines and writes them together, now and then. `flush` writes what is left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str | _Unwritten] = deque(maxlen=_MOST_LINES)
        self._writing = threading.Lock()
        self._lost = 0
        self._thread = threading.Thread(target=self._write_forever, name="log", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        """Take one line. Never waits."""
        self._lines.append(line)

    def later(self, write: Callable[[float, Sequence[object]], str], values: Sequence[object]) -> None:
        """Take what makes a line, and the time. The thread makes it: many at once cost less, and no call waits for it."""
        self._lines.append((write, time.time(), values))

    log = debug = info = warn = warning = error = critical = fatal = exception = failure = msg

    def flush(self, patience: float = -1) -> None:
        """Write every line taken so far.

        Args:
            patience: how long to wait for the thread, in seconds; -1 for as long as it takes. It waits itself for a reader that
                stands still.
        """
        if not self._writing.acquire(timeout=patience):
            return
        try:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            for portion in _portions(text for line in lines if (text := _text(line))):
                self._write(portion)
        finally:
            self._writing.release()

    def _write(self, portion: str) -> None:
        """Write some lines. Lines that cannot be written are lost: the reader may be gone, and calls are still served."""
        notice = _lines_lost(self._lost) if self._lost else ""
        try:
            self._stream.write(notice + portion)
            self._stream.flush()
        except (OSError, ValueError):  # a broken pipe, a full disk, a closed stream
            self._lost += portion.count("\n")
        else:
            self._lost = 0

    def _write_forever(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(_INTERVAL)
            self.flush()


def _text(line: str | _Unwritten) -> str:
    """A line as text. One that cannot be made must not end the thread: it says so instead."""
    if isinstance(line, str):
        return line
    make, moment, values = line
    try:
        return make(moment, values)
    except Exception as error:  # noqa: BLE001  # whatever was given to be logged
        return orjson.dumps({"event": "log_line_failed", "level": "error", "error": repr(error)[:500]}).decode()


def _lines_lost(count: int) -> str:
    moment = datetime.now(UTC)
    event = {"event": "log_lines_lost", "level": "warning", "lines": count, "timestamp": moment}
    return orjson.dumps(event, option=orjson.OPT_UTC_Z).decode() + "\n"


def _portions(lines: Iterable[str]) -> Iterator[str]:
    """Lines together, but no more than a pipe takes whole: several workers may write to one, and must not cut each other's."""
    portion: list[str] = []
    size = 0
    for line in lines:
        length = (len(line) if line.isascii() else len(line.encode())) + 1
        if portion and size + length > PIPE_BUF:
            yield "".join(portion)
            portion, size = [], 0
        portion.append(line + "\n")
        size += length
    if portion:
        yield "".join(portion)


_writers: list[LineWriter] = []
_plain_json: list[bool] = []


@atexit.register
def flush() -> None:
    """Write every line taken so far, wherever it goes. The end of a process is not kept by a reader that stands still."""
    for writer in _writers:
        writer.flush(_LAST_PATIENCE)


def event_writer() -> Callable[[dict[str, object]], None]:
    """What logs a complete event, one with `event` and `level`, as it is configured now; the time is added.

    It gives the same line as structlog for a third of its time, which counts where every call writes one.
    """
    if not _writers or not _plain_json:
        log: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
        return lambda event: log.info(
            "grpc_call", **{name: value for name, value in event.items() if name not in ("event", "level")}
        )
    write, dumps, option = _writers[0].msg, orjson.dumps, orjson.OPT_UTC_Z

    def line(event: dict[str, object]) -> None:
        event["timestamp"] = datetime.now(UTC)
        write(dumps(event, str, option).decode())

    return line


def line_writer(shared: Mapping[str, object], varying: Mapping[str, str]) -> Callable[..., None]:
    """What writes lines that have most of their content in common: the same lines as `event_writer`'s, at a quarter of the cost.

    Args:
        shared: the fields that all lines have in common, `event` and `level` included.
        varying: the fields of each line, by name, with its format ("%s" for text). The values are given to the writer in this
            order; texts among them must be such that JSON needs no escapes.
    """
    if not _writers or not _plain_json:
        write = event_writer()
        return lambda *values: write({**shared, **dict(zip(varying, values, strict=True))})
    fields = "".join(f',"{name}":"{form}"' if form == "%s" else f',"{name}":{form}' for name, form in varying.items())
    line = orjson.dumps(shared, str).decode().removesuffix("}").replace("%", "%%") + fields + ',"timestamp":"%s.%06dZ"}'
    later, second, text = _writers[0].later, 0, ""

    def written(now: float, values: Sequence[object]) -> str:
        nonlocal second, text
        whole = int(now)
        if whole != second:
            second, text = whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        return line % (*values, text, int((now - whole) * 1e6))

    return lambda *values: later(written, values)


class _LibraryHandler(logging.Handler):
    """Passes what libraries log to the same writer, in the same form."""

    def __init__(self, writer: LineWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        self._writer.msg(self.format(record))


def _add_correlation_id(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if correlation_id := current_correlation_id():
        event.setdefault("correlation_id", correlation_id)
    return event


def configure(settings: LogSettings, stream: TextIO | None = None) -> LineWriter:
    """Make every log of this process go to one stream, standard error by default."""
    writer = LineWriter(stream or sys.stderr)
    _writers[:] = [writer]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    _plain_json[:] = [True] if settings.format == "json" and level <= logging.INFO else []
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if settings.format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_correlation_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, renderer],
    )
    # Libraries log much that is of no use here; problems come as warnings.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_LibraryHandler(writer, formatter)], force=True)
    return writer
