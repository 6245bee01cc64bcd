"""Feature views and feature rows as people write them, turned into the contract's messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Union
from uuid import UUID

from ml_platform.dates import Day, to_duration, to_moment
from ml_platform.errors import invalid
from ml_platform.frames import as_mapping, as_rows, is_frame, rows_of
from ml_platform.resources.features import Entity, Feature, FileSource
from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform.values import build, is_missing, to_integer, to_struct

if TYPE_CHECKING:
    from pandas import DataFrame

TypeName = str | type
EntitySpecs = Mapping[str, TypeName] | Sequence[str | tuple[str, TypeName] | Entity]
FeatureSpecs = Mapping[str, TypeName] | Sequence[tuple[str, TypeName] | Feature]
Source = str | PurePath | FileSource
# A DataFrame is told by its methods: the client never imports pandas.
Rows = Union[Mapping[str, Any], Iterable[Mapping[str, Any]], "DataFrame"]
EntityKeys = Union[Mapping[str, Any], Iterable[Mapping[str, Any] | str | int], "DataFrame"]

_PYTHON_TYPES: dict[type, str] = {
    str: "string",
    int: "int64",
    float: "double",
    bool: "bool",
    bytes: "bytes",
    datetime: "timestamp",
}
_OTHER_WORDS = {"integer": "int64", "int": "int64", "float64": "double", "float32": "float", "boolean": "bool", "str": "string"}


def to_view(
    name: str,
    entities: EntitySpecs,
    features: FeatureSpecs,
    source: Source,
    *,
    timestamp_field: str,
    created_timestamp_column: str | None,
    ttl: float | timedelta | None,
    description: str | None,
    tags: Mapping[str, str] | None,
) -> features_pb2.FeatureView:
    """Make the message of a feature view."""
    if not isinstance(source, str | PurePath | FileSource):
        raise invalid("source", f"a path or a FileSource is wanted, not {type(source).__name__}")
    file = source if isinstance(source, FileSource) else FileSource(str(source), timestamp_field, created_timestamp_column or "")
    return build(
        features_pb2.FeatureView,
        name=name,
        entities=[_entity(item) for item in _pairs(entities, "entities")],
        features=[_feature(item) for item in _pairs(features, "features")],
        ttl=to_duration(ttl, "ttl"),
        source=build(features_pb2.FileSource, **file),
        tags=tags,
        description=description,
    )


def to_value_type(name: TypeName, field: str) -> ValueType.ValueType:
    """The value type of a word, in any case, or of a Python type: "int64", "DOUBLE", "string_list", float."""
    text = _PYTHON_TYPES.get(name, name.__name__) if isinstance(name, type) else str(name)
    text = _OTHER_WORDS.get(text.strip().lower(), text.strip().lower())
    try:
        number = ValueType.Value(f"VALUE_TYPE_{text.upper()}")
    except ValueError:
        number = features_pb2.VALUE_TYPE_UNSPECIFIED
    if not number:
        known = ", ".join(enum_name.removeprefix("VALUE_TYPE_").lower() for enum_name in ValueType.keys()[1:])
        raise invalid(field, f"{name!r} is not a type; there are {known}")
    return number


def to_rows(rows: Rows, *, timestamp_field: str) -> Iterator[features_pb2.FeatureRow]:
    """Make the messages of rows: one mapping, several, or a DataFrame. The time column becomes the row's event time."""
    for number, row in enumerate(_mappings(rows)):
        values = {str(name): None if is_missing(value) else value for name, value in row.items()}
        moment: Day | None = values.pop(timestamp_field, None)
        yield features_pb2.FeatureRow(
            values=to_struct(values, f"rows[{number}]"),
            event_time=None if moment is None else to_moment(moment, f"rows[{number}].{timestamp_field}"),
        )


def to_entity_keys(entity_id: str | int | None, entities: EntityKeys | None) -> list[features_pb2.EntityKey]:
    """Make the messages that tell which entities to read."""
    if (entity_id is None) == (entities is None):
        raise invalid("entity_id", "give either entity_id or entities")
    if entities is None:
        several = hasattr(entity_id, "__iter__") and not isinstance(entity_id, (str, bytes, Mapping))
        if several or is_frame(entity_id):
            raise invalid("entity_id", "one key is wanted; several go into entities")
        return [_entity_key(entity_id, "entity_id")]
    if is_frame(entities):
        return [_entity_key(row, "entities") for row in rows_of(entities, "entities")]
    if isinstance(entities, Mapping):
        if any(isinstance(value, (list, tuple)) for value in entities.values()):
            raise invalid("entities", "a mapping is one entity, with one value a join key; several are a list of mappings")
        return [_entity_key(entities, "entities")]
    if isinstance(entities, (str, bytes)) or not isinstance(entities, Iterable):
        raise invalid("entities", "a list of keys, or a DataFrame of them, is wanted; for a single one give entity_id")
    return [_entity_key(item, f"entities[{at}]") for at, item in enumerate(entities)]


def to_names(names: str | Sequence[str] | None) -> list[str]:
    """A list of names from one name or several."""
    if isinstance(names, str):
        return [names]
    if names is not None and not isinstance(names, Iterable):
        raise invalid("names", f"a name or a list of names is wanted, not {type(names).__name__}")
    return list(names or ())


def _pairs(items: object, field: str) -> list[Any]:
    if isinstance(items, str) or not isinstance(items, Iterable):
        raise invalid(field, "a mapping of names to types, or a list, is wanted")
    return list(items.items()) if isinstance(items, Mapping) else list(items)


def _entity(item: object) -> features_pb2.Entity:
    if isinstance(item, str):
        item = Entity(item)
    elif not isinstance(item, Entity):
        name, value_type = _pair(item, "entities")
        item = Entity(name, value_type=value_type)
    value_type = to_value_type(item.value_type, f"entities.{item.name}")
    return build(features_pb2.Entity, name=item.name, join_key=item.join_key or item.name, value_type=value_type)


def _feature(item: object) -> features_pb2.Feature:
    if not isinstance(item, Feature):
        item = Feature(*_pair(item, "features"))
    value_type = to_value_type(item.value_type, f"features.{item.name}")
    return build(features_pb2.Feature, name=item.name, value_type=value_type, description=item.description)


def _pair(item: Any, field: str) -> tuple[str, Any]:  # noqa: ANN401  # whatever was written as a pair
    try:
        name, value_type = item
    except (TypeError, ValueError):
        raise invalid(field, f"{item!r} is not a name with a type") from None
    return name, value_type


def _mappings(rows: Rows) -> Iterable[Mapping[str, Any]]:
    items = list(as_rows(rows, "rows"))
    if not items:
        raise invalid("rows", "at least one row is wanted")
    return items


def _entity_key(item: object, field: str) -> features_pb2.EntityKey:
    """The message of one entity: a row with its join keys, or the value of its only one."""
    number = to_integer(item)
    if number is not None or isinstance(item, (str, UUID)):
        return features_pb2.EntityKey(entity_id=str(item if number is None else number))
    if isinstance(item, Mapping) or hasattr(item, "to_dict") or hasattr(item, "_asdict"):
        return features_pb2.EntityKey(keys=to_struct(as_mapping(item, field), field))
    raise invalid(field, f"the value of a key is text or an integer, not {type(item).__name__}")
