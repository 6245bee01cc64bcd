"""Feature views as the contract has them and as Feast has them. Imports Feast: only for the pool."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from feast import Entity, FeatureView, Field, FileSource
from feast.base_feature_view import BaseFeatureView
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.value_type import ValueType as FeastValueType
from google.protobuf import timestamp_pb2

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.types import FEAST_TYPES, value_type_named


def view_message(view: BaseFeatureView, entities: Mapping[str, Entity]) -> features_pb2.FeatureView:
    """A feature view of any kind. What its kind does not have is left out: an on-demand view has neither entities nor source."""
    message = features_pb2.FeatureView(
        name=view.name,
        entities=entity_messages(view, entities),
        features=[
            features_pb2.Feature(name=field.name, value_type=value_type_named(_type_name(field)), description=field.description)
            for field in view.features
        ],
        source=_source_message(view),
        tags=view.tags,
        description=view.description,
        create_time=_timestamp(view.created_timestamp),
        update_time=_timestamp(view.last_updated_timestamp),
        materialized_until=_timestamp(max((end for _, end in getattr(view, "materialization_intervals", ())), default=None)),
    )
    ttl = getattr(view, "ttl", None)
    if ttl:
        message.ttl.FromTimedelta(ttl)
    return message


def entity_messages(view: BaseFeatureView, entities: Mapping[str, Entity]) -> list[features_pb2.Entity]:
    """The entities of a view, with the types that the view's schema gives their keys."""
    types = {column.name: _type_name(column) for column in getattr(view, "entity_columns", ())}
    named = [entities[name] for name in getattr(view, "entities", None) or () if name != DUMMY_ENTITY_NAME and name in entities]
    return [
        features_pb2.Entity(
            name=entity.name,
            join_key=entity.join_key,
            value_type=value_type_named(types.get(entity.join_key, entity.value_type.name)),
        )
        for entity in named
    ]


def without_times(view: features_pb2.FeatureView) -> features_pb2.FeatureView:
    """A copy of what a caller defines: without what Feast adds."""
    bare = features_pb2.FeatureView()
    bare.CopyFrom(view)
    for field in ("create_time", "update_time", "materialized_until"):
        bare.ClearField(field)
    if not bare.ttl.ToNanoseconds():
        bare.ClearField("ttl")
    return bare


def sorted_definition(view: features_pb2.FeatureView) -> features_pb2.FeatureView:
    """What makes a view this one and no other: the order of its features does not."""
    bare = without_times(view)
    bare.entities.sort(key=lambda entity: entity.name)
    bare.features.sort(key=lambda feature: feature.name)
    return bare


def feast_entity(entity: features_pb2.Entity) -> Entity:
    """An entity as Feast has it."""
    value_type: FeastValueType = FEAST_TYPES[entity.value_type].to_value_type()
    return Entity(name=entity.name, join_keys=[entity.join_key], value_type=value_type)


def feast_view(view: features_pb2.FeatureView) -> FeatureView:
    """A feature view as Feast has it, with a source of its own."""
    keys = [Field(name=entity.join_key, dtype=FEAST_TYPES[entity.value_type]) for entity in view.entities]
    features = [
        Field(name=feature.name, dtype=FEAST_TYPES[feature.value_type], description=feature.description)
        for feature in view.features
    ]
    source = FileSource(
        name=f"{view.name}_source",
        path=view.source.path,
        file_format=ParquetFormat(),
        timestamp_field=view.source.timestamp_field,
        created_timestamp_column=view.source.created_timestamp_column,
    )
    return FeatureView(
        name=view.name,
        entities=[feast_entity(entity) for entity in view.entities],
        schema=[*keys, *features],
        source=source,
        ttl=view.ttl.ToTimedelta() if view.HasField("ttl") else timedelta(0),
        tags=dict(view.tags),
        description=view.description,
    )


def _source_message(view: BaseFeatureView) -> features_pb2.FileSource | None:
    source = getattr(view, "batch_source", None)
    if not isinstance(source, FileSource):
        return None
    return features_pb2.FileSource(
        path=source.path,
        timestamp_field=source.timestamp_field or "",
        created_timestamp_column=source.created_timestamp_column or "",
    )


def _type_name(field: Field) -> str:
    name: str = field.dtype.to_value_type().name
    return name


def _timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    if moment is None:
        return None
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)  # Feast's times without a zone are in UTC, as here.
    return stamp
