"""What an online read needs to know beforehand: which features, of which types, by which keys."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import FeatureStatus, ValueType
from ml_platform_server.backends.feast.keys import Column

if TYPE_CHECKING:
    from feast import FeatureService

Row = Mapping[str, object]
"""The plan's join keys as plain values; it may hold more."""

JoinKey = Column
"""A value that a read needs for each row: an entity's key, or an input of an on-demand feature view."""


@dataclass(frozen=True, slots=True)
class PlannedFeature:
    """One feature to read.

    Args:
        view: the name that the features are asked under: an alias, if a feature service gave it one.
        name: its own name.
        value_type: its type, as the registry has it.
        join_keys: those of the plan's keys that this feature is looked up by.
        stored_as: the field of Feast's Value that holds its values; "" if any may, as for features that are computed.
        inputs: the stored features that it is computed from; None if it is stored itself.
    """

    view: str
    name: str
    value_type: ValueType.ValueType
    join_keys: tuple[str, ...] = ()
    stored_as: str = ""
    inputs: tuple[PlannedFeature, ...] | None = None

    @property
    def column(self) -> str:
        """The name of its column where views are mixed: "view__feature"."""
        return f"{self.view}__{self.name}"


@dataclass(frozen=True, slots=True)
class OnlinePlan:
    """A read, resolved against the registry once and then used for many rows.

    Args:
        features: what a read returns, in this order.
        join_keys: what each row must bring.
        source: what Feast is asked for: its feature service, or a list of references.
        max_ages: seconds after which the values of a view are stale, by the view's name; views without are fresh for ever.
        inputs: the read of the stored features that others are computed from, if any are: a value is as old as they are.
        kept: what is kept up to date of a plan that is used for long.
    """

    features: tuple[PlannedFeature, ...]
    join_keys: tuple[JoinKey, ...]
    source: FeatureService | list[str] = field(repr=False)
    max_ages: Mapping[str, float] = field(repr=False, default_factory=dict)
    inputs: OnlinePlan | None = field(repr=False, default=None)
    kept: KeptPlan | None = field(repr=False, compare=False, default=None)


class KeptPlan:
    """A plan that follows the registry, and what reads it: both may be replaced whenever the registry changes.

    Attributes:
        plan: the features of the plan it was made for, with the types, keys and ages that the registry has now.
        reader: what reads them.
        generation: the state of the registry that both were derived from.
    """

    __slots__ = ("__weakref__", "generation", "plan", "reader")

    def __init__(self, plan: OnlinePlan, reader: StoreReader) -> None:
        self.plan = plan
        self.reader = reader
        self.generation = -1


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a stored value that has no counterpart in Python: no model and no reply can take it.

    Args:
        problem: completes "the stored value ...".
    """

    problem: str


class Cell(NamedTuple):
    """One value that was read: plain, or None; how it came about; and when it became true, in seconds since 1970."""

    value: object | None
    status: FeatureStatus.ValueType
    event_time: float | None


OTHER_TYPE: Final = object()
"""Read in place of a stored value that is not of its feature's type: one that was written under an earlier definition."""

NEVER_WRITTEN = Cell(None, features_pb2.FEATURE_STATUS_NOT_FOUND, None)
"""What the store does not have for an entity, at least not of the feature's type."""


class CellColumn(NamedTuple):
    """The values of one feature for many entities, and how each came about: as many cells, but for their event times.

    The values are an array where all are there and are numbers, or truth values, of one kind; else a list, in which a missing one
    is None.
    """

    values: npt.NDArray[Any] | Sequence[object | None]
    statuses: Sequence[FeatureStatus.ValueType]


class StoreReader(Protocol):
    """Reads the features of one plan from the online store. It is chosen when the plan is derived, not at each read."""

    def read(self, rows: Sequence[Row]) -> Coroutine[None, None, list[list[Cell]]]:
        """One list of cells a row, aligned with the plan's features.

        Raises:
            PlatformError: ENTITY_MISMATCH, FEATURE_VALUE_INVALID; FEATURE_NOT_FOUND if the features have changed since; and
                what keeps the store from answering.
        """

    def read_columns(self, entities: Mapping[str, Sequence[object]], count: int) -> Coroutine[None, None, list[CellColumn]]:
        """One column a feature for so many entities, no two of them alike: for each of the plan's join keys, their values.

        Raises:
            PlatformError: as `read`.
        """


def by_column(rows: Sequence[Sequence[Cell]], features: int) -> list[CellColumn]:
    """The cells of rows, of so many features each, feature by feature."""
    columns = list(zip(*rows, strict=True)) or [()] * features
    return [CellColumn([cell.value for cell in column], [cell.status for cell in column]) for column in columns]


def joined(parts: Sequence[CellColumn]) -> CellColumn:
    """One column out of its parts, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    statuses = [status for part in parts for status in part.statuses]
    arrays = [part.values for part in parts if isinstance(part.values, np.ndarray)]
    if len(arrays) == len(parts) and len({array.dtype for array in arrays}) == 1:
        return CellColumn(np.concatenate(arrays), statuses)
    return CellColumn([value for part in parts for value in listed(part.values)], statuses)


def listed(values: npt.NDArray[Any] | Sequence[object | None]) -> list[object | None]:
    """The values of a column as Python has them."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)
