"""The model registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_platform import rpcs
from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.records import Listing
from ml_platform.resources.models import ModelVersion, RegisteredModel, read_model, read_version
from ml_platform.v1 import models_pb2 as pb
from ml_platform.values import build, to_version


class AsyncModels:
    """The part of the client that deals with registered models."""

    _invoker: AsyncInvoker

    async def register_model(
        self,
        run_id: str,
        name: str,
        description: str | None = None,
        feature_service: str | None = None,
        feature_refs: Sequence[str] | None = None,
        *,
        logged_model_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> ModelVersion:
        """Make a new version of a registered model from the model that a run logged.

        Args:
            run_id: the run that logged the model.
            name: the registered model's name; it is made if there is none.
            description: what is particular to this version.
            feature_service: the feature service that the model was trained on. None takes what the run recorded.
            feature_refs: the features that the model was trained on, as "view:feature". None takes what the run recorded.
            logged_model_name: which of the run's models, by the name it was logged with, or by the logged model's id ("m-...") if
                two have one name; needed only if the run logged several.
            tags: free labels.
            request_id: makes a repeat of this call harmless.

        Returns:
            The version, with the status "registered".

        Raises:
            NotFound: there is no such run or feature service.
            FailedPrecondition: the run logged no model, or several and `logged_model_name` does not say which.

        Example:
            >>> model = await platform.register_model(run_id=job.best_run_id, name="fraud", description="more trees")
            >>> model.name, model.version
            ('fraud', 2)
        """
        request = build(
            pb.RegisterModelRequest,
            run_id=run_id,
            model_name=name,
            description=description,
            feature_service=feature_service,
            feature_refs=feature_refs,
            logged_model_name=logged_model_name,
            tags=tags,
            request_id=request_id,
        )
        return read_version((await self._invoker.call(rpcs.REGISTER_MODEL, request)).model_version)

    async def list_models(self, *, limit: int | None = None) -> Listing[RegisteredModel]:
        """The registered models, by name. `version` and `stage` tell the version in production, else in staging, else the newest.

        Example:
            >>> [(model.name, model.version, model.stage) for model in await platform.list_models()]
            [('fraud', 2, 'Staging')]
        """
        return await self._invoker.collect(
            rpcs.LIST_MODELS, pb.ListModelsRequest(), lambda page: page.models, read_model, limit=limit
        )

    async def get_model(self, name: str) -> RegisteredModel:
        """Look up a registered model.

        Raises:
            NotFound: there is no such model.

        Example:
            >>> (await platform.get_model("fraud")).production_version
            1
        """
        return read_model((await self._invoker.call(rpcs.GET_MODEL, build(pb.GetModelRequest, model_name=name))).model)

    async def list_model_versions(self, name: str, *, limit: int | None = None) -> Listing[ModelVersion]:
        """The versions of a registered model with their stages, newest first.

        Raises:
            NotFound: there is no such model.

        Example:
            >>> {version.version: version.stage for version in await platform.list_model_versions("fraud")}
            {2: 'Staging', 1: 'Production'}
        """
        request = build(pb.ListModelVersionsRequest, model_name=name)
        return await self._invoker.collect(
            rpcs.LIST_MODEL_VERSIONS, request, lambda page: page.model_versions, read_version, limit=limit
        )

    async def get_model_version(self, name: str, version: int) -> ModelVersion:
        """Look up one version with its signature and the features it was trained on.

        Raises:
            NotFound: there is no such model or version.

        Example:
            >>> version = await platform.get_model_version("fraud", 2)
            >>> [column.name for column in version.signature.inputs]
            ['amount', 'total_transactions']
        """
        request = build(pb.GetModelVersionRequest, model_name=name, version=to_version(version, "version"))
        return read_version((await self._invoker.call(rpcs.GET_MODEL_VERSION, request)).model_version)
