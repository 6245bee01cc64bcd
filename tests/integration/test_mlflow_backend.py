"""The door to MLflow against a real MLflow server."""

from __future__ import annotations

import math
import shutil
import socket
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from ml_platform.v1 import experiments_pb2 as pb
from ml_platform.v1 import models_pb2
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.settings import MlflowSettings
from tests.support.mlflow_server import MlflowServer, log_models, mlflow_server_fixture  # noqa: F401  # found by its name
from tests.support.processes import free_port
from tests.support.refusals import refused

# Tests share their machine with whatever else runs on it.
PATIENCE = 60.0
_numbers = count()


def fresh_name() -> str:
    """A name that no other test uses."""
    return f"test {next(_numbers)}"


@pytest.fixture
async def backend(mlflow_server: MlflowServer) -> AsyncIterator[MlflowBackend]:
    backend = MlflowBackend(settings=MlflowSettings(tracking_uri=mlflow_server.uri, timeout=PATIENCE))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def experiments(backend: MlflowBackend) -> Experiments:
    return Experiments(backend=backend)


@pytest.fixture
def models(backend: MlflowBackend) -> Models:
    return Models(backend=backend)


@pytest.fixture
async def experiment_id(experiments: Experiments) -> str:
    return (await experiments.create(pb.CreateExperimentRequest(name=fresh_name()))).experiment_id


@pytest.fixture(scope="module")
def run_with_model(mlflow_server: MlflowServer) -> str:
    tags = {"ml_platform.job_id": "job-1", "feast.feature_service": "fraud", "feast.feature_refs": "user:total,user:average"}
    return log_models(mlflow_server.uri, mlflow_server.client().create_experiment("models"), "model", tags=tags)


