"""What an online read needs to know beforehand: which features, of which types, by which keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ml_platform.v1.features_pb2 import FeatureStatus, ValueType
from ml_platform_server.backends.feast.keys import Column

if TYPE_CHECKING:
    from feast import FeatureService

    from ml_platform_server.backends.feast.direct import Direct

JoinKey = Column
"""A value that a read needs for each row: an entity's key, or an input of an on-demand feature view."""


@dataclass(frozen=True, slots=True)
class PlannedFeature:
    """One feature to read. The view is the name that the features are asked under: an alias, if a feature service gave it one.

    `join_keys` names those of the plan's keys that this feature is looked up by.
    """

    view: str
    name: str
    value_type: ValueType.ValueType
    join_keys: tuple[str, ...] = ()

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
        direct: the way past Feast, for a plan that is kept.
    """

    features: tuple[PlannedFeature, ...]
    join_keys: tuple[JoinKey, ...]
    source: FeatureService | list[str] = field(repr=False)
    max_ages: Mapping[str, float] = field(repr=False, default_factory=dict)
    direct: Direct | None = field(repr=False, compare=False, default=None)


class Cell(NamedTuple):
    """One value that was read: plain, or None; how it came about; and when it became true, in seconds since 1970."""

    value: object | None
    status: FeatureStatus.ValueType
    event_time: float | None
