"""The stages that deployments give to versions."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import cast

from ml_platform.v1.models_pb2 import (
    MODEL_STAGE_ARCHIVED,
    MODEL_STAGE_NONE,
    MODEL_STAGE_PRODUCTION,
    ModelStage,
    ModelVersion,
    RegisteredModel,
)
from ml_platform_server.services.stages import Stages
from ml_platform_server.store.deployments import DeploymentRecords


class Records:
    """Deployments of fraud: version 1 was replaced, version 2 answers in production."""

    async def stages(self, model_names: Collection[str]) -> dict[tuple[str, int], ModelStage.ValueType]:
        known = {("fraud", 1): MODEL_STAGE_ARCHIVED, ("fraud", 2): MODEL_STAGE_PRODUCTION}
        return {key: stage for key, stage in known.items() if key[0] in model_names}

    async def all_active(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(model_name="fraud", environment="production", version=2)]


STAGES = Stages(deployments=cast("DeploymentRecords", Records()))


async def test_a_version_stands_where_its_deployments_put_it() -> None:
    """One that was never deployed stands nowhere, whatever its namesake of another model does."""
    versions = [
        ModelVersion(model_name=name, version=number) for name, number in (("fraud", 1), ("fraud", 2), ("fraud", 3), ("b", 1))
    ]
    await STAGES.set_versions(versions)
    assert [version.stage for version in versions] == [
        MODEL_STAGE_ARCHIVED,
        MODEL_STAGE_PRODUCTION,
        MODEL_STAGE_NONE,
        MODEL_STAGE_NONE,
    ]


async def test_a_model_tells_its_newest_version_s_stage_and_which_versions_answer() -> None:
    """By environment."""
    models = [RegisteredModel(name="fraud", latest_version=3), RegisteredModel(name="b", latest_version=1)]
    await STAGES.set_models(models)
    told = [(model.latest_stage, dict(model.active_versions)) for model in models]
    assert told == [(MODEL_STAGE_NONE, {"production": 2}), (MODEL_STAGE_NONE, {})]