class TestExperiments:
    async def test_a_new_experiment_keeps_its_tags_and_its_description_apart(self, experiments: Experiments) -> None:
        """What is created is what is read, by id and by name, and only the user's tags are shown."""
        name = fresh_name()
        made = await experiments.create(
            pb.CreateExperimentRequest(name=name, tags={"team": "risk"}, description="why", request_id="r1")
        )
        assert (made.name, dict(made.tags), made.description) == (name, {"team": "risk"}, "why")
        assert made.create_time.seconds > 0
        assert await experiments.get(experiment_id=made.experiment_id) == made
        assert await experiments.get(name=name) == made

    async def test_a_repeat_after_a_crash_finds_the_first_experiment(self, experiments: Experiments) -> None:
        """The same request id finds what it made; another one, or none, is told that the name is taken."""
        name = fresh_name()
        made = await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1"))
        assert await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1")) == made
        for request_id in ("r2", ""):
            with refused("EXPERIMENT_EXISTS"):
                await experiments.create(pb.CreateExperimentRequest(name=name, request_id=request_id))

    async def test_the_name_of_a_deleted_experiment_stays_taken(
        self, experiments: Experiments, mlflow_server: MlflowServer
    ) -> None:
        """It is told as such, and the experiment itself counts as missing."""
        name = fresh_name()
        made = await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1"))
        mlflow_server.client().delete_experiment(made.experiment_id)
        with refused("EXPERIMENT_DELETED"):
            await experiments.create(pb.CreateExperimentRequest(name=name, request_id="r1"))
        with refused("EXPERIMENT_NOT_FOUND"):
            await experiments.get(name=name)

    @pytest.mark.parametrize("key", ["mlflow.note.content", "ml_platform.request_id", "what?!", "k" * 251])
    async def test_a_tag_that_cannot_be_kept_is_refused(self, experiments: Experiments, key: str) -> None:
        """Reserved keys and keys that MLflow refuses are errors of the field, and make nothing."""
        name = fresh_name()
        with refused("INVALID_FIELDS") as error:
            await experiments.create(pb.CreateExperimentRequest(name=name, tags={key: "x"}))
        assert [violation.field for violation in error.value.violations] == ["tags"]
        with refused("EXPERIMENT_NOT_FOUND"):
            await experiments.get(name=name)

    @pytest.mark.parametrize("which", [{"experiment_id": "4711000"}, {"experiment_id": "no number"}, {"name": "nobody's"}])
    async def test_an_unknown_experiment_is_not_found(self, experiments: Experiments, which: dict[str, str]) -> None:
        """By whatever id, even one that MLflow calls invalid, and by name."""
        with refused("EXPERIMENT_NOT_FOUND"):
            await experiments.get(**which)

    async def test_an_experiment_is_asked_for_in_one_way(self, experiments: Experiments) -> None:
        """Neither id nor name is as wrong as both."""
        for which in ({}, {"experiment_id": "0", "name": "Default"}):
            with refused("INVALID_FIELDS"):
                await experiments.get(**which)

    async def test_lists_are_newest_first_and_page_without_gaps(self, experiments: Experiments) -> None:
        """Pages of two hold what one page holds, in its order, and as many as are counted."""
        made = [(await experiments.create(pb.CreateExperimentRequest(name=fresh_name()))).experiment_id for _ in range(3)]
        everything, end = await experiments.list(1000)
        assert end == ""
        assert [experiment.experiment_id for experiment in everything[:3]] == made[::-1]
        assert await experiments.count() == len(everything)
        paged, token = await experiments.list(2)
        while token:
            page, token = await experiments.list(2, token)
            paged += page
        assert paged == everything

    async def test_a_page_token_from_elsewhere_is_refused(self, experiments: Experiments, experiment_id: str) -> None:
        """In each list that MLflow pages."""
        with refused("PAGE_TOKEN_INVALID"):
            await experiments.list(2, "garbage")
        with refused("PAGE_TOKEN_INVALID"):
            await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, page_token="garbage"))
        with refused("PAGE_TOKEN_INVALID"):
            await experiments.metric_history(pb.GetMetricHistoryRequest(run_id="r", metric_key="m", page_token="garbage"))


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
        assert "metrics.accuracy > 0.8" in error.value.remedy

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
        """NaN stays NaN, infinity stays enormous, and lists ordered by them work."""
        mlflow_server.client().log_metric(runs[0], "m", math.nan, step=1)
        mlflow_server.client().log_metric(runs[1], "m", math.inf, step=1)
        found, _ = await experiments.list_runs(pb.ListRunsRequest(experiment_id=experiment_id, order_by="metrics.m DESC"))
        metrics = {run.run_id: run.metrics["m"] for run in found}
        assert math.isnan(metrics[runs[0]])
        assert metrics[runs[1]] > 1e300

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

    async def test_runs_with_models_are_told_from_those_without(
        self, experiments: Experiments, mlflow_server: MlflowServer, run_with_model: str, runs: list[str]
    ) -> None:
        """Models that MLflow 2 clients logged count too: they leave a tag only."""
        mlflow_server.client().set_tag(runs[0], "mlflow.log-model.history", '[{"artifact_path": "old"}]')
        asked = [await experiments.get_run(run_id) for run_id in (run_with_model, runs[0], runs[1])]
        assert await experiments.runs_with_models(asked) == {run_with_model, runs[0]}
        assert await experiments.runs_with_models([]) == set()


