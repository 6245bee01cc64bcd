"""Deployments: which version to check for which environment, and the history of all that was decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import deployments_pb2, errors_pb2, jobs_pb2, models_pb2
from ml_platform.v1.deployments_pb2 import Deployment, DeploymentState, DeployModelRequest, ServingRuntime
from ml_platform.v1.models_pb2 import OnnxConversion
from ml_platform_server.backends.mlflow.artifacts import ModelDetails
from ml_platform_server.call import Call
from ml_platform_server.environments import DEFAULT, Environments
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.clock import Clock
from ml_platform_server.jobs.ids import derived_id
from ml_platform_server.jobs.jobs import Jobs, JobSpec, may_have_started
from ml_platform_server.jobs.ports import PolicyCheck, Registry
from ml_platform_server.settings import AirflowSettings
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.paging import Page
from ml_platform_server.store.policies import policy_of, stored
from ml_platform_server.store.tables import DeploymentRow, JobRow

log = structlog.get_logger(__name__)

STAND_IN = "BentoML executes it, as its ONNX graph cannot be used at present. The graph is tried again."


class Deployments:
    """Starts deployments and reads their history. The reconciler acts on their ends.

    Args:
        version_page: returns the link to a model version, from the model's name and the version's number.
        runtime_in_use: returns what executes the version of a deployment in this process; None if it is not served here.
        follow: waits, for a while, until this process serves active deployments; None if it serves none.
    """

    def __init__(
        self,
        *,
        records: DeploymentRecords,
        jobs: Jobs,
        registry: Registry,
        check_policy: PolicyCheck,
        settings: AirflowSettings,
        clock: Clock,
        environments: Environments = DEFAULT,
        version_page: Callable[[str, int], str],
        runtime_in_use: Callable[[str], ServingRuntime.ValueType | None] = lambda _: None,
        follow: Callable[[Collection[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._follow = follow
        self._version_page = version_page
        self._runtime_in_use = runtime_in_use
        self._records = records
        self._jobs = jobs
        self._registry = registry
        self._check_policy = check_policy
        self._settings = settings
        self._clock = clock
        self._environments = environments

    async def deploy(self, request: DeployModelRequest, call: Call) -> Deployment:
        """Start a deployment. The same principal and request id give the same deployment, unless that one has failed.

        Raises:
            PlatformError: INVALID_FIELDS, MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND, MODEL_WITHOUT_SIGNATURE,
                MODEL_ARTIFACT_MISSING, FEATURE_AMBIGUOUS, FEATURE_POLICY_INVALID, DEPLOYMENT_IN_PROGRESS, and what starting a
                pipeline raises; then the deployment stays in the history as failed.
        """
        self._environments.check(request.environment)
        principal, request_id = call.principal.name, request.request_id
        deployment_id = derived_id("dep", principal=principal, kind="deployment", request_id=request_id)
        known = await self._records.get(deployment_id)
        if known and known.state != deployments_pb2.DEPLOYMENT_STATE_FAILED:
            return await self._again(known)
        if known:
            # The call before failed, so this one is a new try, and the history keeps both.
            request_id = ""
            deployment_id = derived_id("dep", principal=principal, kind="deployment", request_id=request_id)
        details = await self._deployable(request.model_name, request.version)
        await self._check_policy(request.model_name, request.version, request.feature_policy)
        job, is_new = await self._jobs.record(self._check_of(request, deployment_id, principal, request_id))
        row = self._row(request, deployment_id, job, runtime_of(details.flavors))
        try:
            await self._records.begin(row)
        except PlatformError:
            if is_new:
                await self._jobs.forget(job.job_id)
            raise
        await self._start(row, job)
        return self._message_of(row)

    async def get(self, deployment_id: str) -> Deployment:
        """One deployment.

        Raises:
            PlatformError: DEPLOYMENT_NOT_FOUND.
        """
        row = await self._records.get(deployment_id)
        if row is None:
            raise PlatformError(
                errors_pb2.ERROR_REASON_DEPLOYMENT_NOT_FOUND,
                f"There is no deployment '{deployment_id}'.",
                remedy="Check the id; ListDeployments tells them all.",
                resource=("deployment", deployment_id),
            )
        await self._served([row])
        return self._told(row)

    async def list(
        self,
        page: Page,
        *,
        model_name: str = "",
        environment: str = "",
        state: DeploymentState.ValueType | None = None,
    ) -> tuple[list[Deployment], str]:
        """A page of the history, newest first, and the token of the next page.

        Raises:
            PlatformError: INVALID_FIELDS, PAGE_TOKEN_INVALID.
        """
        if environment:
            self._environments.check(environment)
        rows, token = await self._records.list(page, model_name=model_name, environment=environment, state=state)
        await self._served(rows)
        return page.shortened([self._told(row) for row in rows], token, rows, lambda row: (row.create_time, row.deployment_id))

    async def _served(self, rows: Sequence[DeploymentRow]) -> None:
        """Wait until this process serves what it is about to call active."""
        active = [row.deployment_id for row in rows if row.state == deployments_pb2.DEPLOYMENT_STATE_ACTIVE]
        if self._follow is not None and active:
            await self._follow(active)

    def _told(self, row: DeploymentRow) -> Deployment:
        """A deployment, with the runtime that executes it in this process at present, if it is served here."""
        deployment = self._message_of(row)
        in_use = self._runtime_in_use(row.deployment_id)
        if in_use is not None and in_use != deployment.runtime:
            if deployment.runtime == deployments_pb2.SERVING_RUNTIME_ONNX:
                deployment.message += f" {STAND_IN}"
            deployment.runtime = in_use
        return deployment

    def _message_of(self, row: DeploymentRow) -> Deployment:
        return message_of(row, self._version_page(row.model_name, row.version))

    async def _deployable(self, model_name: str, version: int) -> ModelDetails:
        details = await self._registry.details(model_name, version, fresh=True)
        if details.signature is None:
            raise PlatformError(
                errors_pb2.ERROR_REASON_MODEL_WITHOUT_SIGNATURE,
                f"Version {version} of '{model_name}' has no signature, so it is not known what it takes and gives.",
                remedy="Log the model again with signature= or input_example=, register it, and deploy that version.",
                resource=("model version", f"{model_name}/{version}"),
            )
        return details

    def _check_of(self, request: DeployModelRequest, deployment_id: str, principal: str, request_id: str) -> JobSpec:
        return JobSpec(
            kind=jobs_pb2.JOB_KIND_DEPLOYMENT,
            pipeline=self._settings.deployment_pipeline,
            conf={
                "deployment_id": deployment_id,
                "model_name": request.model_name,
                "version": request.version,
                "environment": request.environment,
            },
            principal=principal,
            request_id=request_id,
        )

    def _row(
        self, request: DeployModelRequest, deployment_id: str, job: JobRow, runtime: ServingRuntime.ValueType
    ) -> DeploymentRow:
        return DeploymentRow(
            deployment_id=deployment_id,
            model_name=request.model_name,
            version=request.version,
            environment=request.environment,
            state=deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS,
            message="Being checked; traffic has not moved.",
            actor=job.submitted_by,
            reason=request.reason,
            job_id=job.job_id,
            runtime=runtime,
            alias_mirrored=False,
            previous_deployment_id="",
            feature_policy=stored(request.feature_policy),
            create_time=self._clock.now(),
            activate_time=None,
            end_time=None,
        )

    async def _again(self, row: DeploymentRow) -> Deployment:
        if row.state == deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS:
            job = await self._jobs.get_row(row.job_id)
            await self._start(row, job)
        return self._message_of(row)

    async def _start(self, row: DeploymentRow, job: JobRow) -> None:
        try:
            await self._jobs.start(job)
        except PlatformError as error:
            if not may_have_started(error):
                await self._records.fail(row.deployment_id, f"Its checks could not start: {error.message}")
            raise
        log.info(
            "deployment_started",
            deployment_id=row.deployment_id,
            model_name=row.model_name,
            version=row.version,
            environment=row.environment,
            actor=row.actor,
        )


def runtime_of(flavors: Collection[str], onnx_conversion: OnnxConversion | None = None) -> ServingRuntime.ValueType:
    """What executes a version: ONNX models run in this process, and so do those that were converted; every other in BentoML's.

    Undecided before it was tried to convert the version, which its deployment does.
    """
    if "onnx" in flavors:
        return deployments_pb2.SERVING_RUNTIME_ONNX
    if onnx_conversion is None:
        return deployments_pb2.SERVING_RUNTIME_UNSPECIFIED
    if onnx_conversion.state == models_pb2.ONNX_CONVERSION_STATE_CONVERTED:
        return deployments_pb2.SERVING_RUNTIME_ONNX
    return deployments_pb2.SERVING_RUNTIME_BENTOML


def message_of(row: DeploymentRow, url: str) -> Deployment:
    """A deployment as the contract has it, with a link to its version."""
    deployment = Deployment(
        deployment_id=row.deployment_id,
        model_name=row.model_name,
        version=row.version,
        environment=row.environment,
        state=DeploymentState.ValueType(row.state),
        message=row.message,
        actor=row.actor,
        reason=row.reason,
        job_id=row.job_id,
        runtime=ServingRuntime.ValueType(row.runtime),
        previous_deployment_id=row.previous_deployment_id,
        feature_policy=policy_of(row),
        url=url,
    )
    _set(deployment.create_time, row.create_time)
    _set(deployment.activate_time, row.activate_time)
    _set(deployment.end_time, row.end_time)
    return deployment


def _set(target: Timestamp, moment: datetime | None) -> None:
    if moment is not None:
        target.FromDatetime(moment)
