"""Routes a model name and an environment to the version that serves it, and swaps versions without dropping a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import structlog

from ml_platform.v1 import errors_pb2, predictions_pb2
from ml_platform_server.call import remaining
from ml_platform_server.environments import DEFAULT, Environments
from ml_platform_server.errors import PlatformError, within
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY, Policy, compiled
from ml_platform_server.serving.inputs.rows import Fields, Row
from ml_platform_server.serving.model import LoadedModel
from ml_platform_server.serving.routing.loader import LOAD_SECONDS, ModelLoader
from ml_platform_server.serving.routing.model_cache import Registry
from ml_platform_server.store.policies import policy_of
from ml_platform_server.store.tables import DeploymentRow

_log = structlog.get_logger(__name__)

Key = tuple[str, str]
T = TypeVar("T")
# Backoff after a version could not be loaded in the background.
RETRY_SECONDS = 5.0
# For one poll of the deployments: a store that hangs must not end the polling.
POLL_TIMEOUT = 30.0


class ActiveDeployments(Protocol):
    """What the router reads from the platform's store."""

    async def active(self, model_name: str, environment: str) -> DeploymentRow | None:
        """The active deployment of a model in an environment."""
        ...

    async def all_active(self) -> Sequence[DeploymentRow]:
        """All active deployments."""
        ...

    async def generation(self) -> int:
        """A number that increases with every activation."""
        ...


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A deployment and its loaded model. Deployments of one version share the model; each has its own policy.

    `response_prefix` is the encoded PredictResponse with the fields that all responses of the deployment have in common.
    """

    deployment_id: str
    model: LoadedModel
    policy: Policy = DEFAULT_POLICY
    response_prefix: bytes = field(init=False)

    def __post_init__(self) -> None:
        version = self.model.version
        common = predictions_pb2.PredictResponse(
            model_name=version.model_name, model_version=version.version, deployment_id=self.deployment_id
        )
        object.__setattr__(self, "response_prefix", common.SerializeToString())

    def with_params(self, params: Mapping[str, object]) -> ServedVersion:
        """The same version with params for its model. Raises INPUT_INVALID."""
        return replace(self, model=self.model.with_params(params)) if params else self

    def decode(self, fields: Fields) -> Row:
        """Decode the inputs of one request. Raises INPUT_INVALID."""
        return self.model.decode(fields, self.policy)


class Router:
    """Polls the active deployments and loads their versions.

    While a new version loads, and if it cannot be loaded, the previous one keeps serving.
    """

    def __init__(
        self,
        *,
        deployments: ActiveDeployments,
        registry: Registry,
        loader: ModelLoader,
        refresh_interval: float,
        environments: Environments = DEFAULT,
    ) -> None:
        self._deployments = deployments
        self._registry = registry
        self._loader = loader
        self._environments = environments
        self._refresh_interval = refresh_interval
        self._generation = -1
        # The deployments as last read, and how many times they were replaced: see `_read`.
        self._active: dict[Key, DeploymentRow] = {}
        self._writes = 0
        self._served: dict[Key, ServedVersion] = {}
        self._swaps: dict[str, asyncio.Task[None]] = {}
        self._retry_at: dict[str, float] = {}
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start polling; active versions are loaded in the background."""
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop polling and loading."""
        tasks = [task for task in (self._follower, *self._swaps.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self, model_name: str, environment: str) -> ServedVersion | None:
        """The version that serves a model in an environment, if it is loaded."""
        return self._served.get((model_name, environment))

    def serving(self, deployment_id: str) -> ServedVersion | None:
        """The loaded version of a deployment, if the deployment serves."""
        return next((served for served in self._served.values() if served.deployment_id == deployment_id), None)

    async def find(self, model_name: str, environment: str) -> ServedVersion:
        """The version that serves a model in an environment; loads it if necessary.

        Raises:
            PlatformError: INVALID_FIELDS for an unknown environment, MODEL_NOT_DEPLOYED, MODEL_NOT_FOUND, DEADLINE_EXCEEDED, and
                what ModelLoader.load gives.
        """
        served = self.ready(model_name, environment)
        if served is not None:
            return served
        self._environments.check(environment)
        # The store and the registry may hang, so the timeout covers the whole search, not only the loading.
        async with within(remaining(LOAD_SECONDS), f"Finding the version of the model {model_name!r}"):
            row = await self._read(lambda: self._deployments.active(model_name, environment))
            if row is None:
                raise await self._not_deployed(model_name, environment)
            self._active[model_name, environment] = row
            self._writes += 1
            return await self._serve(row)

    async def _read(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Read deployments from the store; again if `_active` was replaced meanwhile, which may be newer than the result."""
        while True:
            writes = self._writes
            # Shielded: a statement that has begun cannot be cancelled, and would keep a cancelled caller waiting.
            found = await asyncio.shield(_started(read()))
            if writes == self._writes:
                return found

    async def refresh(self) -> None:
        """Poll now, and wait until changed versions are swapped in or have failed to load."""
        await self._poll()
        await _waited_for(self._swaps.values())

    async def follow(self, deployment_ids: Collection[str]) -> None:
        """Wait until the versions of active deployments are swapped in or have failed to load. Returns at once if all serve."""
        if all(self.serving(each) is not None for each in deployment_ids):
            return
        await self._poll()
        await _waited_for(swap for each, swap in self._swaps.items() if each in deployment_ids)

    async def _follow(self) -> None:
        while True:
            try:
                async with within(POLL_TIMEOUT, "Reading the deployments"):
                    await self._poll()
            except Exception as error:  # noqa: BLE001  # a store that is down for a while must not end the polling
                _log.warning("deployments_not_read", error=repr(error)[:500])
            await asyncio.sleep(self._refresh_interval)

    async def _poll(self) -> None:
        generation = await asyncio.shield(_started(self._deployments.generation()))
        if generation != self._generation:
            # The generation was read first: a change in between is seen at the next poll.
            rows = await self._read(self._deployments.all_active)
            self._active = {(row.model_name, row.environment): row for row in rows}
            self._writes += 1
            self._generation = generation
            self._served = {key: served for key, served in self._served.items() if key in self._active}
            self._retry_at.clear()
        for key, row in self._active.items():
            served = self._served.get(key)
            if (
                served is None
                or served.deployment_id != row.deployment_id
                or (served.model.retry_at < time.monotonic() and row.deployment_id not in self._swaps)
            ):
                self._start_swap(row)

    def _start_swap(self, row: DeploymentRow) -> None:
        deployment_id = row.deployment_id
        if deployment_id in self._swaps or time.monotonic() < self._retry_at.get(deployment_id, 0.0):
            return
        task = self._swaps[deployment_id] = asyncio.create_task(self._swap(row))
        task.add_done_callback(lambda _: self._swaps.pop(deployment_id, None))

    async def _swap(self, row: DeploymentRow) -> None:
        log_fields = {"model": row.model_name, "version": row.version, "deployment_id": row.deployment_id}
        try:
            await self._serve(row)
        except PlatformError as error:
            self._retry_at[row.deployment_id] = time.monotonic() + RETRY_SECONDS
            _log.warning("version_not_served", reason=error.reason_name, **log_fields)
        except Exception:  # noqa: BLE001  # the next poll tries again, and other models keep serving
            self._retry_at[row.deployment_id] = time.monotonic() + RETRY_SECONDS
            _log.exception("version_not_served", **log_fields)
        else:
            _log.info("version_served", **log_fields)

    async def _serve(self, row: DeploymentRow) -> ServedVersion:
        model = await self._loader.load(row.model_name, row.version, row.runtime)
        served = ServedVersion(row.deployment_id, model, compiled(policy_of(row), model.columns))
        key = (row.model_name, row.environment)
        newest = self._active.get(key)
        if newest is not None and newest.deployment_id == row.deployment_id:
            self._served[key] = served
        return served

    async def _not_deployed(self, model_name: str, environment: str) -> PlatformError:
        """The error for a model without a deployment. Only here is the registry asked, and it may be down."""
        try:
            await self._registry.get(model_name)
        except PlatformError as error:
            if error.reason == errors_pb2.ERROR_REASON_MODEL_NOT_FOUND:
                return error
        return PlatformError(
            errors_pb2.ERROR_REASON_MODEL_NOT_DEPLOYED,
            f"No version of the model {model_name!r} is deployed to {environment}.",
            remedy="Deploy one with DeploymentService.DeployModel, and wait until the deployment is active.",
            resource=("model", model_name),
        )


async def _waited_for(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for tasks, which go on if nobody waits any more."""
    if waiting := list(tasks):
        await asyncio.wait(waiting)


def _started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose failure is not reported as lost when nobody waits for it any more."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
