"""Experiments, the runs in them, and what the runs measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2, experiments_pb2
from ml_platform_server.backends.mlflow import messages, run_searches, searches, tag_keys
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.job_runs import JobRuns
from ml_platform_server.backends.paging import page_length
from ml_platform_server.errors import PlatformError, Violation, invalid

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment as MlflowExperiment

DEFAULT_POINTS = 1000
MOST_POINTS = 10_000
LARGEST_ID = 2**63 - 1
NEWEST_FIRST = ["creation_time DESC", "experiment_id DESC"]

# The entries of a page and the token of the next one.
ExperimentPage = tuple[list[experiments_pb2.Experiment], str]
RunPage = tuple[list[experiments_pb2.Run], str]
PointPage = tuple[list[experiments_pb2.MetricPoint], str]
Runs = list[experiments_pb2.Run]


class Experiments:
    """What ExperimentService and the jobs ask of MLflow.

    Args:
        backend: the connection to MLflow.
    """

    def __init__(self, *, backend: MlflowBackend) -> None:
        self._backend = backend
        self._links = backend.links
        self._job_runs = JobRuns(links=self._links)

    async def create(self, request: experiments_pb2.CreateExperimentRequest) -> experiments_pb2.Experiment:
        """Make a new experiment; a repeat with the same request_id finds the one made before.

        Raises:
            PlatformError: EXPERIMENT_EXISTS, EXPERIMENT_DELETED, INVALID_FIELDS.
        """
        tags = _tags_to_keep(request)
        try:
            experiment_id = await self._backend.call(
                lambda client: client.create_experiment(request.name, tags=tags),
                exists=_exists(request.name),
                invalid=invalid("tags", messages.TAG_RULES.format(longest=5000)),
            )
        except PlatformError as error:
            if error.reason != errors_pb2.ERROR_REASON_EXPERIMENT_EXISTS:
                raise
            return await self._made_before(request, error)
        return await self.get(experiment_id=experiment_id)

    async def _made_before(
        self, request: experiments_pb2.CreateExperimentRequest, exists: PlatformError
    ) -> experiments_pb2.Experiment:
        found = await self._backend.call(lambda client: client.get_experiment_by_name(request.name))
        if found is None:
            raise exists
        if found.lifecycle_stage != "active":
            raise _deleted(request.name)
        if not request.request_id or found.tags.get(messages.REQUEST_ID) != request.request_id:
            raise exists
        return messages.experiment_message(found, self._links)

    async def get(self, *, experiment_id: str = "", name: str = "") -> experiments_pb2.Experiment:
        """One active experiment, by its id or by its name.

        Raises:
            PlatformError: EXPERIMENT_NOT_FOUND, EXPERIMENT_DELETED, INVALID_FIELDS unless exactly one of the two is given.
        """
        if bool(experiment_id) == bool(name):
            raise invalid("experiment_id", "give either experiment_id or name")
        missing = _not_found(experiment_id, name)
        if experiment_id.isdecimal() and int(experiment_id) > LARGEST_ID:
            raise missing  # MLflow's database fails on such a number, and MLflow answers as if it were down.
        found = await self._backend.call(
            lambda client: _experiment(client, experiment_id, name), missing=missing, invalid=missing
        )
        if found is None:
            raise missing
        if found.lifecycle_stage != "active":
            raise _deleted(found.name)
        return messages.experiment_message(found, self._links)

    async def list(self, page_size: int = 0, page_token: str = "") -> ExperimentPage:
        """A page of the active experiments, newest first, and the token of the next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        return await self._backend.call(
            lambda client: searches.fetch_page(
                lambda length, position: client.search_experiments(
                    max_results=length, order_by=NEWEST_FIRST, page_token=position
                ),
                lambda experiment: messages.experiment_message(experiment, self._links),
                lambda experiment: str(experiment.experiment_id),
                searches.PageRequest(("experiments",), page_length(page_size), page_token),
            )
        )

    async def count(self) -> int:
        """How many active experiments there are."""
        return await self._backend.call(lambda client: len(searches.active_experiments(client)))

    async def list_runs(self, request: experiments_pb2.ListRunsRequest) -> RunPage:
        """A page of one experiment's runs and the token of the next page.

        Raises:
            PlatformError: EXPERIMENT_NOT_FOUND, EXPERIMENT_DELETED, FILTER_INVALID, PAGE_TOKEN_INVALID.
        """
        if not request.page_token:
            await self.get(experiment_id=request.experiment_id)
        list_id = ("runs", request.experiment_id, request.filter, request.order_by)
        asked = searches.PageRequest(list_id, page_length(request.page_size), request.page_token)
        return await self._backend.call(
            lambda client: searches.fetch_page(
                lambda length, position: run_searches.runs(client, request, length, position),
                lambda run: messages.run_message(run, self._links),
                lambda run: str(run.info.run_id),
                asked,
            ),
            invalid=run_searches.filter_invalid(request),
        )

    async def get_run(self, run_id: str) -> experiments_pb2.Run:
        """One run.

        Raises:
            PlatformError: RUN_NOT_FOUND, also for a deleted run.
        """
        missing = run_not_found(run_id)
        run = await self._backend.call(lambda client: client.get_run(run_id), missing=missing, invalid=missing)
        if run.info.lifecycle_stage != "active":
            raise missing
        return messages.run_message(run, self._links)

    async def metric_history(self, request: experiments_pb2.GetMetricHistoryRequest) -> PointPage:
        """A page of the values of one metric, oldest first, and the token of the next page.

        Raises:
            PlatformError: RUN_NOT_FOUND, METRIC_NOT_FOUND, PAGE_TOKEN_INVALID.
        """
        length = page_length(request.page_size, default=DEFAULT_POINTS, largest=MOST_POINTS)
        asked = searches.PageRequest(("metric", request.run_id, request.metric_key), length, request.page_token)
        missing = run_not_found(request.run_id)
        points, token = await self._backend.call(
            lambda client: searches.fetch_metric_page(client, request, asked),
            missing=missing,
        )
        if not points and not request.page_token:
            await self.get_run(request.run_id)
            raise _metric_not_found(request)
        return points, token

    async def runs_of_job(self, job_id: str, experiment_name: str = "", *, everywhere: bool = True) -> Runs:
        """The runs that a job made, newest first.

        Args:
            job_id: the job.
            experiment_name: the experiment that its runs belong to.
            everywhere: whether to search the other experiments too although that experiment has some.
        """
        return await self._backend.call(lambda client: self._job_runs.of(client, job_id, experiment_name, everywhere=everywhere))

    async def runs_with_models(self, runs: Sequence[experiments_pb2.Run]) -> set[str]:
        """The ids of those of the runs that logged a model."""
        if not runs:
            return set()
        return await self._backend.call(lambda client: searches.runs_with_models(client, runs))


