"""Counts and times what happens, so cheaply that every call can be counted.

A recorder only adds to plain numbers; who scrapes turns them into metrics (see collectors.py). Python's own lock keeps each
addition whole, because no other thread can come between the reading and the writing of a number; a test holds that true.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from weakref import WeakValueDictionary

# Labels that come from outside are limited in number; the rest is counted as "other".
MOST_MODELS = 200
MOST_METHODS = 500
MOST_REASONS = 100
OTHER = "other"
UNKNOWN_METHOD = "/unknown/unknown"

# In seconds. They are dense where the promises are: a few milliseconds for a prediction, 100 and 200 ms under load.
CALL_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STEP_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# What a call can end with, in the order of their numbers.
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class Histogram:
    """How often values fell between the bounds, each bound belonging to the values below it, and their sum."""

    __slots__ = ("_counts", "_sum", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0

    def record(self, value: float) -> None:
        """Take one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """How many values were taken."""
        return sum(self._counts)

    @property
    def sum(self) -> float:
        """The sum of all values."""
        return self._sum

    def cumulative(self) -> list[int]:
        """For each bound how many values are not above it, and how many there are in all."""
        return list(accumulate(self._counts[:]))


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, n: int = 1) -> None:
        """Count `n` more."""
        self.value += n


class _Counters:
    """Counters by a value of an enum, of which there are only so many; they are named without the enum's own prefix."""

    __slots__ = ("_by_label", "_by_name", "_most", "_prefix")

    def __init__(self, prefix: str, most: int = MOST_REASONS) -> None:
        self._by_name: dict[str, Counter] = {}
        self._by_label: dict[str, Counter] = {}
        self._prefix = prefix
        self._most = most

    def add(self, name: str, n: int = 1) -> None:
        try:
            self._by_name[name].value += n
        except KeyError:
            self._counter(name).value += n

    def items(self) -> list[tuple[str, int]]:
        return [(label, counter.value) for label, counter in self._by_label.copy().items()]

    def _counter(self, name: str) -> Counter:
        label = name.removeprefix(self._prefix)
        if label not in self._by_label and len(self._by_label) >= self._most:
            return self._by_label.setdefault(OTHER, Counter())
        counter = self._by_name[name] = self._by_label.setdefault(label, Counter())
        return counter


class CallRecorder:
    """The calls of one method."""

    __slots__ = ("_ended", "_started", "grpc_type", "method", "seconds", "service")

    def __init__(self, full_name: str, grpc_type: str) -> None:
        self.service, _, self.method = full_name.lstrip("/").partition("/")
        self.grpc_type = grpc_type
        self.seconds = Histogram(CALL_SECONDS)
        self._started = 0
        # A method that nobody calls shows that nobody calls it; and a rate needs a zero to grow from.
        self._ended = {"OK": 0}

    def started(self) -> None:
        """A call has come in."""
        self._started += 1

    def ended(self, code: str, seconds: float) -> None:
        """A call has ended: its status code, by name, and how long it took."""
        try:
            self._ended[code] += 1
        except KeyError:
            self._first(code)
        # What Histogram.record does, without the cost of calling it.
        seen = self.seconds
        seen._counts[bisect_left(CALL_SECONDS, seconds)] += 1  # its own file
        seen._sum += seconds  # the same

    @property
    def in_all(self) -> int:
        """How many calls started. If only completions are reported, each completion also counts as a start."""
        return max(self._started, sum(self._ended.copy().values()))

    def by_code(self) -> dict[str, int]:
        """How many calls ended with each code."""
        return self._ended.copy()

    def _first(self, code: str) -> None:
        code = code if code in CODES else "UNKNOWN"
        self._ended[code] = self._ended.get(code, 0) + 1