class TestModels:
    async def test_a_registered_version_tells_all_about_itself(self, models: Models, run_with_model: str) -> None:
        """Signature, flavours, tags, and the lineage that its run recorded."""
        name = fresh_name()
        request = models_pb2.RegisterModelRequest(
            run_id=run_with_model, model_name=name, description="first", tags={"team": "risk"}, request_id="r1"
        )
        version = await models.register(request)
        inputs = [(column.name, column.type, column.required) for column in version.signature.inputs]
        assert inputs == [("amount", "double", True), ("count", "long", True)]
        assert [column.type for column in version.signature.outputs] == ["double"]
        assert list(version.flavors) == ["python_function"]
        assert (version.version, version.description, dict(version.tags)) == (1, "first", {"team": "risk"})
        assert (version.run_id, version.job_id, version.feature_service) == (run_with_model, "job-1", "fraud")
        assert list(version.feature_refs) == ["user:total", "user:average"]
        assert await models.get_version(name, 1) == version

    async def test_a_repeat_finds_the_version_and_another_call_makes_a_new_one(self, models: Models, run_with_model: str) -> None:
        """The request id tells which is which."""
        name = fresh_name()
        made = [
            (await models.register(_register(run_with_model, name, request_id=request_id))).version
            for request_id in ("r1", "r1", "r2", "", "")
        ]
        assert made == [1, 1, 2, 3, 4]

    async def test_a_run_s_only_model_is_meant_and_of_several_the_named_one(
        self, models: Models, mlflow_server: MlflowServer, experiment_id: str
    ) -> None:
        """Without a name several are ambiguous; of two of the same name the last counts."""
        run_id = log_models(mlflow_server.uri, experiment_id, "a", "b", "b", signed=False)
        with refused("MODEL_AMBIGUOUS") as error:
            await models.register(_register(run_id, fresh_name()))
        assert error.value.metadata["logged_model_names"] == "a, b"
        version = await models.register(_register(run_id, fresh_name(), logged_model_name="b"))
        logged = mlflow_server.client().search_logged_models([experiment_id], filter_string="name = 'b'")
        last = max(logged, key=lambda model: model.creation_timestamp)
        assert mlflow_server.client().get_model_version(version.model_name, "1").source == f"models:/{last.model_id}"
        assert not version.HasField("signature")

    async def test_a_run_without_the_model_has_nothing_to_register(
        self, models: Models, mlflow_server: MlflowServer, experiment_id: str, run_with_model: str
    ) -> None:
        """Whether it logged none, or none of that name; and no registered model is left behind."""
        empty, name = mlflow_server.client().create_run(experiment_id).info.run_id, fresh_name()
        with refused("RUN_WITHOUT_MODEL"):
            await models.register(_register(empty, name))
        with refused("RUN_WITHOUT_MODEL"):
            await models.register(_register(run_with_model, name, logged_model_name="other"))
        with refused("RUN_NOT_FOUND"):
            await models.register(_register("nobody's", name))
        with refused("MODEL_NOT_FOUND"):
            await models.get(name)

    async def test_what_the_request_says_of_features_wins_over_the_run(self, models: Models, run_with_model: str) -> None:
        """The run's record is not mixed in."""
        version = await models.register(_register(run_with_model, fresh_name(), feature_refs=["user:age"]))
        assert (version.feature_service, list(version.feature_refs)) == ("", ["user:age"])

    async def test_a_model_s_versions_are_listed_newest_first_with_their_aliases(
        self, models: Models, run_with_model: str
    ) -> None:
        """An alias moves as a whole, and taking away one that is not there is no error."""
        name = fresh_name()
        for _ in range(3):
            await models.register(_register(run_with_model, name))
        await models.set_alias(name, "staging", 1)
        await models.set_alias(name, "staging", 2)
        first, token = await models.list_versions(name, 2)
        second, end = await models.list_versions(name, 2, token)
        told = [(version.version, list(version.aliases)) for version in [*first, *second]]
        assert (told, end) == ([(3, []), (2, ["staging"]), (1, [])], "")
        assert (await models.get(name)).latest_version == 3
        await models.clear_alias(name, "staging")
        await models.clear_alias(name, "staging")
        assert list((await models.get_version(name, 2)).aliases) == []

    async def test_models_are_listed_by_name_and_counted(self, models: Models, run_with_model: str) -> None:
        """Pages of one hold what one page holds."""
        for name in ("listed b", "listed a"):
            await models.register(_register(run_with_model, name))
        everything, _ = await models.list(1000)
        names = [model.name for model in everything]
        assert names == sorted(names)
        assert {"listed a", "listed b"} <= set(names)
        assert await models.count() == len(everything)
        first, token = await models.list(1)
        second, _ = await models.list(1, token)
        assert [*first, *second] == everything[:2]

    async def test_missing_models_and_missing_versions_are_told_apart(self, models: Models, run_with_model: str) -> None:
        """Everywhere that names them."""
        name = fresh_name()
        await models.register(_register(run_with_model, name))
        for version in (2, 2**40):
            with refused("MODEL_VERSION_NOT_FOUND"):
                await models.get_version(name, version)
        with refused("MODEL_VERSION_NOT_FOUND"):
            await models.set_alias(name, "staging", 2)
        for call in (models.get("nobody's"), models.get_version("nobody's", 1), models.list_versions("it's \"nobody's\"")):
            with refused("MODEL_NOT_FOUND"):
                await call

    async def test_the_whole_folder_is_fetched(self, models: Models, run_with_model: str, tmp_path: Path) -> None:
        """With the MLmodel file at its top."""
        name = fresh_name()
        await models.register(_register(run_with_model, name))
        folder = await models.download(name, 1, tmp_path / "new" / "folder")
        assert {"MLmodel", "python_model.pkl"} <= {file.name for file in folder.iterdir()}
        assert folder.is_relative_to(tmp_path)

    async def test_artifacts_on_a_path_of_this_machine_work_as_well(
        self, models: Models, mlflow_server: MlflowServer, tmp_path: Path
    ) -> None:
        """Not every server hands artifacts through; some only say where they lie."""
        experiment = mlflow_server.client().create_experiment(fresh_name(), artifact_location=str(tmp_path / "store"))
        run_id = log_models(mlflow_server.uri, experiment, "model")
        version = await models.register(_register(run_id, fresh_name()))
        assert [column.name for column in version.signature.inputs] == ["amount", "count"]
        folder = await models.download(version.model_name, 1, tmp_path / "target")
        assert (folder / "MLmodel").is_file()

    async def test_files_that_are_gone_are_missed_by_those_who_need_them(
        self, models: Models, mlflow_server: MlflowServer, experiment_id: str, tmp_path: Path
    ) -> None:
        """The registry's entry is still told; whoever needs the files hears that they are missing."""
        run_id = log_models(mlflow_server.uri, experiment_id, "model")
        version = await models.register(_register(run_id, fresh_name()))
        shutil.rmtree(mlflow_server.artifacts / experiment_id)
        assert (await models.details(version.model_name, 1)).flavors == ("python_function",)
        with refused("MODEL_ARTIFACT_MISSING"):
            await models.details(version.model_name, 1, fresh=True)
        with refused("MODEL_ARTIFACT_MISSING"):
            await models.download(version.model_name, 1, tmp_path)
        told = await models.get_version(version.model_name, 1)
        assert (told.run_id, list(told.flavors), told.HasField("signature")) == (run_id, [], False)


