"""The recorders: they count what prometheus_client would count, for a fraction of its cost, and never more series than agreed."""

from __future__ import annotations

import random
import sys
import threading
import timeit

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram

from ml_platform_server.observability.collectors import CallCollector, PredictionCollector
from ml_platform_server.observability.recorders import (
    CALL_SECONDS,
    ROWS,
    STEP_SECONDS,
    UNKNOWN_METHOD,
    CallMetrics,
    Histogram,
    PredictionMetrics,
)

METHOD = "/a.v1.Service/Method"


def page_of(*collectors) -> list[str]:
    """The lines of the page that these collectors make, without comments."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("bounds", [CALL_SECONDS, STEP_SECONDS])
def test_a_histogram_counts_as_prometheus_clients_own(bounds):
    """The same values, bounds themselves among them, give the same page as prometheus_client's histogram."""
    values = [*bounds, 0.0, 100.0, *(random.Random(1).expovariate(100) for _ in range(5000))]
    theirs = TheirHistogram(
        "grpc_server_handling_seconds", "-", ["grpc_type", "grpc_service", "grpc_method"], registry=None, buckets=CALL_SECONDS
    )
    recorder = CallMetrics()
    for value in values:
        theirs.labels("unary", "a.v1.Service", "Method").observe(value)
        recorder.for_method(METHOD).ended("OK", value)
    expected = [line for line in page_of(theirs) if "_created" not in line]
    assert expected == [line for line in page_of(CallCollector(recorder)) if line.startswith("grpc_server_handling")]


def test_batch_sizes_fall_into_the_bucket_that_bears_their_number():
    """A batch of two rows counts as at most two, not as at most four."""
    histogram = Histogram(ROWS)
    for size in (1, 2, 2, 3, 5000):
        histogram.record(size)
    assert (histogram.cumulative()[:3], histogram.cumulative()[-1], histogram.sum) == ([1, 3, 4], 5, 5008)


def test_nothing_is_lost_when_several_threads_count():
    """Additions of several threads, switched as often as can be, are all there in the end."""
    calls, model = CallMetrics().for_method(METHOD), PredictionMetrics().for_model("m", 1)

    def work() -> None:
        for _ in range(20_000):
            calls.started()
            calls.ended("OK", 0.5)
            model.model_run.record(0.5)
            model.feature_status("PRESENT")

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert (calls.in_all, calls.by_code(), calls.seconds.count, calls.seconds.sum) == (80_000, {"OK": 80_000}, 80_000, 40_000.0)
    assert (model.model_run.count, model.model_run.sum) == (80_000, 40_000.0)


def test_calls_are_counted_by_method_and_code():
    """Each method tells its calls by code, those that still run among the started ones, and a code that is none as UNKNOWN."""
    metrics = CallMetrics()
    recorder = metrics.for_method(METHOD, "server_stream")
    for code in ("OK", "NOT_FOUND", "NOT_FOUND", "made up", ""):
        recorder.started()
        recorder.ended(code, 0.001)
    recorder.started()
    labels = 'grpc_method="Method",grpc_service="a.v1.Service",grpc_type="server_stream"'
    lines = [line for line in page_of(CallCollector(metrics)) if "seconds" not in line]
    handled = sorted(line for line in lines if "handled" in line)
    assert [line.rpartition(" ")[2] for line in handled] == ["2.0", "1.0", "2.0"]
    assert ['grpc_code="NOT_FOUND"', 'grpc_code="OK"', 'grpc_code="UNKNOWN"'] == [line[26:].split(",")[0] for line in handled]
    assert f"grpc_server_started_total{{{labels}}} 6.0" in lines


def test_a_method_that_nobody_called_is_told_with_zero():
    """The first call of a method is an increase that a rate can see."""
    metrics = CallMetrics()
    metrics.for_method(METHOD)
    assert ["0.0", "0.0"] == [line.rpartition(" ")[2] for line in page_of(CallCollector(metrics))]


def test_a_method_has_one_recorder():
    """Whoever asks twice for a method gets the same recorder."""
    metrics = CallMetrics()
    assert metrics.for_method(METHOD) is metrics.for_method(METHOD)


