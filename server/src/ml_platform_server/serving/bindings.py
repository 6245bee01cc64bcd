"""Which of a model's columns the feature store supplies, and by which keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.backends.feast.online import Cell, OnlinePlan, PlannedFeature
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.columns import Column


class FeatureReader(Protocol):
    """What the engine asks of the feature store."""

    async def plan(self, *, features: Sequence[str] = (), feature_service: str = "") -> OnlinePlan:
        """Resolve what to read."""
        ...

    async def read(self, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
        """Read it for the entities that each row's join keys name."""
        ...


@dataclass(frozen=True, slots=True)
class Binding:
    """A plan for the feature store, tied to the columns of one model.

    `features` gives, per column position, the position of its feature in the plan. `aliases` gives the other name under which a
    caller may send the column: "view__feature" for "feature" and the other way round.
    """

    plan: OnlinePlan
    features: Mapping[int, int]
    aliases: Mapping[int, str]

    def feature(self, column: int) -> PlannedFeature:
        """The feature that supplies a column."""
        return self.plan.features[self.features[column]]

    def refs(self, columns: Sequence[int]) -> tuple[str, ...]:
        """The features that supply these columns, as "view:feature"."""
        return tuple(_ref(self.feature(column)) for column in columns)

    def names(self) -> frozenset[str]:
        """Every name that an input may have on account of this binding."""
        return frozenset(key.name for key in self.plan.join_keys) | frozenset(self.aliases.values())

    def keyed_within(self, other: Binding) -> bool:
        """Whether every join key of this binding is one of the other's too."""
        return {key.name for key in self.plan.join_keys} <= {key.name for key in other.plan.join_keys}


def bind(columns: Sequence[Column], plan: OnlinePlan) -> Binding:
    """Tie a plan to columns. A column is called like its feature, or "view__feature".

    A plain name that several views have is tied to none of them, rather than to one by chance.
    """
    full = {f"{feature.view}__{feature.name}": at for at, feature in enumerate(plan.features)}
    shared = Counter(feature.name for feature in plan.features)
    short = {feature.name: at for at, feature in enumerate(plan.features) if shared[feature.name] == 1}
    features: dict[int, int] = {}
    aliases: dict[int, str] = {}
    names = {column.name for column in columns}
    for at, column in enumerate(columns):
        found = full.get(column.name, short.get(column.name))
        if found is None:
            continue
        features[at] = found
        feature = plan.features[found]
        other = feature.name if column.name in full else f"{feature.view}__{feature.name}"
        if other not in names and (other in full or other in short):
            aliases[at] = other
    return Binding(plan, features, aliases)


async def resolve(version: models_pb2.ModelVersion, columns: Sequence[Column], reader: FeatureReader) -> Binding | None:
    """Find the features of a model version; None if it was trained on none.

    Only features that are columns of the model are read, where the feature store can be asked for them alone.
    """
    if not version.feature_service and not version.feature_refs:
        return None
    whole = bind(columns, await _plan(version, reader))
    used = sorted(whole.features)
    return whole if not used or len(used) == len(whole.plan.features) else await narrowed(whole, used, columns, reader)


async def narrowed(whole: Binding, used: Sequence[int], columns: Sequence[Column], reader: FeatureReader) -> Binding:
    """The binding for some of the columns alone, or the whole one where a feature service renames views or keys."""
    try:
        part = bind(columns, await reader.plan(features=whole.refs(used)))
    except PlatformError as error:
        if error.reason in (errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND, errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND):
            return whole
        raise
    return part if part.keyed_within(whole) and set(used) <= set(part.features) else whole


async def _plan(version: models_pb2.ModelVersion, reader: FeatureReader) -> OnlinePlan:
    if not version.feature_service:
        return await reader.plan(features=tuple(version.feature_refs))
    try:
        return await reader.plan(feature_service=version.feature_service)
    except PlatformError as error:
        if error.reason == errors_pb2.ERROR_REASON_FEATURE_SERVICE_NOT_FOUND and version.feature_refs:
            return await reader.plan(features=tuple(version.feature_refs))
        raise


def _ref(feature: PlannedFeature) -> str:
    return f"{feature.view}:{feature.name}"
