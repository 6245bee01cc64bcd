"""The model registry, through the door to a real MLflow server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.mlflow.models import Models
from tests.support.mlflow_server import MlflowServer, fresh_name, log_models
from tests.support.refusals import refused


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

    async def test_models_and_versions_link_to_their_pages(
        self, models: Models, run_with_model: str, mlflow_server: MlflowServer
    ) -> None:
        """Read alone and in lists, for people to open in a browser."""
        name = fresh_name()
        page = f"{mlflow_server.uri}/#/models/{name.replace(' ', '%20')}"
        made = await models.register(_register(run_with_model, name))
        (listed,), _ = await models.list_versions(name)
        assert [made.url, listed.url] == [f"{page}/versions/1"] * 2
        everything, _ = await models.list(1000)
        assert [model.url for model in everything if model.name == name] == [(await models.get(name)).url] == [page]

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
        """Without a name several are ambiguous, and so are two of the same name, of which the id chooses one."""
        run_id = log_models(mlflow_server.uri, experiment_id, "a", "b", "b", signed=False)
        with refused("MODEL_AMBIGUOUS") as error:
            await models.register(_register(run_id, fresh_name()))
        assert error.value.metadata["logged_model_names"] == "a, b"
        assert (await models.register(_register(run_id, fresh_name(), logged_model_name="a"))).version == 1
        first, last = sorted(
            mlflow_server.client().search_logged_models([experiment_id], filter_string="name = 'b'"),
            key=lambda model: model.creation_timestamp,
        )
        with refused("MODEL_AMBIGUOUS") as error:
            await models.register(_register(run_id, fresh_name(), logged_model_name="b"))
        assert all(f"{one.model_id} (named 'b', step 0)" in error.value.message for one in (first, last))
        version = await models.register(_register(run_id, fresh_name(), logged_model_name=first.model_id))
        assert mlflow_server.client().get_model_version(version.model_name, "1").source == f"models:/{first.model_id}"
        assert not version.HasField("signature")

    @pytest.mark.parametrize("key", ["🚀", "👩\u200d🔬 a:b/c", "what?!", "../x"])
    async def test_a_version_s_tag_may_have_any_visible_key(self, models: Models, run_with_model: str, key: str) -> None:
        """Keys that MLflow refuses are encoded on the way in and decoded on the way out."""
        made = await models.register(_register(run_with_model, fresh_name(), tags={key: "x"}))
        assert dict(made.tags) == {key: "x"}
        assert await models.get_version(made.model_name, 1) == made

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


def _register(run_id: str, name: str, **more: object) -> models_pb2.RegisterModelRequest:
    return models_pb2.RegisterModelRequest(run_id=run_id, model_name=name, **more)  # type: ignore[arg-type]
