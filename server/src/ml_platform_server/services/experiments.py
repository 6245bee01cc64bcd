"""ExperimentService: experiments, runs, and what the runs measured."""

from __future__ import annotations

from ml_platform.v1.experiments_pb2 import (
    CreateExperimentRequest,
    CreateExperimentResponse,
    GetExperimentRequest,
    GetExperimentResponse,
    GetMetricHistoryRequest,
    GetMetricHistoryResponse,
    GetRunRequest,
    GetRunResponse,
    ListExperimentsRequest,
    ListExperimentsResponse,
    ListRunsRequest,
    ListRunsResponse,
)
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.call import Call


class ExperimentService:
    """Keeps experiments, the runs in them, and what the runs measured."""

    def __init__(self, *, experiments: Experiments) -> None:
        self._experiments = experiments

    async def CreateExperiment(self, request: CreateExperimentRequest, call: Call) -> CreateExperimentResponse:  # noqa: ARG002
        """Make a new experiment."""
        return CreateExperimentResponse(experiment=await self._experiments.create(request))

    async def GetExperiment(self, request: GetExperimentRequest, call: Call) -> GetExperimentResponse:  # noqa: ARG002
        """Tell one experiment."""
        experiment = await self._experiments.get(experiment_id=request.experiment_id, name=request.name)
        return GetExperimentResponse(experiment=experiment)

    async def ListExperiments(self, request: ListExperimentsRequest, call: Call) -> ListExperimentsResponse:  # noqa: ARG002
        """Tell a page of the active experiments."""
        experiments, token = await self._experiments.list(request.page_size, request.page_token)
        return ListExperimentsResponse(experiments=experiments, next_page_token=token)

    async def ListRuns(self, request: ListRunsRequest, call: Call) -> ListRunsResponse:  # noqa: ARG002
        """Tell a page of an experiment's runs."""
        runs, token = await self._experiments.list_runs(request)
        return ListRunsResponse(runs=runs, next_page_token=token)

    async def GetRun(self, request: GetRunRequest, call: Call) -> GetRunResponse:  # noqa: ARG002
        """Tell one run."""
        return GetRunResponse(run=await self._experiments.get_run(request.run_id))

    async def GetMetricHistory(self, request: GetMetricHistoryRequest, call: Call) -> GetMetricHistoryResponse:  # noqa: ARG002
        """Tell a page of the values of one metric."""
        points, token = await self._experiments.metric_history(request)
        return GetMetricHistoryResponse(points=points, next_page_token=token)
