"""Which model an Open Inference client means, and what it takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ml_platform.v1 import errors_pb2
from ml_platform_server.environments import Environments
from ml_platform_server.errors import PlatformError
from ml_platform_server.open_inference import Message, ModelMetadataResponse
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.serving.open_inference.datatypes import of_type
from ml_platform_server.serving.routing.router import ServedVersion


class ServedModels(Protocol):
    """The models that are served."""

    environments: Environments

    async def served(self, model_name: str, environment: str) -> ServedVersion:
        """The version that answers in an environment, loaded first if need be."""
        ...

    def loaded(self, model_name: str, version: str) -> ServedVersion | None:
        """The version of this number, if it is in memory and answers in an environment."""
        ...


async def meant(models: ServedModels, name: str, version: str) -> ServedVersion:
    """The version that answers.

    Args:
        models: those that are served.
        name: the registered model.
        version: an environment, the number of a version that is deployed, or "" for the default environment.

    Raises:
        PlatformError: as the engine gives them; MODEL_NOT_DEPLOYED for a version that is deployed nowhere.
    """
    environment = version or models.environments.default
    if environment not in models.environments:
        return models.loaded(name, version) or await _numbered(models, name, version)
    try:
        return await models.served(name, environment)
    except PlatformError as error:
        if version or error.reason != errors_pb2.ERROR_REASON_MODEL_NOT_DEPLOYED:
            raise
        error.remedy = f'{error.remedy} To ask what is deployed elsewhere, give an environment as the version, such as "staging".'
        raise


async def _numbered(models: ServedModels, name: str, version: str) -> ServedVersion:
    deployed: list[str] = []
    absent: PlatformError | None = None
    for environment in models.environments:
        try:
            served = await models.served(name, environment)
        except PlatformError as error:
            if error.reason != errors_pb2.ERROR_REASON_MODEL_NOT_DEPLOYED:
                raise
            absent = error
            continue
        deployed.append(str(served.model.version.version))
        if deployed[-1] == version:
            return served
    if not deployed and absent is not None:
        raise absent
    raise PlatformError(
        errors_pb2.ERROR_REASON_MODEL_NOT_DEPLOYED,
        f"Version {version[:50]!r} of the model {name!r} is not deployed; deployed are {', '.join(deployed)}.",
        remedy=f"Give as version an environment ({', '.join(models.environments)}) or a deployed version's number, or none.",
        resource=("model", name),
    )


def described(served: ServedVersion) -> Message:
    """What a model takes and gives."""
    model = served.model
    response = ModelMetadataResponse(
        name=model.version.model_name, versions=[str(model.version.version)], platform=model.runtime.platform
    )
    for column in model.columns:
        response.inputs.add(name=column.name, datatype=of_type(column.type), shape=_shape(column))
    for name, type_, shape in model.runtime.outputs:
        response.outputs.add(name=name, datatype=of_type(type_), shape=shape)
    response.parameters["deployment_id"].string_param = served.deployment_id
    binding = model.enrichment.binding
    if binding is not None and binding.features:
        features = ",".join(model.columns[at].name for at in sorted(binding.features))
        response.parameters["features"].string_param = features
        response.parameters["join_keys"].string_param = ",".join(key.name for key in binding.plan.join_keys)
    return response


def _shape(column: Column) -> Sequence[int]:
    # A column of a table is told as most servers tell it; its rows may come without the second dimension too.
    return (-1, *(column.shape or (1,)))
