"""Adds stages and active versions, which the deployments decide, to models and versions of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_platform.v1 import models_pb2
from ml_platform.v1.models_pb2 import ModelStage, ModelVersion, RegisteredModel
from ml_platform_server.store.deployments import DeploymentRecords

_Stages = Mapping[tuple[str, int], ModelStage.ValueType]


class Stages:
    """Knows from the deployments where each version stands."""

    def __init__(self, *, deployments: DeploymentRecords) -> None:
        self._deployments = deployments

    async def set_versions(self, versions: Sequence[ModelVersion]) -> None:
        """Set each version's stage."""
        stages: _Stages = await self._deployments.stages({version.model_name for version in versions})
        for version in versions:
            version.stage = _stage(stages, version.model_name, version.version)

    async def set_models(self, models: Sequence[RegisteredModel]) -> None:
        """Set the stage of each model's newest version, and which of its versions answer where."""
        stages: _Stages = await self._deployments.stages({model.name for model in models})
        active: dict[str, dict[str, int]] = {}
        for row in await self._deployments.all_active():
            active.setdefault(row.model_name, {})[row.environment] = row.version
        for model in models:
            model.latest_stage = _stage(stages, model.name, model.latest_version)
            model.active_versions.update(active.get(model.name, {}))


def _stage(stages: _Stages, name: str, version: int) -> ModelStage.ValueType:
    return stages.get((name, version), models_pb2.MODEL_STAGE_NONE)
