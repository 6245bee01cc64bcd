"""Knows which version answers for a model in an environment, and swaps versions without dropping a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import structlog

from ml_platform.v1 import errors_pb2, predictions_pb2
from ml_platform.v1.deployments_pb2 import Environment
from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError, within
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY, Policy, compiled
from ml_platform_server.serving.inputs.rows import Fields, Row
from ml_platform_server.serving.model import LoadedModel
from ml_platform_server.serving.routing.loader import LOAD_SECONDS, ModelLoader
from ml_platform_server.serving.routing.model_cache import Registry
from ml_platform_server.store.policies import policy_of
from ml_platform_server.store.tables import DeploymentRow

_log = structlog.get_logger(__name__)

Key = tuple[str, int]
T = TypeVar("T")
# How long a version that could not be loaded is left alone in the background.
RETRY_SECONDS = 5.0
# How long one look at the deployments may take. A store that hangs must not end the following.
LOOK_SECONDS = 30.0


class ActiveDeployments(Protocol):
    """What the router asks of the platform's store."""

    async def active(self, model_name: str, environment: Environment.ValueType) -> DeploymentRow | None:
        """The deployment that answers."""
        ...

    async def all_active(self) -> Sequence[DeploymentRow]:
        """All of them."""
        ...

    async def generation(self) -> int:
        """A number that grows whenever one of them changes."""
        ...


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A deployment and the model that answers for it. Deployments of one version share the model, each has its own policy.

    `head` is what all its replies have in common, a PredictResponse on the wire.
    """

    deployment_id: str
    model: LoadedModel
    policy: Policy = DEFAULT_POLICY
    head: bytes = field(init=False)

    def __post_init__(self) -> None:
        version = self.model.version
        common = predictions_pb2.PredictResponse(
            model_name=version.model_name, model_version=version.version, deployment_id=self.deployment_id
        )
        object.__setattr__(self, "head", common.SerializeToString())

    def with_params(self, params: Mapping[str, object]) -> ServedVersion:
        """The same version with params for its model. Raises INPUT_INVALID."""
        return replace(self, model=self.model.with_params(params)) if params else self

    def decode(self, fields: Fields) -> Row:
        """Read one request's inputs. Raises INPUT_INVALID."""
        return self.model.decode(fields, self.policy)


class Router:
    """Follows the deployments. While a new version loads, and if it cannot be loaded, the one before it goes on answering."""

    def __init__(
        self, *, deployments: ActiveDeployments, registry: Registry, loader: ModelLoader, refresh_interval: float
    ) -> None:
        self._deployments = deployments
        self._registry = registry
        self._loader = loader
        self._refresh_interval = refresh_interval
        self._generation = -1
        # What the store answered last, and how often that was written down: see `_read`.
        self._active: dict[Key, DeploymentRow] = {}
        self._writes = 0
        self._served: dict[Key, ServedVersion] = {}
        self._swaps: dict[str, asyncio.Task[None]] = {}
        self._retry_at: dict[str, float] = {}
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start following the deployments; what is active is loaded in the background."""
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following."""
        tasks = [task for task in (self._follower, *self._swaps.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self, model_name: str, environment: Environment.ValueType) -> ServedVersion | None:
        """The version that answers, if it is loaded."""
        return self._served.get((model_name, environment))

    def serving(self, deployment_id: str) -> ServedVersion | None:
        """The version that answers for a deployment, if it does and is loaded."""
        return next((served for served in self._served.values() if served.deployment_id == deployment_id), None)

    async def find(self, model_name: str, environment: Environment.ValueType) -> ServedVersion:
        """The version that answers, loaded first if need be.

        Raises:
            PlatformError: MODEL_NOT_DEPLOYED, MODEL_NOT_FOUND, DEADLINE_EXCEEDED, and what ModelLoader.load gives.
        """
        served = self.ready(model_name, environment)
        if served is not None:
            return served
        # The store and the registry may hang, so the whole search has a limit, not only the loading.
        async with within(remaining(LOAD_SECONDS), f"Finding the version of the model {model_name!r}"):
            row = await self._read(lambda: self._deployments.active(model_name, environment))
            if row is None:
                raise await self._not_deployed(model_name, environment)
            self._active[model_name, environment] = row
            self._writes += 1
            return await self._serve(row)

    async def _read(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Read deployments from the store, again if others were written down meanwhile: those may be newer than what was read."""
        while True:
            writes = self._writes
            # Shielded, because a statement that has begun cannot be cancelled: whoever waits for it must not be kept by it.
            found = await asyncio.shield(_started(read()))
            if writes == self._writes:
                return found

    async def refresh(self) -> None:
        """Look at the deployments now, and wait until the versions that changed are swapped in or have failed to load."""
        await self._look()
        await _waited_for(self._swaps.values())

    async def follow(self, deployment_ids: Collection[str]) -> None:
        """Wait until the versions of active deployments are swapped in or have failed to load. At once if all are served."""
        if all(self.serving(each) is not None for each in deployment_ids):
            return
        await self._look()
        await _waited_for(swap for each, swap in self._swaps.items() if each in deployment_ids)

    async def _follow(self) -> None:
        while True:
            try:
                async with within(LOOK_SECONDS, "Reading the deployments"):
                    await self._look()
            except Exception as error:  # noqa: BLE001  # a store that is down for a while must not end the following
                _log.warning("deployments_not_read", error=repr(error)[:500])
            await asyncio.sleep(self._refresh_interval)

    async def _look(self) -> None:
        generation = await asyncio.shield(_started(self._deployments.generation()))
        if generation != self._generation:
            # The number was read first: what changes in between is seen at the next look.
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
        wanted = row.deployment_id
        if wanted in self._swaps or time.monotonic() < self._retry_at.get(wanted, 0.0):
            return
        task = self._swaps[wanted] = asyncio.create_task(self._swap(row))
        task.add_done_callback(lambda _: self._swaps.pop(wanted, None))

    async def _swap(self, row: DeploymentRow) -> None:
        facts = {"model": row.model_name, "version": row.version, "deployment_id": row.deployment_id}
        try:
            await self._serve(row)
        except PlatformError as error:
            self._retry_at[row.deployment_id] = time.monotonic() + RETRY_SECONDS
            _log.warning("version_not_served", reason=error.reason_name, **facts)
        except Exception:  # noqa: BLE001  # whatever it is, the next look tries again and the other models go on
            self._retry_at[row.deployment_id] = time.monotonic() + RETRY_SECONDS
            _log.exception("version_not_served", **facts)
        else:
            _log.info("version_served", **facts)

    async def _serve(self, row: DeploymentRow) -> ServedVersion:
        model = await self._loader.load(row.model_name, row.version, row.runtime)
        served = ServedVersion(row.deployment_id, model, compiled(policy_of(row), model.columns))
        key = (row.model_name, row.environment)
        newest = self._active.get(key)
        if newest is not None and newest.deployment_id == row.deployment_id:
            self._served[key] = served
        return served

    async def _not_deployed(self, model_name: str, environment: Environment.ValueType) -> PlatformError:
        """The error for a model without a deployment. Only here is the registry asked, and it may be down."""
        try:
            await self._registry.get(model_name)
        except PlatformError as error:
            if error.reason == errors_pb2.ERROR_REASON_MODEL_NOT_FOUND:
                return error
        name = Environment.Name(environment).removeprefix("ENVIRONMENT_").lower()
        return PlatformError(
            errors_pb2.ERROR_REASON_MODEL_NOT_DEPLOYED,
            f"No version of the model {model_name!r} is deployed to {name}.",
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
