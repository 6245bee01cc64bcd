"""Turns what the recorders counted into metrics, when somebody scrapes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ml_platform_server.observability.recorders import CallMetrics, Histogram, ModelSeries, PredictionMetrics

_CALL = ("grpc_type", "grpc_service", "grpc_method")
_MODEL = ("model", "version")


class BackendState(Protocol):
    """How a backend was when it was last asked; None where it never was."""

    @property
    def name(self) -> str:
        """Which backend."""

    @property
    def healthy(self) -> bool | None:
        """Whether it answered as it should."""

    @property
    def latency(self) -> float | None:
        """Seconds that its answer took."""


def registry_of(
    *, calls: CallMetrics, predictions: PredictionMetrics, backends: Callable[[], Iterable[BackendState]] = tuple
) -> CollectorRegistry:
    """The metrics of this process, for prometheus_client to write."""
    registry = CollectorRegistry()
    registry.register(CallCollector(calls))
    registry.register(PredictionCollector(predictions))
    registry.register(BackendCollector(backends))
    registry.register(BuildCollector())
    ProcessCollector(registry=registry)
    return registry


class CallCollector(Collector):
    """The calls, under the names that gRPC servers use in every language."""

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        started = CounterMetricFamily("grpc_server_started", "Calls that came in.", labels=_CALL)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls that ended, by their status code.", labels=(*_CALL, "grpc_code")
        )
        seconds = HistogramMetricFamily("grpc_server_handling_seconds", "Seconds from a call's arrival to its end.", labels=_CALL)
        for recorder in self._metrics:
            labels = (recorder.grpc_type, recorder.service, recorder.method)
            for code, count in recorder.by_code().items():
                handled.add_metric((*labels, code), count)
            started.add_metric(labels, recorder.in_all)
            _add(seconds, labels, recorder.seconds)
        yield from (started, handled, seconds)


class PredictionCollector(Collector):
    """What predictions are made of, by model and version."""

    def __init__(self, metrics: PredictionMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        models = list(self._metrics)
        histograms_by_name = ((name, text, [(metrics, pick(metrics)) for metrics in models]) for name, text, pick in _HISTOGRAMS)
        for name, text, histograms in histograms_by_name:
            yield _histograms(f"ml_platform_prediction_{name}", text, histograms)
        statuses = CounterMetricFamily(
            "ml_platform_prediction_feature_values",
            "Feature values that rows asked the store for, by status.",
            labels=(*_MODEL, "status"),
        )
        errors = CounterMetricFamily(
            "ml_platform_prediction_errors",
            "Rows that got an error instead of a prediction, by reason.",
            labels=(*_MODEL, "reason"),
        )
        for metrics in models:
            for status, count in metrics.statuses():
                statuses.add_metric((metrics.model, metrics.version, status), count)
            for reason, count in metrics.errors():
                errors.add_metric((metrics.model, metrics.version, reason), count)
        yield from (statuses, errors)


_HISTOGRAMS: tuple[tuple[str, str, Callable[[ModelSeries], Histogram]], ...] = (
    ("batch_size", "Rows that one run of the model answered together.", lambda model: model.batch_size),
    ("queue_wait_seconds", "Seconds that a request waited for its batch to begin.", lambda model: model.queue_wait),
    ("feature_read_seconds", "Seconds that one read of the feature store took.", lambda model: model.feature_read),
    ("model_run_seconds", "Seconds that one run of the model took.", lambda model: model.model_run),
)


class BackendCollector(Collector):
    """How the backends were when they were last asked."""

    def __init__(self, states: Callable[[], Iterable[BackendState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        up = GaugeMetricFamily(
            "ml_platform_backend_up", "1 if the backend answered its last health probe, 0 if not.", labels=["backend"]
        )
        seconds = GaugeMetricFamily(
            "ml_platform_backend_probe_seconds", "Seconds that the last health probe took.", labels=["backend"]
        )
        for state in self._states():
            if state.healthy is not None:
                up.add_metric([state.name], int(state.healthy))
            if state.latency is not None:
                seconds.add_metric([state.name], state.latency)
        yield from (up, seconds)


class BuildCollector(Collector):
    """Which server this is."""

    def __init__(self) -> None:
        self._labels = (version("ml-platform-server"), platform.python_version())

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        info = GaugeMetricFamily(
            "ml_platform_build_info", "Always 1; the labels tell what runs.", labels=["version", "python_version"]
        )
        info.add_metric(self._labels, 1)
        yield info


def _histograms(name: str, text: str, histograms: Iterable[tuple[ModelSeries, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_MODEL)
    for metrics, histogram in histograms:
        _add(family, (metrics.model, metrics.version), histogram)
    return family


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    """Add what was counted; nothing for what never happened, which would only make every scrape longer."""
    counts = histogram.cumulative()
    if not counts[-1]:
        return
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, counts, strict=True)), histogram.sum)
