"""Feature views, and the online features that are read from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ml_platform.records import Record, to_pandas
from ml_platform.v1 import features_pb2
from ml_platform.values import NOT_FINITE, enum_name, from_output, from_value, to_datetime

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value
    from pandas import DataFrame

_INTEGERS = (features_pb2.VALUE_TYPE_INT32, features_pb2.VALUE_TYPE_INT64, features_pb2.VALUE_TYPE_INT64_LIST)
_FLOATS = (
    features_pb2.VALUE_TYPE_FLOAT,
    features_pb2.VALUE_TYPE_DOUBLE,
    features_pb2.VALUE_TYPE_FLOAT_LIST,
    features_pb2.VALUE_TYPE_DOUBLE_LIST,
)


@dataclass(frozen=True, slots=True, repr=False)
class Entity(Record):
    """A thing that features describe. `join_key` is the column with its key; empty means the same as the name."""

    name: str
    join_key: str = ""
    value_type: str = "string"


@dataclass(frozen=True, slots=True, repr=False)
class Feature(Record):
    """One typed column of a feature view."""

    name: str
    value_type: str
    description: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class FileSource(Record):
    """A Parquet file, or a folder of them, that the server and the pipelines can read."""

    path: str
    timestamp_field: str = "event_timestamp"
    created_timestamp_column: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class FeatureView(Record):
    """A set of features of the same entities from the same source. `ttl` is None if values never get old."""

    name: str
    entities: tuple[Entity, ...]
    features: tuple[Feature, ...]
    ttl: timedelta | None
    source: FileSource | None
    tags: dict[str, str]
    description: str
    create_time: datetime | None
    update_time: datetime | None
    materialized_until: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class Materialization(Record):
    """The loading of features into the online store.

    `status` is "materialized", or "submitted" if it was not waited for. The window that was asked for goes from `start_time` up
    to `end_time`, which is excluded: of a last day it is the midnight after it. Nothing later than the job itself is loaded.
    """

    status: str
    job_id: str
    feature_views: tuple[str, ...]
    start_time: datetime
    end_time: datetime
    message: str


@dataclass(frozen=True, slots=True, repr=False)
class SkippedRow(Record):
    """A row that a push did not write: its place among the rows given, and the event time of the row that the store keeps."""

    index: int
    newer_time: datetime


@dataclass(frozen=True, slots=True, repr=False)
class PushResult(Record):
    """What a push wrote.

    `row_count` rows are in the store now. `skipped_rows` were not written, because the store or the push has a newer row of the
    same entity.
    """

    status: str
    row_count: int
    skipped_count: int = 0
    skipped_rows: tuple[SkippedRow, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class FeatureValue(Record):
    """One feature of one entity.

    `status` is "present", "null_value", "not_found", "outside_max_age" or "from_request".
    """

    feature_view: str
    name: str
    value: Any
    status: str
    event_time: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class FeatureVector(Record):
    """Every feature asked for, of one entity, by name. A name that two views share is written `view__name`."""

    entity: dict[str, Any]
    features: dict[str, Any]
    statuses: dict[str, str]
    event_times: dict[str, datetime | None]


@dataclass(frozen=True, slots=True, repr=False)
class OnlineFeatures(Record):
    """Features read from the online store.

    `features`, `statuses` and `event_times` are those of the first entity asked for, by feature name; `vectors` holds every
    entity, in the order asked for.
    """

    entity: dict[str, Any]
    features: dict[str, Any]
    statuses: dict[str, str]
    event_times: dict[str, datetime | None]
    vectors: tuple[FeatureVector, ...]

    def to_pandas(self) -> DataFrame:
        """One row for each entity: its keys and its features."""
        return to_pandas({**vector.entity, **vector.features} for vector in self.vectors)


def read_view(message: features_pb2.FeatureView) -> FeatureView:
    """Make a feature view of its message."""
    return FeatureView(
        name=message.name,
        entities=tuple(Entity(e.name, e.join_key or e.name, _type(e.value_type)) for e in message.entities),
        features=tuple(Feature(f.name, _type(f.value_type), f.description) for f in message.features),
        ttl=message.ttl.ToTimedelta() or None,
        source=_source(message.source) if message.HasField("source") else None,
        tags=dict(message.tags),
        description=message.description,
        create_time=to_datetime(message, "create_time"),
        update_time=to_datetime(message, "update_time"),
        materialized_until=to_datetime(message, "materialized_until"),
    )


def read_online(message: features_pb2.GetOnlineFeaturesResponse) -> OnlineFeatures:
    """Make online features of the reply."""
    vectors = tuple(_vector(vector, message.key_types) for vector in message.vectors)
    first = vectors[0] if vectors else FeatureVector({}, {}, {}, {})
    return OnlineFeatures(
        entity=first.entity,
        features=first.features,
        statuses=first.statuses,
        event_times=first.event_times,
        vectors=vectors,
    )


def read_skipped(response: features_pb2.PushFeaturesResponse, first: int) -> Iterable[SkippedRow]:
    """The rows that a part of a push skipped; the part begins with the row `first`."""
    return (SkippedRow(first + row.index, row.newer_time.ToDatetime(tzinfo=UTC)) for row in response.skipped_rows)


def read_values(messages: Iterable[features_pb2.FeatureValue]) -> tuple[FeatureValue, ...]:
    """Make feature values of their messages."""
    return tuple(
        FeatureValue(
            feature_view=message.feature_view,
            name=message.name,
            value=_value(message.value, message.value_type),
            status=enum_name(features_pb2.FeatureStatus.Name, message.status, "FEATURE_STATUS_"),
            event_time=to_datetime(message, "event_time"),
        )
        for message in messages
    )


def _value(value: Value, value_type: features_pb2.ValueType.ValueType) -> Any:  # noqa: ANN401  # of any of the types
    """The value in its own type, whatever the number: JSON has one kind of number, and text for those that it does not hold."""
    if value_type in _INTEGERS:
        return from_output(value, integer=True)
    if value_type in _FLOATS:
        return from_output(value, integer=False, numbers=NOT_FINITE)
    return from_value(value)


def _vector(message: features_pb2.FeatureVector, key_types: Mapping[str, features_pb2.ValueType.ValueType]) -> FeatureVector:
    values = read_values(message.features)
    times_used = Counter(value.name for value in values)
    named = {v.name if times_used[v.name] == 1 else f"{v.feature_view}__{v.name}": v for v in values}
    return FeatureVector(
        entity={
            name: _value(value, key_types.get(name, features_pb2.VALUE_TYPE_UNSPECIFIED))
            for name, value in message.keys.fields.items()
        },
        features={name: value.value for name, value in named.items()},
        statuses={name: value.status for name, value in named.items()},
        event_times={name: value.event_time for name, value in named.items()},
    )


def _source(message: features_pb2.FileSource) -> FileSource:
    return FileSource(message.path, message.timestamp_field, message.created_timestamp_column)


def _type(number: features_pb2.ValueType.ValueType) -> str:
    return enum_name(features_pb2.ValueType.Name, number, "VALUE_TYPE_") if number else "string"
