"""The sample monitoring asks for nothing that the server does not tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ml_platform.v1 import errors_pb2, features_pb2
from ml_platform_server.observability.collectors import registry_of
from ml_platform_server.observability.exposition import merged, pages_of
from ml_platform_server.observability.recorders import CODES, CallMetrics, PredictionMetrics
from ml_platform_server.services.health import BackendStatus

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
# Prometheus adds these itself.
THEIRS = {"up": {"job", "instance"}}
ADDED = {"job", "instance", "le"}
WORDS = {"sum", "by", "rate", "and", "min", "max", "count", "histogram_quantile", "label_values"}


async def told() -> dict[str, set[str]]:
    """Every sample that a server with workers tells, with its labels."""
    calls, predictions = CallMetrics(), PredictionMetrics()
    calls.for_method("/a.v1.Service/Method").ended("OK", 0.1)
    model = predictions.for_model("m", 1)
    for histogram in (model.batch_size, model.queue_wait, model.feature_read, model.model_run):
        histogram.record(1)
    model.feature_status("PRESENT")
    model.error("MODEL_FAILED")
    backends = [BackendStatus("mlflow", healthy=True, latency=0.1)]
    page = await pages_of(registry_of(calls=calls, predictions=predictions, backends=lambda: backends))("")
    families = text_string_to_metric_families(merged([page.body]).decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def alerts() -> list[dict]:
    return [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[str]:
    """Every query of the rules and of the dashboard."""
    for rule in alerts():
        yield rule["expr"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), (\w+)\)", r"sum by (\2) (\1)", variable["query"]["query"])


def asked(query: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a query names."""
    labels = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        labels |= {label.strip() for label in group.split(",")}
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", query)
    return {name for name in re.findall(r"[a-z_]\w*", bare) if name not in WORDS}, labels


@pytest.mark.parametrize("query", list(queries()))
async def test_every_query_asks_for_what_is_told(query):
    """Each metric and each label in a rule or in the dashboard is one that a scrape tells, for each of the query's metrics."""
    known = await told() | THEIRS
    metrics, labels = asked(query)
    assert metrics
    for metric in metrics:
        assert metric in known
        assert labels <= known[metric] | ADDED


async def test_every_value_that_a_rule_asks_for_exists():
    """Codes, statuses and reasons in the rules are the contract's."""
    values = {
        "grpc_code": set(CODES),
        "status": {name.removeprefix("FEATURE_STATUS_") for name in features_pb2.FeatureStatus.DESCRIPTOR.values_by_name},
        "reason": {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name},
    }
    for query in queries():
        for label, pattern in re.findall(r'(grpc_code|status|reason)(?:=~|!~|!=|=)"([^"]*)"', query):
            for value in pattern.split("|"):
                assert any(re.fullmatch(value, known) for known in values[label]), f"{label}={value}"


def test_every_rule_tells_what_to_do():
    """An alert that wakes somebody says what is wrong and where to look."""
    for rule in alerts():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_sample_configuration_finds_the_rules_and_the_job_they_name():
    """Prometheus, started in this folder, finds the rules, and its job has the name that they ask for."""
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert all((MONITORING / name).is_file() for name in configuration["rule_files"])
    assert [job["job_name"] for job in configuration["scrape_configs"]] == ["ml-platform"]


async def test_every_metric_is_in_the_guide():
    """The guide names every metric that a scrape tells, with its labels, and no other."""
    guide = (ROOT / "docs" / "observability.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|([^|]*)\|", guide, re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    known = {re.sub(r"_(bucket|count|sum)$", "", name): labels - {"le", "worker"} for name, labels in (await told()).items()}
    assert {name: labels for name, labels in known.items() if not name.startswith("process_")} == {
        name: labels for name, labels in documented.items() if not name.startswith("process_")
    }
    assert {name for name in known if name.startswith("process_")} <= set(documented)
