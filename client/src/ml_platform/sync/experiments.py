# Made from ml_platform/aio/experiments.py by scripts/sync_api.py. Change that file and run `make generate`.
"""Experiments, runs and what the runs measured."""

from __future__ import annotations

from collections.abc import Mapping

from ml_platform import rpcs
from ml_platform.errors import AlreadyExists, NotFound, invalid
from ml_platform.records import Listing
from ml_platform.resources.experiments import Experiment, MetricPoint, Run, read_experiment, read_point, read_run
from ml_platform.sync.invoker import Invoker
from ml_platform.v1 import experiments_pb2 as pb
from ml_platform.values import build


class Experiments:
    """The part of the client that deals with experiments."""

    _invoker: Invoker

    def create_experiment(
        self,
        name: str,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        *,
        exist_ok: bool = False,
        request_id: str | None = None,
    ) -> Experiment:
        """Make a new, empty experiment.

        Args:
            name: the experiment's name, unique.
            tags: free labels.
            description: what the experiment is about.
            exist_ok: whether an experiment of this name may exist already. It is returned then unchanged, with the status
                "active".
            request_id: makes a repeat of this call harmless: give the same id and the first answer is returned again. The client
                makes one for each call if none is given.

        Returns:
            The experiment, with the status "created".

        Raises:
            AlreadyExists: an experiment of this name exists, and `exist_ok` is not set.
            FailedPrecondition: the name belongs to a deleted experiment.

        Example:
            >>> experiment = platform.create_experiment(name="fraud", tags={"team": "risk"})
            >>> experiment.experiment_id
            '7'
        """
        request = build(pb.CreateExperimentRequest, name=name, tags=tags, description=description, request_id=request_id)
        try:
            response = self._invoker.call(rpcs.CREATE_EXPERIMENT, request)
        except AlreadyExists:
            if not exist_ok:
                raise
            return self.get_experiment(name=name)
        return read_experiment(response.experiment, status="created")

    def get_experiment(self, experiment_id: str | None = None, name: str | None = None) -> Experiment:
        """Look up an experiment, by its id or by its name.

        Args:
            experiment_id: the experiment's id. What is no number and no experiment's id is taken for a name.
            name: the experiment's name, in place of the id.

        Raises:
            NotFound: there is no such experiment.

        Example:
            >>> platform.get_experiment("fraud").experiment_id
            '7'
            >>> platform.get_experiment(name="fraud").experiment_id
            '7'
        """
        if (experiment_id is None) == (name is None):
            raise invalid("experiment_id", "give either experiment_id or name")
        request = build(pb.GetExperimentRequest, experiment_id=experiment_id, name=name)
        try:
            return read_experiment(self._invoker.call(rpcs.GET_EXPERIMENT, request).experiment)
        except NotFound:
            if not experiment_id or experiment_id.isdecimal():
                raise
        return self.get_experiment(name=experiment_id)

    def list_experiments(self, *, limit: int | None = None) -> Listing[Experiment]:
        """The active experiments, newest first: all of them, or at most `limit`.

        Example:
            >>> [experiment.name for experiment in platform.list_experiments()]
            ['fraud']
        """
        return self._invoker.collect(
            rpcs.LIST_EXPERIMENTS, pb.ListExperimentsRequest(), lambda page: page.experiments, read_experiment, limit=limit
        )

    def get_experiment_runs(
        self,
        experiment_id: str,
        filter: str | None = None,  # noqa: A002  # the contract's name
        order_by: str | None = None,
        *,
        limit: int | None = None,
    ) -> Listing[Run]:
        """The runs of an experiment, newest first unless an order is given.

        Args:
            experiment_id: the experiment's id.
            filter: which runs to keep, in MLflow's search syntax.
            order_by: in which order: "metrics.accuracy DESC", several with commas.
            limit: how many at most; None for all.

        Raises:
            NotFound: there is no such experiment.
            InvalidArgument: the filter or the order cannot be parsed.

        Example:
            >>> runs = platform.get_experiment_runs("7", filter="metrics.accuracy > 0.8", order_by="metrics.accuracy DESC")
            >>> runs[0]["metrics"]["accuracy"]
            0.93
            >>> runs.to_pandas()[["run_id", "metrics.accuracy", "params.max_depth"]]
        """
        request = build(pb.ListRunsRequest, experiment_id=experiment_id, filter=filter, order_by=order_by)
        return self._invoker.collect(rpcs.LIST_RUNS, request, lambda page: page.runs, read_run, limit=limit)

    def get_run(self, run_id: str) -> Run:
        """Look up a run with its parameters, tags and newest metrics.

        Raises:
            NotFound: there is no such run.

        Example:
            >>> platform.get_run("8a1f").params["max_depth"]
            '3'
        """
        return read_run(self._invoker.call(rpcs.GET_RUN, build(pb.GetRunRequest, run_id=run_id)).run)

    def get_metric_history(self, run_id: str, metric_key: str, *, limit: int | None = None) -> Listing[MetricPoint]:
        """Every value that a run logged for one metric, oldest first.

        Raises:
            NotFound: there is no such run, or it never logged this metric.

        Example:
            >>> [point.value for point in platform.get_metric_history("8a1f", "loss")]
            [0.9, 0.4, 0.2]
        """
        request = build(pb.GetMetricHistoryRequest, run_id=run_id, metric_key=metric_key)
        return self._invoker.collect(rpcs.GET_METRIC_HISTORY, request, lambda page: page.points, read_point, limit=limit)
