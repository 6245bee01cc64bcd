"""MLflow's searches: filters, orders and pages, and the searches that take several requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2, experiments_pb2
from ml_platform_server.backends.mlflow import messages
from ml_platform_server.errors import PlatformError, Violation

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel, Metric, Run
    from mlflow.store.entities.paged_list import PagedList

NEWEST_RUNS_FIRST = ["attributes.start_time DESC"]
BIG_PAGE = 1000
# What a run's tag holds that MLflow 2 clients wrote when they logged a model.
OLD_MODELS = "mlflow.log-model.history"
# Commas part the keys, except within quotes: metrics.`a,b` DESC, params.c
_ORDER_KEY = re.compile(r"""(?:[^,`"']|`[^`]*`|"[^"]*"|'[^']*')+""")


def order(order_by: str) -> list[str]:
    """The keys to order runs by; the newest first if none are given."""
    keys = [key.strip() for key in _ORDER_KEY.findall(order_by)]
    return [key for key in keys if key] or NEWEST_RUNS_FIRST


def filter_invalid(request: experiments_pb2.ListRunsRequest) -> PlatformError:
    """The error for a filter or an order that MLflow cannot read."""
    given = {"filter": request.filter, "order_by": request.order_by}
    named = {field: text for field, text in given.items() if text}
    what = " or ".join(f"{field} {text!r}" for field, text in named.items())
    return PlatformError(
        errors_pb2.ERROR_REASON_FILTER_INVALID,
        f"The {what} cannot be read.",
        remedy=(
            "Write a filter as conditions joined with 'and' (there is no 'or'): metrics.accuracy > 0.8 and "
            "params.max_depth = '3' and tags.team = 'risk' and attributes.status = 'FINISHED'; numbers stand bare, text in "
            "single quotes, odd names in backquotes. Write an order as metrics.accuracy DESC, attributes.start_time ASC."
        ),
        violations=[Violation(field, "cannot be read") for field in named],
    )


def active_experiments(client: MlflowClient) -> list[Experiment]:
    """Every active experiment."""
    found: list[Experiment] = []
    token = None
    while True:
        page = client.search_experiments(max_results=BIG_PAGE, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def runs_of_job(client: MlflowClient, job_id: str) -> list[Run]:
    """The runs that carry a job's tag, newest first."""
    if "'" in job_id:  # No job's id has one, and MLflow's filters cannot quote it.
        return []
    experiments = [experiment.experiment_id for experiment in active_experiments(client)]
    return list(
        client.search_runs(
            experiments,
            filter_string=f"tags.`{messages.JOB_ID}` = '{job_id}'",
            order_by=NEWEST_RUNS_FIRST,
            max_results=BIG_PAGE,
        )
    )


def metric_page(client: MlflowClient, run_id: str, key: str, length: int, token: str) -> PagedList[Metric]:
    """A page of a metric's history. The client's own method fetches all of it at once, however long; its store knows pages."""
    page: PagedList[Metric] = client._tracking_client.store.get_metric_history(
        run_id, key, max_results=length, page_token=token or None
    )
    return page


def logged_models(client: MlflowClient, run_ids: Sequence[str], experiment_ids: Iterable[str]) -> list[LoggedModel]:
    """The models that runs logged and that were stored completely."""
    named = ", ".join(f"'{run_id}'" for run_id in run_ids)
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models(
            sorted(set(experiment_ids)), filter_string=f"source_run_id IN ({named})", page_token=token
        )
        found.extend(model for model in page if str(model.status) == "READY")
        token = page.token
        if not token:
            return found


def runs_with_models(client: MlflowClient, runs: Sequence[experiments_pb2.Run]) -> set[str]:
    """The ids of those of the runs that logged a model, with MLflow 3 or before."""
    old = {run.run_id for run in runs if OLD_MODELS in run.tags}
    models = logged_models(client, [run.run_id for run in runs], [run.experiment_id for run in runs])
    return old | {str(model.source_run_id) for model in models}
