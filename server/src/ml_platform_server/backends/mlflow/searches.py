"""MLflow's searches: their pages, and the searches that take several requests."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from ml_platform.v1 import experiments_pb2
from ml_platform_server.backends.mlflow import messages
from ml_platform_server.backends.paging import fitting, page_token_invalid, position_of, token_after

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel, Metric, Run
    from mlflow.store.entities.paged_list import PagedList

E = TypeVar("E")
M = TypeVar("M", bound=Message)

NEWEST_RUNS_FIRST = ["attributes.start_time DESC"]
BIG_PAGE = 1000
PointPage = tuple[list[experiments_pb2.MetricPoint], str]
LARGEST_OFFSET = 2**63 - 1
# What a run's tag holds that MLflow 2 clients wrote when they logged a model.
OLD_MODELS = "mlflow.log-model.history"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of a list that MLflow pages. `list_id` identifies the list with its parent, filter and order."""

    list_id: tuple[str, ...]
    length: int
    token: str


def fetch_page(
    search: Callable[[int, str | None], PagedList[E]],
    message: Callable[[E], M],
    key: Callable[[E], str],
    asked: PageRequest,
) -> tuple[list[M], str]:
    """The messages of a page and the token of the next one. It belongs into the pool: a thousand runs take a while to convert.

    MLflow pages by offset, so that an entry that comes or goes meanwhile shifts the pages. A token of ours also holds the key of
    the last entry, and the page begins after that entry wherever it is now.

    Args:
        search: fetches entries, given how many and MLflow's token.
        message: makes a message of an entry.
        key: identifies an entry within the list.
        asked: the page.

    Raises:
        PlatformError: PAGE_TOKEN_INVALID if this list did not issue the token.
    """
    start, page = _entries(search, key, asked)
    entries = page[start.skipped : start.skipped + asked.length]
    messages = [message(one) for one in entries]
    count = fitting(messages)
    if count == len(page) - start.skipped and not page.token:
        return messages, ""
    position = json.dumps([start.offset + count, key(entries[count - 1])]) if count else ""
    return messages[:count], token_after(position, *asked.list_id) if position else ""


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a page begins: at an offset in the list, after so many entries of what was fetched."""

    offset: int
    skipped: int = 0


def _entries(
    search: Callable[[int, str | None], PagedList[E]], key: Callable[[E], str], asked: PageRequest
) -> tuple[_Start, PagedList[E]]:
    position = position_of(asked.token, *asked.list_id)
    if not position:
        return _Start(0), search(asked.length, None)
    offset, last = _read(position)
    page = search(min(asked.length + 1, BIG_PAGE), _token(offset - 1))
    if page and key(page[0]) == last:
        return _Start(offset, 1), page
    for first in (offset - 1, max(0, offset - 1 - BIG_PAGE)):
        keys = [key(entry) for entry in search(BIG_PAGE, _token(first))]
        if last in keys:
            moved = first + keys.index(last) + 1
            return _Start(moved), search(asked.length, _token(moved))
    # The entry is gone, and what came after it has moved up by one.
    return _Start(offset - 1), page


def _read(position: str) -> tuple[int, str]:
    try:
        offset, last = json.loads(position)
    except (ValueError, TypeError):
        raise page_token_invalid() from None
    if not isinstance(offset, int) or not 1 <= offset <= LARGEST_OFFSET or not isinstance(last, str):
        raise page_token_invalid()
    return offset, last


def _token(offset: int) -> str | None:
    """MLflow's token for an offset. It refuses one for the beginning."""
    return None if offset == 0 else base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def fetch_metric_page(client: MlflowClient, request: experiments_pb2.GetMetricHistoryRequest, asked: PageRequest) -> PointPage:
    """The points of a page of a metric's history, and the token of the next one. Points are only ever added at the end.

    A page that is too large for one reply is fetched again with as many points as fit: only MLflow knows the token after those.

    Raises:
        PlatformError: PAGE_TOKEN_INVALID if this list did not issue the token.
    """
    length, position = asked.length, page_after(position_of(asked.token, *asked.list_id))
    while True:
        page = _metric_page(client, request, length, position)
        points = [messages.point_message(one) for one in page]
        length = fitting(points)
        if length == len(points):
            return points, token_after(page.token, *asked.list_id) if page.token else ""


def page_after(token: str) -> str | None:
    """The token as MLflow takes it; None for the first page. MLflow falls over some that it never gave, and refuses the others.

    Raises:
        PlatformError: PAGE_TOKEN_INVALID if MLflow would fall over it.
    """
    if not token:
        return None
    try:
        decoded = json.loads(base64.b64decode(token.encode("ascii")))
    except UnicodeEncodeError:
        raise page_token_invalid() from None
    except ValueError:
        return token
    offset = decoded.get("offset", 0) if isinstance(decoded, dict) else None
    if not isinstance(offset, int) or not 0 <= offset <= LARGEST_OFFSET:
        raise page_token_invalid()
    return token


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


def runs_of_job(client: MlflowClient, job_id: str, experiment_ids: Sequence[str]) -> list[Run]:
    """The runs in these experiments that carry a job's tag, newest first."""
    if "'" in job_id or not experiment_ids:  # No job's id has a quote, and MLflow's filters cannot quote it.
        return []
    return list(
        client.search_runs(
            list(experiment_ids),
            filter_string=f"tags.`{messages.JOB_ID}` = '{job_id}'",
            order_by=NEWEST_RUNS_FIRST,
            max_results=BIG_PAGE,
        )
    )


def _metric_page(
    client: MlflowClient, request: experiments_pb2.GetMetricHistoryRequest, length: int, position: str | None
) -> PagedList[Metric]:
    """A page of a metric's history. The client's own method fetches all of it at once, however long; its store knows pages."""
    page: PagedList[Metric] = client._tracking_client.store.get_metric_history(
        request.run_id, request.metric_key, max_results=length, page_token=position
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


def runs_with_models(client: MlflowClient, asked: Sequence[experiments_pb2.Run]) -> set[str]:
    """The ids of those of the runs that logged a model, with MLflow 3 or before."""
    old = {run.run_id for run in asked if OLD_MODELS in run.tags}
    models = logged_models(client, [run.run_id for run in asked], [run.experiment_id for run in asked])
    return old | {str(model.source_run_id) for model in models}