class TestBadDays:
    async def test_a_server_that_is_well_passes_its_probe(self, backend: MlflowBackend) -> None:
        """The probe raises nothing."""
        await backend.probe()

    async def test_a_server_that_is_down_is_told_at_once(self) -> None:
        """A refused connection is no reason to wait."""
        backend = MlflowBackend(settings=MlflowSettings(tracking_uri=f"http://127.0.0.1:{free_port()}"))
        with refused("BACKEND_UNAVAILABLE"):  # The first call also loads the client.
            await backend.probe()
        begun = time.monotonic()
        with refused("BACKEND_UNAVAILABLE") as error:
            await Experiments(backend=backend).get(name="x")
        assert time.monotonic() - begun < 2.0
        assert error.value.retry_after
        await backend.close()

    async def test_a_server_that_hangs_is_given_up(self) -> None:
        """After the configured time for one request, once."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
            backend = MlflowBackend(settings=MlflowSettings(tracking_uri=uri, timeout=1.0))
            begun = time.monotonic()
            with refused("BACKEND_UNAVAILABLE"):
                await backend.probe()
            assert time.monotonic() - begun < 20.0
            await backend.close()


def _register(run_id: str, name: str, **more: object) -> models_pb2.RegisterModelRequest:
    return models_pb2.RegisterModelRequest(run_id=run_id, model_name=name, **more)  # type: ignore[arg-type]
