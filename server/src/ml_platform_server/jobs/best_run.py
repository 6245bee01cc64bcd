"""Which of a job's runs to register."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

from ml_platform.v1 import experiments_pb2
from ml_platform.v1.experiments_pb2 import Run

Best = Callable[..., float]

PRIMARY_METRICS: Sequence[tuple[str, Best]] = (
    ("roc_auc", max),
    ("auc", max),
    ("f1", max),
    ("accuracy", max),
    ("r2", max),
    ("rmse", min),
    ("mae", min),
    ("log_loss", min),
    ("loss", min),
)
"""Metrics by which runs are compared, the most telling first, and which end of each is better."""


def best_run(runs: Sequence[Run], with_models: Collection[str]) -> Run | None:
    """The run to register, of runs given newest first.

    Of the finished runs that logged a model, or of all if none did, the one whose primary metric is best. The primary metric is
    the first of PRIMARY_METRICS that any of them logged; a run without it loses to one with it. Where no run logged any, and
    where two are equal, the newest run wins.
    """
    finished = [run for run in runs if run.status == experiments_pb2.RUN_STATUS_FINISHED and run.run_id in with_models]
    candidates = finished or list(runs)
    for metric, best in PRIMARY_METRICS:
        values = {run.run_id: run.metrics[metric] for run in candidates if _logged(run, metric)}
        if values:
            winner = best(values.values())
            return next(run for run in candidates if values.get(run.run_id) == winner)
    return candidates[0] if candidates else None


def _logged(run: Run, metric: str) -> bool:
    """A value that is NaN or infinite is the value of a run that diverged: it counts as not logged."""
    return metric in run.metrics and math.isfinite(run.metrics[metric])
