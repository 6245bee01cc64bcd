"""Makes and finds the versions of registered models, and turns MLflow's registry into the contract's messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.backends.mlflow import errors, lineage, messages, onnx_conversion, tag_keys
from ml_platform_server.backends.mlflow.links import Links
from ml_platform_server.backends.mlflow.run_models import RunModel
from ml_platform_server.backends.mlflow.searches import BIG_PAGE
from ml_platform_server.errors import PlatformError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

OWN_TAGS = (*messages.OWN_TAGS, "feast.")
DOUBT = "ml_platform.check.doubt"


def create(
    client: MlflowClient, request: models_pb2.RegisterModelRequest, model: RunModel, tags: Mapping[str, str], seconds: int
) -> ModelVersion:
    """Make a version, and the registered model before it if there is none; wait until MLflow calls it ready."""
    _ensure_model(client, request.model_name)
    return client.create_model_version(
        request.model_name,
        model.source,
        run_id=request.run_id,
        tags=dict(tags),
        description=request.description or None,
        await_creation_for=seconds,
        model_id=model.model_id,
    )


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except Exception as error:
        if not errors.says_exists(error):
            raise


def made_by(client: MlflowClient, name: str, request_id: str) -> ModelVersion | None:
    """The version that a call with this request_id made, if there is one."""
    token = None
    while True:
        page = client.search_model_versions(
            of_model(name), max_results=BIG_PAGE, order_by=["version_number DESC"], page_token=token
        )
        for version in page:
            if version.tags.get(messages.REQUEST_ID) == request_id:
                return version
        token = page.token
        if not token:
            return None


def count_models(client: MlflowClient) -> int:
    """How many registered models there are."""
    count, token = 0, None
    while True:
        page = client.search_registered_models(max_results=BIG_PAGE, page_token=token)
        count, token = count + len(page), page.token
        if not token:
            return count


def of_model(name: str) -> str:
    """The filter for one model's versions. Only a caller who knows that the model exists gets here, so the name can be quoted."""
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"


def aliases_of(model: RegisteredModel, version: ModelVersion) -> list[str]:
    """The aliases that point to a version; MLflow's searches leave them out of the versions themselves."""
    return sorted(alias for alias, number in model.aliases.items() if str(number) == str(version.version))


def model_message(model: RegisteredModel, links: Links) -> models_pb2.RegisteredModel:
    """A registered model, without stages."""
    return models_pb2.RegisteredModel(
        name=model.name,
        description=model.description or "",
        latest_version=max((int(version.version) for version in model.latest_versions or ()), default=0),
        create_time=messages.timestamp(model.creation_timestamp),
        update_time=messages.timestamp(model.last_updated_timestamp),
        tags=_users_tags(model.tags),
        url=links.model(model.name),
    )


def version_message(version: ModelVersion, aliases: Iterable[str], links: Links) -> models_pb2.ModelVersion:
    """A version, without stage, signature and flavours."""
    known = lineage.read(version.tags)
    return models_pb2.ModelVersion(
        model_name=version.name,
        version=int(version.version),
        description=version.description or "",
        run_id=version.run_id or "",
        job_id=known.job_id,
        create_time=messages.timestamp(version.creation_timestamp),
        feature_service=known.feature_service,
        feature_refs=known.feature_refs,
        aliases=aliases,
        tags=_users_tags(version.tags),
        onnx_conversion=onnx_conversion.read(version.tags),
        doubt=version.tags.get(DOUBT, ""),
        url=links.version(version.name, int(version.version)),
    )


def _users_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tag_keys.decoded(tags).items() if not key.startswith(OWN_TAGS)}


def model_not_found(name: str) -> PlatformError:
    """The error for a registered model that does not exist."""
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
        f"There is no registered model {name!r}.",
        remedy="List the models with ListModels, or register one with RegisterModel.",
        resource=("model", name),
    )


def version_not_found(name: str, version: int) -> PlatformError:
    """The error for a version that does not exist."""
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_VERSION_NOT_FOUND,
        f"The model {name!r} has no version {version}.",
        remedy="List the model's versions with ListModelVersions.",
        resource=("model version", f"{name}/{version}"),
    )
