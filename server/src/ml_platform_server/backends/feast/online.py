"""Online features: plan a read once, then read it for many rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakSet

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast import errors, keys
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.feast_reader import FeastReader, read_in_pool
from ml_platform_server.backends.feast.plan import (
    Cell,
    CellColumn,
    JoinKey,
    KeptPlan,
    OnlinePlan,
    PlannedFeature,
    Row,
    StoreReader,
    Unreadable,
)
from ml_platform_server.backends.feast.redis.layout import Layout
from ml_platform_server.backends.feast.redis.reader import RedisReader
from ml_platform_server.backends.feast.registry.views import looked_up
from ml_platform_server.errors import PlatformError, invalid
from ml_platform_server.struct_values import plain_fields, to_feature_value, to_struct

if TYPE_CHECKING:
    from feast import FeatureStore

__all__ = ["Cell", "CellColumn", "JoinKey", "OnlineFeatures", "OnlinePlan", "PlannedFeature"]


class OnlineFeatures:
    """What FeatureService and the prediction engine ask of the online store.

    Args:
        backend: the connection to Feast.
    """

    def __init__(self, *, backend: FeastBackend) -> None:
        self._backend = backend
        self._kept: WeakSet[KeptPlan] = WeakSet()
        backend.follow(self._derive_again)

    async def plan(self, *, features: Sequence[str] = (), feature_service: str = "") -> OnlinePlan:
        """Resolve features, each as "view:feature" or "view" for all of a view, or those of a feature service.

        Raises:
            PlatformError: FEATURE_VIEW_NOT_FOUND, FEATURE_NOT_FOUND, FEATURE_SERVICE_NOT_FOUND; INVALID_FIELDS unless
                exactly one of the two is given.
        """
        plan = await self._planned(features, feature_service)
        kept = KeptPlan(plan, FeastReader(self._backend, plan))
        self._kept.add(kept)
        await self._derive(kept)
        return dataclasses.replace(plan, kept=kept)

    async def check(self, *, features: Sequence[str] = (), feature_service: str = "") -> None:
        """Make sure that whatever is named exists; nothing named is fine.

        Raises:
            PlatformError: as `plan` does.
        """
        if feature_service:
            await self._planned((), feature_service)
        if features:
            await self._planned(features, "")

    def read(self, plan: OnlinePlan, rows: Sequence[Row]) -> Coroutine[None, None, list[list[Cell]]]:
        """Read the plan's features for each row; a row holds the plan's join keys as plain values, and may hold more.

        Returns:
            One list of cells a row, aligned with the plan's features.

        Raises:
            PlatformError: ENTITY_MISMATCH, FEATURE_VALUE_INVALID; FEATURE_NOT_FOUND if the features have changed since.
        """
        return self._reader(plan).read(rows)

    def read_columns(
        self, plan: OnlinePlan, entities: Mapping[str, Sequence[object]], count: int
    ) -> Coroutine[None, None, list[CellColumn]]:
        """Read the plan's features for so many entities, no two of them alike: for each of the plan's join keys, their values.

        Returns:
            One column a feature, aligned with the plan's features; what `read` gives, but for the event times.

        Raises:
            PlatformError: as `read` does.
        """
        return self._reader(plan).read_columns(entities, count)

    def _reader(self, plan: OnlinePlan) -> StoreReader:
        return plan.kept.reader if plan.kept is not None else FeastReader(self._backend, plan)

    async def get(self, request: features_pb2.GetOnlineFeaturesRequest) -> features_pb2.GetOnlineFeaturesResponse:
        """Read what a request asks for, in the order it asks.

        Raises:
            PlatformError: as `plan` and `read` do.
        """
        plan = await self._planned(request.features, request.feature_service)
        return await self._backend.call(_answer, plan, request)

    async def _planned(self, features: Sequence[str], feature_service: str) -> OnlinePlan:
        """A plan that is read by Feast."""
        if bool(features) == bool(feature_service):
            raise invalid("features", "give either features or a feature service")
        return await looked_up(self._backend, lambda: self._backend.call(_plan, features, feature_service))

    async def _derive_again(self) -> None:
        """The registry may have changed, and with it what the plans are to read."""
        for kept in list(self._kept):
            if kept.generation != self._backend.generation:
                await self._derive(kept)

    async def _derive(self, kept: KeptPlan) -> None:
        generation = self._backend.generation
        try:
            plan, layout = await self._backend.call(_derive, kept.plan)
        except PlatformError:
            kept.reader = FeastReader(self._backend, kept.plan)  # Until the next refresh.
            return
        if generation >= kept.generation:  # A later one may have been quicker.
            kept.plan, kept.generation = plan, generation
            kept.reader = FeastReader(self._backend, plan) if layout is None else RedisReader(self._backend, plan, layout)


def _row(plan: OnlinePlan, entity: features_pb2.EntityKey, where: str) -> dict[str, object]:
    """The keys of one entity, in their types."""
    given = plain_fields(entity.keys)
    if bool(given) and bool(entity.entity_id):
        raise invalid(where, "give either keys or entity_id")
    if entity.entity_id:
        if len(plan.join_keys) != 1:
            names = [key.name for key in plan.join_keys]
            raise errors.entity_mismatch(where, names, "entity_id stands for one key, and these features have several or none")
        given = {plan.join_keys[0].name: entity.entity_id}
    return keys.key_values(plan.join_keys, given, where, strict=True)


def _vector(plan: OnlinePlan, row: Row, cells: Sequence[Cell]) -> features_pb2.FeatureVector:
    pairs = zip(plan.features, cells, strict=True)
    return features_pb2.FeatureVector(keys=to_struct(row), features=[feature_value(*pair) for pair in pairs])


def feature_value(feature: PlannedFeature, cell: Cell) -> features_pb2.FeatureValue:
    """A value that was read, as the contract has it.

    Raises:
        PlatformError: FEATURE_VALUE_INVALID for a stored value that nothing in the contract stands for.
    """
    if isinstance(cell.value, Unreadable):
        raise errors.stored_unreadable(f"{feature.view}:{feature.name}", cell.value.problem)
    message = features_pb2.FeatureValue(
        feature_view=feature.view,
        name=feature.name,
        value=to_feature_value(cell.value),
        status=cell.status,
        value_type=feature.value_type,
    )
    if cell.event_time is not None:
        message.event_time.FromNanoseconds(round(cell.event_time * 1e6) * 1000)
    return message


# Each of these runs in the pool, where importing Feast may take its seconds and a big answer its milliseconds.


def _plan(store: FeatureStore, features: Sequence[str], feature_service: str) -> OnlinePlan:
    from ml_platform_server.backends.feast import resolve  # noqa: PLC0415  # see above

    return resolve.plan_service(store, feature_service) if feature_service else resolve.plan_features(store, features)


def _derive(store: FeatureStore, plan: OnlinePlan) -> tuple[OnlinePlan, Layout | None]:
    """The plan as the registry has it now, and its layout."""
    from ml_platform_server.backends.feast import resolve  # noqa: PLC0415  # see above
    from ml_platform_server.backends.feast.redis import derive  # noqa: PLC0415  # see above

    try:
        current = resolve.anew(store, plan)
    except Exception:  # noqa: BLE001  # Feast's own read says what is wrong.
        return plan, None
    return current, derive.derive(store, current)


def _answer(
    store: FeatureStore, plan: OnlinePlan, request: features_pb2.GetOnlineFeaturesRequest
) -> features_pb2.GetOnlineFeaturesResponse:
    rows = [_row(plan, entity, f"entities[{index}]") for index, entity in enumerate(request.entities)]
    read = read_in_pool(store, plan, rows) if rows else []
    vectors = [_vector(plan, row, cells) for row, cells in zip(rows, read, strict=True)]
    key_types = {key.name: key.value_type for key in plan.join_keys}
    return features_pb2.GetOnlineFeaturesResponse(vectors=vectors, key_types=key_types)
