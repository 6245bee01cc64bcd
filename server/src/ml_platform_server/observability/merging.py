"""Merges the metrics pages of several workers: counters are summed, gauges are kept per worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_SUMMED = ("counter", "histogram", "summary")
_START_TIME = "process_start_time_seconds"


def merged(pages: Sequence[bytes]) -> bytes:
    """One page of the workers' pages, in their order: counters and histograms summed, gauges with a label `worker`."""
    return _written([(str(worker), list(_families(page))) for worker, page in enumerate(pages)])


class WorkerPages:
    """The pages of workers that come and go.

    A sum must not fall because a worker was replaced: whoever reads it would take that for a restart of everything and count anew
    what is left. So what a worker had counted stays when it is gone; its gauges are shown only while it responds.
    """

    def __init__(self) -> None:
        self._last: dict[int, list[Metric]] = {}
        self._gone: list[Metric] = []

    def merged(self, pages: Mapping[int, bytes]) -> bytes:
        """One page of what the workers that responded have just sent, by their numbers, and of what is known of the others."""
        for worker, page in pages.items():
            families = list(_families(page))
            last = self._last.get(worker)
            if last is not None and _start_time(last) != _start_time(families):
                self.replaced(worker)
            self._last[worker] = families
        known = [(worker, families if worker in pages else _counts(families)) for worker, families in self._last.items()]
        return _written([("", self._gone), *((str(worker), families) for worker, families in sorted(known, key=itemgetter(0)))])

    def replaced(self, worker: int) -> None:
        """Keep what a worker counted, and forget its state. Happens by itself when the next one sends its page."""
        self._gone = _Sum([("", self._gone), ("", _counts(self._last.pop(worker, ())))]).families()


class _Sum:
    def __init__(self, workers: Iterable[tuple[str, Iterable[Metric]]]) -> None:
        self._families: dict[str, Metric] = {}
        self._values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for worker, families in workers:
            for family in families:
                self._add(worker, family)

    def families(self) -> list[Metric]:
        for name, family in self._families.items():
            family.samples = [Sample(sample, dict(labels), value) for (sample, labels), value in self._values[name].items()]
        return list(self._families.values())

    def _add(self, worker: str, family: Metric) -> None:
        self._families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        values = self._values.setdefault(family.name, {})
        for sample in family.samples:
            if family.type in _SUMMED:
                key = (sample.name, tuple(sample.labels.items()))
                values[key] = values.get(key, 0.0) + sample.value
            else:
                values[sample.name, (*sample.labels.items(), ("worker", worker))] = sample.value


class _Written(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _written(workers: Iterable[tuple[str, Iterable[Metric]]]) -> bytes:
    page: bytes = generate_latest(_Written(_Sum(workers).families()))
    return page


def _families(page: bytes) -> Iterable[Metric]:
    families: Iterable[Metric] = text_string_to_metric_families(page.decode())
    return families


def _counts(families: Iterable[Metric]) -> list[Metric]:
    return [family for family in families if family.type in _SUMMED]


def _start_time(families: Iterable[Metric]) -> float | None:
    """The start time of the process that sent these, which identifies it."""
    return next((family.samples[0].value for family in families if family.name == _START_TIME and family.samples), None)