class CallMetrics:
    """The calls of every method."""

    def __init__(self) -> None:
        self._recorders: dict[str, CallRecorder] = {}

    def for_method(self, full_name: str, grpc_type: str = "unary") -> CallRecorder:
        """The recorder of a method, named as "/package.Service/Method"; to be asked for once, when the method is registered.

        Args:
            full_name: the method, or UNKNOWN_METHOD for those that do not exist: their names are the callers' and have no bound.
            grpc_type: unary, client_stream, server_stream or bidi_stream.
        """
        if full_name not in self._recorders and len(self._recorders) >= MOST_METHODS:
            full_name = UNKNOWN_METHOD
        return self._recorders.setdefault(full_name, CallRecorder(full_name, grpc_type))

    def __iter__(self) -> Iterator[CallRecorder]:
        return iter(list(self._recorders.values()))


class ModelSeries:
    """The predictions of one model version.

    Attributes:
        batch_size: rows of one run of the model.
        queue_wait: seconds that a request waited for its batch to begin.
        feature_read: seconds of one read of the feature store.
        model_run: seconds of one run of the model.
    """

    __slots__ = ("_errors", "_statuses", "batch_size", "feature_read", "model", "model_run", "queue_wait", "version")

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.batch_size = Histogram(ROWS)
        self.queue_wait = Histogram(STEP_SECONDS)
        self.feature_read = Histogram(STEP_SECONDS)
        self.model_run = Histogram(STEP_SECONDS)
        self._statuses = _Counters("FEATURE_STATUS_")
        self._errors = _Counters("ERROR_REASON_")

    def feature_status(self, status_name: str, n: int = 1) -> None:
        """`n` feature values had this status, named as in the contract."""
        self._statuses.add(status_name, n)

    def error(self, reason_name: str) -> None:
        """A row got an error instead of a prediction."""
        self._errors.add(reason_name)

    def statuses(self) -> list[tuple[str, int]]:
        """Feature values by status."""
        return self._statuses.items()

    def errors(self) -> list[tuple[str, int]]:
        """Errors by reason."""
        return self._errors.items()


class ModelMetrics:
    """What a loaded model holds on to, to record its predictions. See ModelSeries for what each field means."""

    __slots__ = ("__weakref__", "batch_size", "error", "feature_read", "feature_status", "model_run", "queue_wait")

    def __init__(self, metrics: ModelSeries) -> None:
        self.batch_size = metrics.batch_size
        self.queue_wait = metrics.queue_wait
        self.feature_read = metrics.feature_read
        self.model_run = metrics.model_run
        self.feature_status = metrics.feature_status
        self.error = metrics.error


class PredictionMetrics:
    """The predictions of every model version, as long as there are not too many.

    Versions come and go. When the table is full, those whose handle nobody holds any more make room; if that is not enough, the
    next ones are counted together as "other".
    """

    def __init__(self, most: int = MOST_MODELS) -> None:
        self._most = most
        self._models: dict[tuple[str, int], ModelSeries] = {}
        self._handles: WeakValueDictionary[tuple[str, int], ModelMetrics] = WeakValueDictionary()
        self._other = ModelSeries(OTHER, OTHER)
        self._unrouted = ModelSeries("", "")
        self.no_version = ModelMetrics(self._unrouted)  # for requests that found no version

    def for_model(self, model_name: str, version: int) -> ModelMetrics:
        """The recorders of a version; to be asked for once, when it is loaded, and held for as long as it is served."""
        key = (model_name, version)
        handle = self._handles.get(key)
        if handle is None:
            handle = self._handles[key] = ModelMetrics(self._metrics(key))
        return handle

    def __iter__(self) -> Iterator[ModelSeries]:
        models = list(self._models.values())
        models += [metrics for metrics in (self._other, self._unrouted) if metrics.batch_size.count or metrics.errors()]
        return iter(models)

    def _metrics(self, key: tuple[str, int]) -> ModelSeries:
        if key not in self._models and len(self._models) >= self._most:
            for gone in [known for known in self._models if known not in self._handles]:
                del self._models[gone]
        if key not in self._models and len(self._models) >= self._most:
            return self._other
        return self._models.setdefault(key, ModelSeries(key[0], str(key[1])))
