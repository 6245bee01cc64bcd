"""Which of a model's columns the feature store supplies, and by which keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import NamedTuple, Protocol

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.backends.feast.online import Cell, CellColumn, OnlinePlan, PlannedFeature
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.features.join_keys import JoinKeyExtractor
from ml_platform_server.serving.inputs.signature import Column, Convert

# What the feature store gives for a column of these types goes to the model as it is.
UNCONVERTED: Mapping[str, type] = {"double": float, "long": int, "string": str, "boolean": bool}


class FeatureReader(Protocol):
    """What the engine asks of the feature store."""

    async def plan(self, *, features: Sequence[str] = (), feature_service: str = "") -> OnlinePlan:
        """Resolve what to read."""
        ...

    def read(self, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> Coroutine[None, None, list[list[Cell]]]:
        """Read it for the entities that each row's join keys name."""
        ...

    async def read_columns(self, plan: OnlinePlan, entities: Mapping[str, Sequence[object]], count: int) -> list[CellColumn]:
        """Read it by columns, for so many entities: for each join key, their values."""
        ...


class Slot(NamedTuple):
    """A column that a feature supplies.

    Args:
        column: its position among the model's columns.
        place: the feature's position in the plan.
        exact: the type whose values need no conversion for this column.
        convert: makes a stored value one of the column's.
    """

    column: int
    place: int
    exact: type | None
    convert: Convert


def _exact_type(column: Column) -> type | None:
    return None if column.refusal is not None else UNCONVERTED.get(column.type)


class Binding:
    """A plan for the feature store, tied to the columns of one model.

    A column is called like its feature, or "view__feature". A plain name that several views have is tied to none of them, rather
    than to one by chance; deploying such a version is refused.

    Attributes:
        plan: what is read.
        features: per column position, the position of its feature in the plan.
        ambiguous: the positions of columns that are called like features of several views, with the references of these.
        aliases: per column position, the other names under which a caller may send the column: "view:feature", and
            "view__feature" for "feature" or the other way round.
        slots: the same columns, made ready for the filling of rows.
        order: their positions, growing.
        keys: takes the plan's join keys out of inputs.
        bare: how many inputs a caller sends who sends every other column, every join key, and nothing else.
    """

    def __init__(self, columns: Sequence[Column], plan: OnlinePlan) -> None:
        self.plan = plan
        self.features: dict[int, int] = {}
        self.aliases: dict[int, tuple[str, ...]] = {}
        self.ambiguous: Mapping[int, tuple[str, ...]] = _ambiguous(columns, plan)
        self._tie(columns)
        self.slots = tuple(
            Slot(at, self.features[at], _exact_type(columns[at]), columns[at].convert) for at in sorted(self.features)
        )
        self.order = [slot.column for slot in self.slots]
        self.keys = JoinKeyExtractor(plan.join_keys)
        names = {column.name for column in columns}
        self.bare = len(names) - len(self.order) + sum(key.name not in names for key in plan.join_keys)

    def _tie(self, columns: Sequence[Column]) -> None:
        full = {feature.column: at for at, feature in enumerate(self.plan.features)}
        shared = Counter(feature.name for feature in self.plan.features)
        short = {feature.name: at for at, feature in enumerate(self.plan.features) if shared[feature.name] == 1}
        names = {column.name for column in columns}
        for at, column in enumerate(columns):
            found = full.get(column.name, short.get(column.name))
            if found is None:
                continue
            self.features[at] = found
            feature = self.plan.features[found]
            other = feature.name if column.name in full else feature.column
            known = other in full or other in short
            self.aliases[at] = tuple(name for name in (_ref(feature), *([other] if known else ())) if name not in names)

    def feature(self, column: int) -> PlannedFeature:
        """The feature that supplies a column."""
        return self.plan.features[self.features[column]]

    def refs(self, columns: Sequence[int]) -> tuple[str, ...]:
        """The features that supply these columns, as "view:feature"."""
        return tuple(_ref(self.feature(column)) for column in columns)

    def looked_up_by(self, key: str, columns: Sequence[int]) -> list[int]:
        """Those of the columns whose features need this join key."""
        return [column for column in columns if key in self.feature(column).join_keys]

    def names(self) -> frozenset[str]:
        """Every name that an input may have on account of this binding."""
        keys = (key.name for key in self.plan.join_keys)
        return frozenset(keys).union(*self.aliases.values())

    def keyed_within(self, other: Binding) -> bool:
        """Whether every join key of this binding is one of the other's too."""
        return {key.name for key in self.plan.join_keys} <= {key.name for key in other.plan.join_keys}


async def resolve(version: models_pb2.ModelVersion, columns: Sequence[Column], reader: FeatureReader) -> Binding | None:
    """Find the features of a model version; None if it was trained on none.

    Only features that are columns of the model are read, where the feature store can be asked for them alone.
    """
    if not version.feature_service and not version.feature_refs:
        return None
    whole = Binding(columns, await _plan(version, reader))
    used = sorted(whole.features)
    return whole if not used or len(used) == len(whole.plan.features) else await narrowed(whole, used, columns, reader)


async def narrowed(whole: Binding, used: Sequence[int], columns: Sequence[Column], reader: FeatureReader) -> Binding:
    """The binding for some of the columns alone, or the whole one where a feature service renames views or keys."""
    try:
        part = Binding(columns, await reader.plan(features=whole.refs(used)))
    except PlatformError as error:
        if error.reason in (errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND, errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND):
            return whole
        raise
    # Asked for alone, a feature may look like the only one of its name.
    if not part.keyed_within(whole) or not set(used) <= set(part.features) <= set(whole.features):
        return whole
    part.ambiguous = whole.ambiguous
    return part


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


def _ambiguous(columns: Sequence[Column], plan: OnlinePlan) -> dict[int, tuple[str, ...]]:
    """The columns that may be one feature or another: several have the name, and not all are columns by their full names."""
    named = {column.name for column in columns}
    by_name: dict[str, list[PlannedFeature]] = {}
    for feature in plan.features:
        by_name.setdefault(feature.name, []).append(feature)
    return {
        at: tuple(map(_ref, candidates))
        for at, column in enumerate(columns)
        if len(candidates := by_name.get(column.name, [])) > 1 and not named.issuperset(each.column for each in candidates)
    }
