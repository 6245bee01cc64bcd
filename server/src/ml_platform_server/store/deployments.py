"""Which version of a model answers where, and every move that led there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Select, Update, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ml_platform.v1 import deployments_pb2, errors_pb2, models_pb2
from ml_platform.v1.deployments_pb2 import DeploymentState, ServingRuntime
from ml_platform.v1.models_pb2 import ModelStage
from ml_platform_server.environments import PRODUCTION
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.database import Database
from ml_platform_server.store.paging import Page
from ml_platform_server.store.tables import DeploymentRow, GenerationRow

_IN_PROGRESS = deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS
_ACTIVE = deployments_pb2.DEPLOYMENT_STATE_ACTIVE
_FAILED = deployments_pb2.DEPLOYMENT_STATE_FAILED
_ARCHIVED = deployments_pb2.DEPLOYMENT_STATE_ARCHIVED
_THE_GENERATION = 1

_RANK = (
    models_pb2.MODEL_STAGE_NONE,
    models_pb2.MODEL_STAGE_ARCHIVED,
    models_pb2.MODEL_STAGE_STAGING,
    models_pb2.MODEL_STAGE_PRODUCTION,
)


class DeploymentRecords:
    """The deployments table and the generation that counts changes of what is active.

    Every change is conditional, so that of several servers that see the same end of a job exactly one makes it count.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def begin(self, row: DeploymentRow) -> None:
        """Keep a new deployment, in progress.

        Raises:
            PlatformError: DEPLOYMENT_IN_PROGRESS when one of this model to this environment is under way.
        """
        try:
            async with self._database.session() as session:
                session.add(row)
        except IntegrityError:
            raise PlatformError(
                errors_pb2.ERROR_REASON_DEPLOYMENT_IN_PROGRESS,
                f"A deployment of '{row.model_name}' to {row.environment} is under way.",
                remedy="Wait until it has ended (ListDeployments tells its job), then deploy again.",
                resource=("model", row.model_name),
            ) from None

    async def get(self, deployment_id: str) -> DeploymentRow | None:
        """One deployment."""
        async with self._database.session() as session:
            return await session.get(DeploymentRow, deployment_id)

    async def of_job(self, job_id: str) -> DeploymentRow | None:
        """The deployment that a job checks."""
        async with self._database.session() as session:
            return await session.scalar(select(DeploymentRow).where(DeploymentRow.job_id == job_id))

    async def list(
        self,
        page: Page,
        *,
        model_name: str = "",
        environment: str = "",
        state: DeploymentState.ValueType | None = None,
    ) -> tuple[list[DeploymentRow], str]:
        """A page of deployments, newest first, and the token of the next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        query = select(DeploymentRow)
        if model_name:
            query = query.where(DeploymentRow.model_name == model_name)
        if environment:
            query = query.where(DeploymentRow.environment == environment)
        if state:
            query = query.where(DeploymentRow.state == state)
        query = page.select(query, DeploymentRow.create_time, DeploymentRow.deployment_id)
        async with self._database.session() as session:
            rows = (await session.scalars(query)).all()
        return page.cut(rows, lambda row: (row.create_time, row.deployment_id))

    async def in_progress(self) -> Sequence[DeploymentRow]:
        """Every deployment that is being checked, the oldest first."""
        async with self._database.session() as session:
            query = select(DeploymentRow).where(DeploymentRow.state == _IN_PROGRESS).order_by(DeploymentRow.create_time)
            return (await session.scalars(query)).all()

    async def activate(
        self,
        deployment_id: str,
        runtime: ServingRuntime.ValueType = deployments_pb2.SERVING_RUNTIME_UNSPECIFIED,
        message: str = "Answers predictions.",
    ) -> bool:
        """Move traffic to a deployment and archive the one before it, in one transaction; False if it is not in progress.

        The runtime is what executes it; unspecified leaves what was decided when it began. The message is for a person.
        """
        now = datetime.now(UTC)
        async with self._database.session() as session:
            # The first statement writes, so that it takes the lock that keeps every other server out until the end.
            if not await _changes(session, _when(deployment_id, _IN_PROGRESS).values(message="")):
                return False
            row = await session.get_one(DeploymentRow, deployment_id)
            previous = await session.scalar(_active_of(row.model_name, row.environment))
            if previous:
                replaced = {"state": _ARCHIVED, "end_time": now, "message": f"Replaced by {deployment_id}."}
                await session.execute(_when(previous.deployment_id, _ACTIVE).values(**replaced))
            change = {
                "state": _ACTIVE,
                "activate_time": now,
                "message": message,
                "runtime": runtime or row.runtime,
            }
            previous_id = previous.deployment_id if previous else ""
            await session.execute(
                _when(deployment_id, _IN_PROGRESS).values(**change, previous_deployment_id=previous_id, alias_mirrored=False)
            )
            await _count_up(session)
        return True

    async def fail(self, deployment_id: str, message: str) -> bool:
        """End a deployment that did not pass its checks; False if it is not in progress."""
        change = _when(deployment_id, _IN_PROGRESS).values(state=_FAILED, message=message, end_time=datetime.now(UTC))
        async with self._database.session() as session:
            return await _changes(session, change)

    async def active(self, model_name: str, environment: str) -> DeploymentRow | None:
        """The deployment that answers for a model in an environment."""
        async with self._database.session() as session:
            return await session.scalar(_active_of(model_name, environment))

    async def all_active(self) -> Sequence[DeploymentRow]:
        """Every deployment that answers."""
        async with self._database.session() as session:
            return (await session.scalars(select(DeploymentRow).where(DeploymentRow.state == _ACTIVE))).all()

    async def count_active(self) -> int:
        """How many deployments answer."""
        query = select(func.count()).select_from(DeploymentRow).where(DeploymentRow.state == _ACTIVE)
        async with self._database.session() as session:
            return (await session.scalar(query)) or 0

    async def generation(self) -> int:
        """A number that grows whenever what is active changes."""
        async with self._database.session() as session:
            return (await session.scalar(select(GenerationRow.value).where(GenerationRow.id == _THE_GENERATION))) or 0

    async def stages(self, model_names: Collection[str]) -> dict[tuple[str, int], ModelStage.ValueType]:
        """The stage of each version of these models, by (model name, version); a version never deployed is left out.

        A version active in production and elsewhere stands in production; one that answers nowhere any more is archived.
        """
        query = (
            select(DeploymentRow.model_name, DeploymentRow.version, DeploymentRow.environment, DeploymentRow.state)
            .where(DeploymentRow.model_name.in_(model_names), DeploymentRow.state.in_([_ACTIVE, _ARCHIVED]))
            .distinct()
        )
        async with self._database.session() as session:
            rows = (await session.execute(query)).all()
        stages: dict[tuple[str, int], ModelStage.ValueType] = {}
        for name, version, environment, state in rows:
            before = stages.get((name, version), models_pb2.MODEL_STAGE_NONE)
            stages[name, version] = max(before, _stage(environment, state), key=_RANK.index)
        return stages

    async def unmirrored(self) -> Sequence[DeploymentRow]:
        """The active deployments that have no alias in the registry yet."""
        query = select(DeploymentRow).where(DeploymentRow.state == _ACTIVE, DeploymentRow.alias_mirrored.is_(False))
        async with self._database.session() as session:
            return (await session.scalars(query)).all()

    async def mark_mirrored(self, row: DeploymentRow) -> None:
        """Record that the registry's alias points to a deployment.

        If the deployment has meanwhile been replaced, we may have moved the alias back: then its successor's turn comes again.
        """
        async with self._database.session() as session:
            if not await _changes(session, _when(row.deployment_id, _ACTIVE).values(alias_mirrored=True)):
                successor = await session.scalar(_active_of(row.model_name, row.environment))
                if successor:
                    successor.alias_mirrored = False


def _when(deployment_id: str, state: DeploymentState.ValueType) -> Update:
    return update(DeploymentRow).where(DeploymentRow.deployment_id == deployment_id, DeploymentRow.state == state)


async def _changes(session: AsyncSession, change: Update) -> bool:
    return cast("CursorResult[Any]", await session.execute(change)).rowcount == 1


def _active_of(model_name: str, environment: str) -> Select[DeploymentRow]:
    return select(DeploymentRow).where(
        DeploymentRow.model_name == model_name, DeploymentRow.environment == environment, DeploymentRow.state == _ACTIVE
    )


async def _count_up(session: AsyncSession) -> None:
    counted = update(GenerationRow).where(GenerationRow.id == _THE_GENERATION).values(value=GenerationRow.value + 1)
    if not await _changes(session, counted):
        session.add(GenerationRow(id=_THE_GENERATION, value=1))


def _stage(environment: str, state: int) -> ModelStage.ValueType:
    if state != _ACTIVE:
        return models_pb2.MODEL_STAGE_ARCHIVED
    if environment == PRODUCTION:
        return models_pb2.MODEL_STAGE_PRODUCTION
    return models_pb2.MODEL_STAGE_STAGING
