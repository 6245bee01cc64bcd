"""Runs and their metrics, through the door to a real MLflow server."""

from __future__ import annotations

import math

import pytest

from ml_platform.v1 import experiments_pb2 as pb
from ml_platform_server.backends.mlflow.experiments import Experiments
from tests.support.mlflow_server import MlflowServer, fresh_name
from tests.support.refusals import refused


class TestRuns:
    @pytest.fixture
    def runs(self, mlflow_server: MlflowServer, experiment_id: str) -> list[str]:
        """Three runs with metric m = 0, 1, 2 and parameter p = "0", "1", "2", the oldest first."""
        client, made = mlflow_server.client(), []
        for number in range(3):
            run = client.create_run(experiment_id, start_time=1_700_000_000_000 + number, tags={"ml_platform.job_id": "job-7"})
            client.log_metric(run.info.run_id, "m", number)
            client.log_param(run.info.run_id, "p", number)
            made.append(run.info.run_id)
        return made

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            (("", ""), [2, 1, 0]),
            (("", "metrics.m"), [0, 1, 2]),
            (("", "metrics.`m` DESC, params.p ASC"), [2, 1, 0]),
            (("metrics.m > 0 and params.p = '1'", ""), [1]),
            (("metrics.m > 99", ""), []),
            (("attributes.status = 'RUNNING'", "start_time ASC"), [0, 1, 2]),
        ],
    )
    async def test_runs_are_filtered_and_ordered(
        self, experiments: Experiments, experiment_id: str, runs: list[str], asked: tuple[str, str], expected: list[int]
    ) -> None:
        """The newest come first unless an order is given."""
        request = pb.ListRunsRequest(experiment_id=experiment_id, filter=asked[0], order_by=asked[1])
        found, _ = await experiments.list_runs(request)
        assert [run.run_id for run in found] == [runs[number] for number in expected]

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("filter", "metrics.m >"),
            ("filter", "params.p = 1"),
            ("filter", "metrics.m > 1 or metrics.m < 0"),
            ("order_by", "nonsense"),
            ("order_by", "metrics.m SIDEWAYS"),
            ("order_by", "metrics.m, metrics.m"),
            ("filter", " and ".join(["metrics.m > 0"] * 100)),
            ("filter", "attributes. tags. 'x' ( run_id ("),
            ("filter", "attributes.start_time > 99999999999999999999999"),
        ],
    )
    async def test_a_filter_that_cannot_be_read_is_told_in_words_that_help(
        self, experiments: Experiments, experiment_id: str, field: str, text: str
    ) -> None:
        """The error names the field and what was in it, and shows how to write one."""
        with refused("FILTER_INVALID") as error:
            await experiments.list_runs(
                pb.ListRunsRequest(experiment_id=experiment_id, **{field: text})  # type: ignore[arg-type]
            )
        assert [violation.field for violation in error.value.violations] == [field]
        assert text in error.value.message
        lessons = {"filter": "metrics.accuracy > 0.8", "order_by": "metrics.accuracy DESC"}
        assert [name for name, lesson in lessons.items() if lesson in error.value.remedy] == [field]

    @pytest.mark.parametrize(
        ("order_by", "unknown", "meant"),
        [
            ("metrics.nosuch DESC", "metrics.nosuch", ""),
            ("metrics.M", "metrics.M", "metrics.m"),
            ("metrics.m, params.q DESC", "params.q", "params.p"),
            ("tags.nosuch", "tags.nosuch", ""),
        ],
    )
    async def test_an_order_by_what_no_run_has_is_refused(
        self, experiments: Experiments, experiment_id: str, runs: list[str], order_by: str, unknown: str, meant: str
    ) -> None:
        """MLflow would ignore the key. The error names it, and the one that was probably meant."""
        with refused("FILTER_INVALID") as error:
            await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, order_by=order_by))
        assert unknown in error.value.message
        assert (f"Did you mean {meant}?" in error.value.message) == bool(meant)

    async def test_an_order_by_what_some_run_has_is_taken(
        self, experiments: Experiments, mlflow_server: MlflowServer, experiment_id: str, runs: list[str]
    ) -> None:
        """Even if that run is not on the page, or its value is not a number; and where there are no runs, there is no order."""
        mlflow_server.client().log_metric(runs[0], "rare", math.nan)
        asked = {"experiment_id": experiment_id, "order_by": "metrics.rare"}
        for filter_, count in (("", 3), ("params.p = '2'", 1), ("params.p = 'x'", 0)):
            found, _ = await experiments.list_runs(pb.ListRunsRequest(filter=filter_, **asked))  # type: ignore[arg-type]
            assert len(found) == count

    async def test_runs_page_without_gaps(self, experiments: Experiments, experiment_id: str, runs: list[str]) -> None:
        """Pages of two hold all three runs in order."""
        first, token = await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, page_size=2))
        request = pb.ListRunsRequest(experiment_id=experiment_id, page_size=2, page_token=token)
        second, end = await experiments.list_runs(request)
        assert [run.run_id for run in [*first, *second]] == runs[::-1]
        assert end == ""

    async def test_runs_of_an_unknown_experiment_are_not_an_empty_list(self, experiments: Experiments) -> None:
        """A mistyped id is told."""
        with refused("EXPERIMENT_NOT_FOUND"):
            await experiments.list_runs(pb.ListRunsRequest(experiment_id="4711000"))

    async def test_a_run_tells_what_went_in_and_what_came_out(self, experiments: Experiments, runs: list[str]) -> None:
        """Status, times, parameters, metrics and the job that made it."""
        run = await experiments.get_run(runs[1])
        assert (run.status, dict(run.params), dict(run.metrics)) == (pb.RUN_STATUS_RUNNING, {"p": "1"}, {"m": 1.0})
        assert (run.job_id, run.start_time.ToMilliseconds()) == ("job-7", 1_700_000_000_001)
        assert not run.HasField("end_time")

    async def test_unknown_and_deleted_runs_are_not_found(
        self, experiments: Experiments, mlflow_server: MlflowServer, runs: list[str]
    ) -> None:
        """MLflow still hands out deleted runs; the platform does not."""
        mlflow_server.client().delete_run(runs[0])
        for run_id in (runs[0], "nobody's", "a/b"):
            with refused("RUN_NOT_FOUND"):
                await experiments.get_run(run_id)

    async def test_metrics_that_are_no_numbers_come_through(
        self, experiments: Experiments, mlflow_server: MlflowServer, experiment_id: str, runs: list[str]
    ) -> None:
        """NaN stays NaN and infinity stays infinite, in the history too, and lists ordered by them work."""
        mlflow_server.client().log_metric(runs[0], "m", math.nan, step=1)
        mlflow_server.client().log_metric(runs[1], "m", math.inf, step=1)
        found, _ = await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, order_by="metrics.m DESC"))
        metrics = {run.run_id: run.metrics["m"] for run in found}
        assert math.isnan(metrics[runs[0]])
        assert metrics[runs[1]] == math.inf
        mlflow_server.client().log_metric(runs[1], "m", -math.inf, step=2)
        points, _ = await experiments.metric_history(pb.GetMetricHistoryRequest(run_id=runs[1], metric_key="m"))
        assert [point.value for point in points] == [1.0, math.inf, -math.inf]

    async def test_a_metric_s_history_pages_from_the_oldest_on(
        self, experiments: Experiments, mlflow_server: MlflowServer, runs: list[str]
    ) -> None:
        """Pages of two hold each value once, with its step and time."""
        for step in range(1, 5):
            mlflow_server.client().log_metric(runs[0], "loss", 1 / step, step=step, timestamp=1_700_000_000_000 + step)
        request = pb.GetMetricHistoryRequest(run_id=runs[0], metric_key="loss", page_size=3)
        first, token = await experiments.metric_history(request)
        request.page_token = token
        second, end = await experiments.metric_history(request)
        told = [(point.step, point.value, point.log_time.ToMilliseconds()) for point in [*first, *second]]
        assert told == [(step, 1 / step, 1_700_000_000_000 + step) for step in range(1, 5)]
        assert (len(first), end) == (3, "")

    async def test_a_missing_metric_and_a_missing_run_are_told_apart(self, experiments: Experiments, runs: list[str]) -> None:
        """The history of either is no empty list."""
        with refused("METRIC_NOT_FOUND"):
            await experiments.metric_history(pb.GetMetricHistoryRequest(run_id=runs[0], metric_key="nobody's"))
        with refused("RUN_NOT_FOUND"):
            await experiments.metric_history(pb.GetMetricHistoryRequest(run_id="nobody's", metric_key="m"))

    async def test_a_job_s_runs_are_found_in_whichever_experiment(
        self, experiments: Experiments, mlflow_server: MlflowServer, experiment_id: str
    ) -> None:
        """Newest first, and no others."""
        client, job = mlflow_server.client(), fresh_name()
        other = client.create_experiment(fresh_name())
        first = client.create_run(experiment_id, start_time=1, tags={"ml_platform.job_id": job}).info.run_id
        second = client.create_run(other, start_time=2, tags={"ml_platform.job_id": job}).info.run_id
        assert [run.run_id for run in await experiments.runs_of_job(job)] == [second, first]
        assert await experiments.runs_of_job("it's nobody's") == []
        own = (await experiments.get(experiment_id=other)).name
        assert [run.run_id for run in await experiments.runs_of_job(job, own, everywhere=False)] == [second]
        assert [run.run_id for run in await experiments.runs_of_job(job, own)] == [second, first]
        empty = (await experiments.create(pb.CreateExperimentRequest(name=fresh_name()))).name
        for nothing_there in ("nobody's", empty):
            stray = fresh_name()
            client.set_tag(first, "ml_platform.job_id", stray)
            found = await experiments.runs_of_job(stray, nothing_there, everywhere=False)
            assert [run.run_id for run in found] == [first]

    async def test_runs_with_models_are_told_from_those_without(
        self, experiments: Experiments, mlflow_server: MlflowServer, run_with_model: str, runs: list[str]
    ) -> None:
        """Models that MLflow 2 clients logged count too: they leave a tag only."""
        mlflow_server.client().set_tag(runs[0], "mlflow.log-model.history", '[{"artifact_path": "old"}]')
        asked = [await experiments.get_run(run_id) for run_id in (run_with_model, runs[0], runs[1])]
        assert await experiments.runs_with_models(asked) == {run_with_model, runs[0]}
        assert await experiments.runs_with_models([]) == set()
