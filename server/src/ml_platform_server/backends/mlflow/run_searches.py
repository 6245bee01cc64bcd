"""The search for the runs of an experiment: the caller's filter and order, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2, experiments_pb2
from ml_platform_server.backends.mlflow import errors
from ml_platform_server.backends.mlflow.searches import NEWEST_RUNS_FIRST
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.similar_names import closest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.entities.paged_list import PagedList

# Commas part the keys, except within quotes: metrics.`a,b` DESC, params.c
_ORDER_KEY = re.compile(r"""(?:[^,`"']|`[^`]*`|"[^"]*"|'[^']*')+""")

# By what MLflow calls the kind of an order key: the kind's name in a filter, and a condition that every run with the key meets.
# A metric that is not a number meets no condition but an inequality, and no metric has just this value.
_KINDS = {
    "metric": ("metrics", "!= 4.9406564584124654e-321"),
    "parameter": ("params", "LIKE '%'"),
    "tag": ("tags", "LIKE '%'"),
}
_REMEDIES = {
    "filter": (
        "Write a filter as conditions joined with 'and' (there is no 'or'): metrics.accuracy > 0.8 and "
        "params.max_depth = '3' and tags.team = 'risk' and attributes.status = 'FINISHED'; numbers stand bare, text in "
        "single quotes, odd names in backquotes."
    ),
    "order_by": (
        "Write an order as keys joined with commas, each with ASC or DESC: metrics.accuracy DESC, attributes.start_time ASC; "
        "a key is metrics.NAME, params.NAME, tags.NAME, or attributes.start_time, end_time, status, run_id, run_name or "
        "artifact_uri."
    ),
}


def order(order_by: str) -> list[str]:
    """The keys to order runs by; the newest first if none are given."""
    keys = [key.strip() for key in _ORDER_KEY.findall(order_by)]
    return [key for key in keys if key] or NEWEST_RUNS_FIRST


def runs(client: MlflowClient, request: experiments_pb2.ListRunsRequest, length: int, position: str | None) -> PagedList[Run]:
    """A page of an experiment's runs.

    Raises:
        PlatformError: FILTER_INVALID if MLflow fails on the filter or the order, or if no run has a key of the order.
    """

    def search() -> PagedList[Run]:
        return client.search_runs(
            [request.experiment_id],
            filter_string=request.filter,
            order_by=order(request.order_by),
            max_results=length,
            page_token=position,
        )

    try:
        page = search()
    except Exception as error:
        if not (request.filter or request.order_by) or not errors.answered_with_failure(error):
            raise
        page = _search_again(client, request, search)
    if request.order_by and page and position is None:
        _check_order(client, request, page)
    return page


def _search_again(
    client: MlflowClient, request: experiments_pb2.ListRunsRequest, search: Callable[[], PagedList[Run]]
) -> PagedList[Run]:
    """Find out whether MLflow fails on this filter and this order, or on every search."""
    client.search_runs([request.experiment_id], max_results=1)
    try:
        return search()
    except Exception as error:
        if not errors.answered_with_failure(error):
            raise
        why = "makes MLflow fail: it may have too many conditions, a number out of range, or a key twice"
        raise filter_invalid(request, why) from error


def _check_order(client: MlflowClient, request: experiments_pb2.ListRunsRequest, page: Sequence[Run]) -> None:
    """Refuse a key that no run of the experiment has: MLflow would ignore it."""
    for kind, name in _named_keys(order(request.order_by)):
        if any(name in _values(run, kind) for run in page):
            continue
        where, condition = _KINDS[kind]
        quote = "`" if "`" not in name else '"'
        exists = f"{where}.{quote}{name}{quote} {condition}"
        if not name or not client.search_runs([request.experiment_id], filter_string=exists, max_results=1):
            raise _unknown_key(request, f"{where}.{name}", {f"{where}.{key}" for run in page for key in _values(run, kind)})


def _named_keys(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Kind and name of those keys that runs may have or not have."""
    from mlflow.utils.search_utils import SearchUtils  # noqa: PLC0415  # loaded only where the client already is

    for key in keys:
        kind, name, _ = SearchUtils.parse_order_by_for_search_runs(key)  # type: ignore[no-untyped-call]
        if kind in _KINDS:
            yield kind, name


def _values(run: Run, kind: str) -> Mapping[str, object]:
    data: dict[str, Mapping[str, object]] = {"metric": run.data.metrics, "parameter": run.data.params, "tag": run.data.tags}
    return data[kind]


def _unknown_key(request: experiments_pb2.ListRunsRequest, key: str, known: Collection[str]) -> PlatformError:
    near = closest(key, sorted(known))
    hint = f" Did you mean {near}?" if near else ""
    return PlatformError(
        errors_pb2.ERROR_REASON_FILTER_INVALID,
        f"No run of experiment {request.experiment_id!r} has {key}, so runs cannot be ordered by it.{hint}",
        remedy="Order by what the runs have; GetRun lists a run's metrics, parameters and tags.",
        violations=[Violation("order_by", f"names {key}, which no run has")],
    )


def filter_invalid(request: experiments_pb2.ListRunsRequest, why: str = "cannot be read") -> PlatformError:
    """The error for a filter or an order that MLflow cannot read or execute."""
    given = {"filter": request.filter, "order_by": request.order_by}
    named = {field: text for field, text in given.items() if text}
    what = " or ".join(f"{field} {text!r}" for field, text in named.items())
    return PlatformError(
        errors_pb2.ERROR_REASON_FILTER_INVALID,
        f"The {what} {why}.",
        remedy=" ".join(_REMEDIES[field] for field in named),
        violations=[Violation(field, why) for field in named],
    )
