"""Binds the columns of a model to the features that supply them and to the join keys of these features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import NamedTuple, Protocol

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.backends.feast.online import Cell, CellColumn, OnlinePlan, PlannedFeature
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.features.join_keys import JoinKeyExtractor
from ml_platform_server.serving.inputs.signature import Column, Convert

# Column types whose stored values need no conversion, with the Python type of such a value.
UNCONVERTED: Mapping[str, type] = {"double": float, "long": int, "string": str, "boolean": bool}


class FeatureReader(Protocol):
    """What the engine needs from a feature store."""

    async def plan(self, *, features: Sequence[str] = (), feature_service: str = "") -> OnlinePlan:
        """Resolve references ("view:feature") or a feature service to a plan."""
        ...

    def read(self, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> Coroutine[None, None, list[list[Cell]]]:
        """Read the features of a plan for N rows of join keys. Returns N lists with one cell per feature of the plan."""
        ...

    async def read_columns(self, plan: OnlinePlan, entities: Mapping[str, Sequence[object]], count: int) -> list[CellColumn]:
        """Read the features of a plan for `count` entities, given as `count` values per join key. One column per feature."""
        ...


class Slot(NamedTuple):
    """A column that a feature supplies.

    Args:
        column: position of the column in the model's signature.
        place: position of the feature in the plan.
        exact: the Python type whose values need no conversion; None if all values are converted.
        convert: converts a stored value to the column's type; raises CoercionError.
    """

    column: int
    place: int
    exact: type | None
    convert: Convert


def _exact_type(column: Column) -> type | None:
    return None if column.refusal is not None else UNCONVERTED.get(column.type)


class Binding:
    """A plan for the feature store, bound to the columns of one model.

    A column has the name of its feature, or "view__feature". A short name that features of several views share is bound to none
    of them; deploying such a version is refused.

    Attributes:
        plan: the features to read and their join keys.
        features: per column position, the position of its feature in the plan.
        ambiguous: per position of a column whose name several views have, the references of the candidate features.
        aliases: per column position, the other names under which a caller may send the column: "view:feature", and
            "view__feature" for "feature" or the reverse.
        slots: the columns that features supply, prepared for filling rows.
        order: the positions of these columns, ascending.
        keys: extracts the plan's join keys from inputs.
        bare: number of inputs in a request that sends all columns not supplied by features, all join keys, and nothing else.
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
        """The given columns whose features need this join key."""
        return [column for column in columns if key in self.feature(column).join_keys]

    def names(self) -> frozenset[str]:
        """The input names that this binding adds: join keys and aliases."""
        keys = (key.name for key in self.plan.join_keys)
        return frozenset(keys).union(*self.aliases.values())

    def keyed_within(self, other: Binding) -> bool:
        """Whether the join keys of this binding are a subset of the other's."""
        return {key.name for key in self.plan.join_keys} <= {key.name for key in other.plan.join_keys}


async def resolve(version: models_pb2.ModelVersion, columns: Sequence[Column], reader: FeatureReader) -> Binding | None:
    """Resolve the features of a model version; None if it was trained on none.

    The binding reads only features that are columns of the model, where the feature store can read them alone (see `narrowed`).

    Raises:
        PlatformError: as FeatureReader.plan raises it.
    """
    if not version.feature_service and not version.feature_refs:
        return None
    whole = Binding(columns, await _plan(version, reader))
    used = sorted(whole.features)
    return whole if not used or len(used) == len(whole.plan.features) else await narrowed(whole, used, columns, reader)


async def narrowed(whole: Binding, used: Sequence[int], columns: Sequence[Column], reader: FeatureReader) -> Binding:
    """A binding for the columns `used` only, or `whole` where a feature service renames views or join keys."""
    try:
        part = Binding(columns, await reader.plan(features=whole.refs(used)))
    except PlatformError as error:
        if error.reason in (errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND, errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND):
            return whole
        raise
    # In the smaller plan, a name that several features share may become unique.
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
    """Columns whose name several features share, unless all these features are also columns by their full names."""
    named = {column.name for column in columns}
    by_name: dict[str, list[PlannedFeature]] = {}
    for feature in plan.features:
        by_name.setdefault(feature.name, []).append(feature)
    return {
        at: tuple(map(_ref, candidates))
        for at, column in enumerate(columns)
        if len(candidates := by_name.get(column.name, [])) > 1 and not named.issuperset(each.column for each in candidates)
    }
