"""Which run of a job to register."""

from __future__ import annotations

import pytest

from ml_platform.v1 import experiments_pb2
from ml_platform.v1.experiments_pb2 import Run
from ml_platform_server.jobs.best_run import best_run

FINISHED = experiments_pb2.RUN_STATUS_FINISHED


def run(run_id: str, status: experiments_pb2.RunStatus.ValueType = FINISHED, **metrics: float) -> Run:
    return Run(run_id=run_id, status=status, metrics=metrics)


@pytest.mark.parametrize(
    ("runs", "with_models", "expected"),
    [
        pytest.param([], set(), None, id="no run is no best run"),
        pytest.param([run("a")], set(), "a", id="the only run is the best"),
        pytest.param([run("new"), run("old")], {"new", "old"}, "new", id="without metrics the newest wins"),
        pytest.param([run("a", roc_auc=0.7), run("b", roc_auc=0.9)], {"a", "b"}, "b", id="more area is better"),
        pytest.param([run("a", rmse=3.0), run("b", rmse=5.0)], {"a", "b"}, "a", id="less error is better"),
        pytest.param(
            [run("a", accuracy=0.99, roc_auc=0.6), run("b", accuracy=0.9, roc_auc=0.8)],
            {"a", "b"},
            "b",
            id="area before accuracy",
        ),
        pytest.param([run("a", roc_auc=0.9), run("b", roc_auc=0.8)], {"b"}, "b", id="a run with a model before one without"),
        pytest.param([run("a", roc_auc=0.9), run("b", roc_auc=0.8)], set(), "a", id="if none has a model, all count"),
        pytest.param(
            [run("a", experiments_pb2.RUN_STATUS_RUNNING, roc_auc=0.9), run("b", roc_auc=0.8)],
            {"a", "b"},
            "b",
            id="finished only",
        ),
        pytest.param([run("a", r2=float("nan")), run("b", r2=-3.0)], {"a", "b"}, "b", id="not a number never wins"),
        pytest.param([run("a", auc=float("inf")), run("b", auc=0.9)], {"a", "b"}, "b", id="an infinity never wins"),
        pytest.param([run("a", loss=float("-inf")), run("b", loss=9.0)], {"a", "b"}, "b", id="nor one that looks small"),
        pytest.param([run("a", f1=0.5), run("b", f1=0.5)], {"a", "b"}, "a", id="of equals the newest"),
    ],
)
def test_the_best_run_is_the_one_to_register(runs: list[Run], with_models: set[str], expected: str | None) -> None:
    """The rule of the contract, case by case."""
    best = best_run(runs, with_models)
    assert (best.run_id if best else None) == expected
