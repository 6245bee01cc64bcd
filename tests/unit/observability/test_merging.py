"""The page of several workers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ml_platform_server.observability.exposition import WorkerPages, merged


def page(count: float, *, started: float = 1.0) -> bytes:
    """The page of a worker that counted this much."""
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["code"], registry=registry).labels("OK").inc(count)
    histogram = Histogram("seconds", "Seconds.", registry=registry, buckets=(1, 2))
    for _ in range(int(count)):
        histogram.observe(1.5)
    Gauge("process_start_time_seconds", "Start.", registry=registry).set(started)
    Gauge("up", "Up.", ["backend"], registry=registry).labels('a "quoted\\" name\n').set(1)
    return b"\n".join(line for line in generate_latest(registry).split(b"\n") if b"_created" not in line)


def lines(text: bytes) -> list[str]:
    """The samples of a page."""
    return [line for line in text.decode().splitlines() if not line.startswith("#")]


def test_counts_are_summed_and_states_told_of_each():
    """Counters and histograms become sums; gauges get a label that names the worker."""
    assert lines(merged([page(2), page(3, started=5.0)])) == [
        'calls_total{code="OK"} 5.0',
        'seconds_bucket{le="1.0"} 0.0',
        'seconds_bucket{le="2.0"} 5.0',
        'seconds_bucket{le="+Inf"} 5.0',
        "seconds_count 5.0",
        "seconds_sum 7.5",
        'process_start_time_seconds{worker="0"} 1.0',
        'process_start_time_seconds{worker="1"} 5.0',
        'up{backend="a \\"quoted\\\\\\" name\\n",worker="0"} 1.0',
        'up{backend="a \\"quoted\\\\\\" name\\n",worker="1"} 1.0',
    ]


def test_help_and_types_stay():
    """Who reads the merged page learns what each metric means and is."""
    text = merged([page(1), page(1)]).decode()
    assert "# HELP calls_total Calls.\n# TYPE calls_total counter\n" in text
    assert "# TYPE seconds histogram\n" in text


def test_series_that_one_worker_has_are_kept():
    """What only one of the workers has seen is on the page."""
    assert lines(merged([b"# TYPE a_total counter\na_total 1\n", b"# TYPE b_total counter\nb_total 2\n"])) == [
        "a_total 1.0",
        "b_total 2.0",
    ]


def test_no_page_gives_an_empty_page():
    """Without workers there is nothing to tell, and that is no error."""
    assert merged([]) == b""


def test_sums_do_not_fall_when_a_worker_is_replaced():
    """What a worker had counted stays in the sums when another takes its place; its state goes."""
    pages = WorkerPages()
    pages.merged({0: page(2), 1: page(3)})
    told = lines(pages.merged({0: page(4), 1: page(1, started=9.0)}))
    assert told[0] == 'calls_total{code="OK"} 8.0'
    assert [line for line in told if "start_time" in line] == [
        'process_start_time_seconds{worker="0"} 1.0',
        'process_start_time_seconds{worker="1"} 9.0',
    ]


def test_a_worker_that_does_not_answer_leaves_its_counts_only():
    """Sums do not fall while a worker is too busy to tell its page; how it is now, nobody knows."""
    pages = WorkerPages()
    pages.merged({0: page(2), 1: page(3)})
    told = lines(pages.merged({0: page(4)}))
    assert told[0] == 'calls_total{code="OK"} 7.0'
    assert not [line for line in told if 'worker="1"' in line]
    assert lines(pages.merged({0: page(4), 1: page(4)}))[0] == 'calls_total{code="OK"} 8.0'


def test_a_worker_that_is_said_to_be_gone_leaves_its_counts_only():
    """A worker that ended counts in the sums, again and again without growing, and its gauges are told no more."""
    pages = WorkerPages()
    pages.merged({0: page(2), 1: page(3)})
    pages.replaced(1)
    for _ in range(2):
        told = lines(pages.merged({0: page(2)}))
        assert told[0] == 'calls_total{code="OK"} 5.0'
        assert not [line for line in told if 'worker="1"' in line]