def run_not_found(run_id: str) -> PlatformError:
    """The error for a run that does not exist."""
    return PlatformError(
        errors_pb2.ERROR_REASON_RUN_NOT_FOUND,
        f"There is no run {run_id!r}.",
        remedy="List the experiment's runs with ListRuns to see what there is.",
        resource=("run", run_id),
    )


def _experiment(client: MlflowClient, experiment_id: str, name: str) -> MlflowExperiment | None:
    return client.get_experiment(experiment_id) if experiment_id else client.get_experiment_by_name(name)


def _tags_to_keep(request: experiments_pb2.CreateExperimentRequest) -> dict[str, str]:
    reserved = sorted(key for key in request.tags if key.startswith(messages.OWN_TAGS))
    if reserved:
        raise invalid("tags", f"keys that begin with {' or '.join(messages.OWN_TAGS)} are reserved: {', '.join(reserved)}")
    tags = tag_keys.encoded(request.tags)
    if request.description:
        tags[messages.DESCRIPTION] = request.description
    if request.request_id:
        tags[messages.REQUEST_ID] = request.request_id
    return tags


def _not_found(experiment_id: str, name: str) -> PlatformError:
    remedy = "List the experiments with ListExperiments, or make one with CreateExperiment."
    if experiment_id and not experiment_id.isdecimal():
        remedy = f"If this is its name, GetExperiment finds the id by `name`. {remedy}"
    return PlatformError(
        errors_pb2.ERROR_REASON_EXPERIMENT_NOT_FOUND,
        f"There is no experiment {name!r}." if name else f"There is no experiment with the id {experiment_id!r}.",
        remedy=remedy,
        resource=("experiment", experiment_id or name),
    )


def _exists(name: str) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_EXPERIMENT_EXISTS,
        f"An experiment named {name!r} exists.",
        remedy="Choose another name, or use the one there is: GetExperiment finds it by its name.",
        resource=("experiment", name),
    )


def _deleted(name: str) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_EXPERIMENT_DELETED,
        f"The experiment {name!r} was deleted; its name stays taken.",
        remedy="Use another experiment, or have the deleted one restored or purged in MLflow.",
        resource=("experiment", name),
    )


def _metric_not_found(request: experiments_pb2.GetMetricHistoryRequest) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_METRIC_NOT_FOUND,
        f"The run {request.run_id!r} logged no metric {request.metric_key!r}.",
        remedy="GetRun lists the metrics that the run logged.",
        resource=("metric", request.metric_key),
        violations=[Violation("metric_key", "is no metric of this run")],
    )