def test_methods_are_bounded():
    """Names of methods beyond the bound are told together."""
    metrics = CallMetrics()
    for number in range(600):
        metrics.for_method(f"/a.v1.Service/Method{number}").ended("OK", 0.1)
    assert len(list(metrics)) == 501
    assert metrics.for_method(UNKNOWN_METHOD).in_all == 100


def test_versions_that_are_served_are_bounded():
    """Versions beyond the bound are told together as "other", and keep nobody else from being told."""
    metrics = PredictionMetrics(most=3)
    held = [metrics.for_model("m", version) for version in range(1, 6)]
    for handle in held:
        handle.batch_size.record(1)
    assert [("m", "1", 1), ("m", "2", 1), ("m", "3", 1), ("other", "other", 2)] == told(metrics)


def test_versions_that_are_gone_make_room():
    """When the table is full, the versions that nobody holds any more are forgotten, and only then."""
    metrics = PredictionMetrics(most=2)
    first, second = metrics.for_model("m", 1), metrics.for_model("m", 2)
    first.batch_size.record(1)
    second.batch_size.record(1)
    del first
    assert [("m", "1", 1), ("m", "2", 1)] == told(metrics)
    third = metrics.for_model("m", 3)
    assert [("m", "2", 1), ("m", "3", 0)] == told(metrics)
    assert third is metrics.for_model("m", 3)


def test_a_version_that_comes_back_goes_on_counting():
    """A version that is unloaded and loaded again keeps its counts."""
    metrics = PredictionMetrics()
    metrics.for_model("m", 1).batch_size.record(1)
    metrics.for_model("m", 1).batch_size.record(1)
    assert told(metrics) == [("m", "1", 2)]


def test_reasons_and_statuses_are_bounded():
    """Names beyond the bound are told together as "other"."""
    metrics = PredictionMetrics()
    model = metrics.for_model("m", 1)
    for number in range(300):
        model.error(f"REASON_{number}")
        model.feature_status(f"STATUS_{number}", 2)
    lines = page_of(PredictionCollector(metrics))
    assert len(lines) == 2 * 101
    assert 'ml_platform_prediction_errors_total{model="m",reason="other",version="1"} 200.0' in lines
    assert 'ml_platform_prediction_feature_values_total{model="m",status="other",version="1"} 400.0' in lines


def test_names_are_told_without_the_enums_own():
    """A status or a reason may be given in either form of its name, and is told in the short one."""
    metrics = PredictionMetrics()
    for name in ("PRESENT", "FEATURE_STATUS_PRESENT"):
        metrics.for_model("m", 1).feature_status(name)
    assert page_of(PredictionCollector(metrics)) == [
        'ml_platform_prediction_feature_values_total{model="m",status="PRESENT",version="1"} 2.0'
    ]


def test_requests_without_a_version_are_told_without_a_model():
    """An error before a version was found shows no name that a caller made up."""
    metrics = PredictionMetrics()
    metrics.no_version.error("MODEL_NOT_FOUND")
    assert page_of(PredictionCollector(metrics)) == [
        'ml_platform_prediction_errors_total{model="",reason="MODEL_NOT_FOUND",version=""} 1.0'
    ]


def test_counting_costs_little():
    """What one prediction records, alone in its batch, costs a small part of what prometheus_client would take for it."""
    recorder, model = CallMetrics().for_method(METHOD), PredictionMetrics().for_model("m", 1)

    def ours() -> None:
        recorder.started()
        recorder.ended("OK", 0.01)
        model.queue_wait.record(0.001)
        model.batch_size.record(1)
        model.feature_read.record(0.001)
        model.model_run.record(0.001)
        model.feature_status("PRESENT", 4)

    histogram = TheirHistogram("a", "-", registry=None)

    def theirs() -> None:
        for _ in range(7):
            histogram.observe(0.01)

    assert best(ours) < best(theirs) / 2


def best(function) -> float:
    """Seconds of the fastest of some rounds: what it takes when nobody interferes."""
    return min(timeit.repeat(function, number=2000, repeat=15))


def told(metrics: PredictionMetrics) -> list[tuple[str, str, int]]:
    """Model, version and number of batches of everything that is told."""
    return [(series.model, series.version, series.batch_size.count) for series in metrics]
