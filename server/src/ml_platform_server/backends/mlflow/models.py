"""The model registry: registered models, their versions and their aliases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.backends.mlflow import artifacts, lineage, messages, run_models, searches, tag_keys, versions
from ml_platform_server.backends.mlflow.artifacts import ModelDetails
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.experiments import run_not_found
from ml_platform_server.backends.paging import page_length
from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError, invalid

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

# The entries of a page and the token of the next one.
ModelPage = tuple[list[models_pb2.RegisteredModel], str]
VersionPage = tuple[list[models_pb2.ModelVersion], str]

CACHED_DETAILS = 1000
PATIENCE = 30.0


class Models:
    """What ModelService, deployments and the prediction engine ask of MLflow. Stages are left open: the store knows them.

    Args:
        backend: the connection to MLflow.
    """

    def __init__(self, *, backend: MlflowBackend) -> None:
        self._backend = backend
        self._links = backend.links
        # Versions do not change. The creation time tells one from its namesake of a model that was deleted and made anew.
        self._details: dict[tuple[str, int, int], ModelDetails] = {}

    async def register(self, request: models_pb2.RegisterModelRequest) -> models_pb2.ModelVersion:
        """Make a new version from the model that a run logged; a repeat with the same request_id finds the one made before.

        Raises:
            PlatformError: RUN_NOT_FOUND, RUN_WITHOUT_MODEL, MODEL_AMBIGUOUS, INVALID_FIELDS.
        """
        run = await self._get_run(request.run_id)
        made = await self._made_before(request) or await self._make(request, run)
        return await self.get_version(request.model_name, int(made.version))

    async def _get_run(self, run_id: str) -> Run:
        missing = run_not_found(run_id)
        run = await self._backend.call(lambda client: client.get_run(run_id), missing=missing, invalid=missing)
        if run.info.lifecycle_stage != "active":
            raise missing
        return run

    async def _made_before(self, request: models_pb2.RegisterModelRequest) -> ModelVersion | None:
        if not request.request_id:
            return None
        return await self._backend.call(lambda client: versions.made_by(client, request.model_name, request.request_id))

    async def _make(self, request: models_pb2.RegisterModelRequest, run: Run) -> ModelVersion:
        tags = _tags_to_keep(request) | lineage.of_version(request, run.data.tags).tags()
        model = await self._backend.call(lambda client: run_models.find(client, run, request.logged_model_name))
        seconds = int(remaining(PATIENCE))
        return await self._backend.call(
            lambda client: versions.create(client, request, model, tags, seconds),
            invalid=invalid("tags", messages.TAG_RULES.format(longest=100_000)),
        )

    async def list(self, page_size: int = 0, page_token: str = "") -> ModelPage:
        """A page of the registered models, by name, and the token of the next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        return await self._backend.call(
            lambda client: searches.fetch_page(
                lambda length, position: client.search_registered_models(
                    max_results=length, order_by=["name ASC"], page_token=position
                ),
                lambda model: versions.model_message(model, self._links),
                lambda model: str(model.name),
                searches.PageRequest(("models",), page_length(page_size), page_token),
            )
        )

    async def get(self, model_name: str) -> models_pb2.RegisteredModel:
        """One registered model.

        Raises:
            PlatformError: MODEL_NOT_FOUND.
        """
        return versions.model_message(await self._get_model(model_name), self._links)

    async def count(self) -> int:
        """How many registered models there are."""
        return await self._backend.call(versions.count_models)

    async def list_versions(self, model_name: str, page_size: int = 0, page_token: str = "") -> VersionPage:
        """A page of one model's versions, newest first, without signatures, and the token of the next page.

        Raises:
            PlatformError: MODEL_NOT_FOUND, PAGE_TOKEN_INVALID.
        """
        model = await self._get_model(model_name)
        return await self._backend.call(
            lambda client: searches.fetch_page(
                lambda length, position: client.search_model_versions(
                    versions.of_model(model_name), max_results=length, order_by=["version_number DESC"], page_token=position
                ),
                lambda version: versions.version_message(version, versions.aliases_of(model, version), self._links),
                lambda version: str(version.version),
                searches.PageRequest(("model versions", model_name), page_length(page_size), page_token),
            )
        )

    async def get_version(self, model_name: str, version: int) -> models_pb2.ModelVersion:
        """One version, with signature and flavours as far as its files are there.

        Raises:
            PlatformError: MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND, MODEL_ARTIFACT_UNREADABLE.
        """
        found = await self._get_version(model_name, version)
        message = versions.version_message(found, found.aliases, self._links)
        try:
            details = await self._details_of(found)
        except PlatformError as error:
            if error.reason != errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING:
                raise
            return message  # The registry's entry is still worth telling; whoever needs the files asks for `details`.
        message.flavors.extend(details.flavors)
        if details.signature is not None:
            message.signature.CopyFrom(details.signature)
        return message

    async def details(self, model_name: str, version: int, *, fresh: bool = False) -> ModelDetails:
        """What the files of a version tell: its signature and its flavours. `fresh` looks whether the files are still there.

        Raises:
            PlatformError: MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND, MODEL_ARTIFACT_MISSING, MODEL_ARTIFACT_UNREADABLE.
        """
        found = await self._get_version(model_name, version)
        if fresh:
            self._details.pop(_details_key(found), None)
        return await self._details_of(found)

    async def download(self, model_name: str, version: int, target: Path) -> Path:
        """Fetch the whole folder of a version, for whoever runs it. It may take minutes.

        Returns:
            Where the folder is: within the target, or where the artifact store keeps it if that is on this machine.

        Raises:
            PlatformError: MODEL_ARTIFACT_MISSING, MODEL_ARTIFACT_UNREADABLE.
        """
        return await self._backend.download(
            lambda client: artifacts.fetch_folder(client, model_name, version, target),
            missing=artifacts.artifact_missing(model_name, version),
            otherwise=artifacts.artifact_unreadable(model_name, version),
        )

    async def download_graph(self, version: models_pb2.ModelVersion, target: Path) -> Path:
        """Fetch the folder of the ONNX model that a version was converted to; as `download`.

        Raises:
            PlatformError: MODEL_ARTIFACT_MISSING, MODEL_ARTIFACT_UNREADABLE.
        """
        missing = artifacts.artifact_missing(version.model_name, version.version)
        uri = version.onnx_conversion.model_uri
        return await self._backend.download(
            lambda client: artifacts.fetch_graph(client, uri, target, missing),
            missing=missing,
            otherwise=artifacts.artifact_unreadable(version.model_name, version.version),
        )

    async def set_alias(self, model_name: str, alias: str, version: int) -> None:
        """Point an alias at a version.

        Raises:
            PlatformError: MODEL_VERSION_NOT_FOUND.
        """
        await self._backend.call(
            lambda client: client.set_registered_model_alias(model_name, alias, str(version)),
            missing=versions.version_not_found(model_name, version),
        )

    async def clear_alias(self, model_name: str, alias: str) -> None:
        """Take an alias away; one that is not there is none to take.

        Raises:
            PlatformError: MODEL_NOT_FOUND.
        """
        await self._backend.call(
            lambda client: client.delete_registered_model_alias(model_name, alias), missing=versions.model_not_found(model_name)
        )

    async def _get_model(self, name: str) -> RegisteredModel:
        missing = versions.model_not_found(name)
        return await self._backend.call(lambda client: client.get_registered_model(name), missing=missing, invalid=missing)

    async def _get_version(self, name: str, version: int) -> ModelVersion:
        missing = versions.version_not_found(name, version)
        try:
            return await self._backend.call(
                lambda client: client.get_model_version(name, str(version)), missing=missing, invalid=missing
            )
        except PlatformError as error:
            if error is missing:
                await self._get_model(name)  # Tells a model that does not exist from one without this version.
            raise

    async def _details_of(self, version: ModelVersion) -> ModelDetails:
        name, number = version.name, int(version.version)
        key = _details_key(version)
        if key not in self._details:
            missing = artifacts.artifact_missing(name, number)
            found = await self._backend.call(
                lambda client: artifacts.read_details(client, name, number),
                missing=missing,
                otherwise=artifacts.artifact_unreadable(name, number),
            )
            while len(self._details) >= CACHED_DETAILS:
                self._details.pop(next(iter(self._details)))
            self._details[key] = found
        return self._details[key]


def _details_key(version: ModelVersion) -> tuple[str, int, int]:
    return version.name, int(version.version), version.creation_timestamp


def _tags_to_keep(request: models_pb2.RegisterModelRequest) -> dict[str, str]:
    reserved = sorted(key for key in request.tags if key.startswith(versions.OWN_TAGS))
    if reserved:
        raise invalid("tags", f"keys that begin with {' or '.join(versions.OWN_TAGS)} are reserved: {', '.join(reserved)}")
    tags = tag_keys.encoded(request.tags)
    if request.request_id:
        tags[messages.REQUEST_ID] = request.request_id
    return tags
