"""Resolves features against the registry. Imports Feast: only for the pool."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, OnDemandFeatureView, utils
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.feature_view_projection import FeatureViewProjection

from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast import errors
from ml_platform_server.backends.feast.plan import JoinKey, OnlinePlan, PlannedFeature
from ml_platform_server.backends.feast.types import stored_as, value_type_named

View = FeatureView | OnDemandFeatureView


def plan_features(store: FeatureStore, features: Sequence[str]) -> OnlinePlan:
    """The plan for features written as "view:feature", or as "view" for all of a view.

    Raises:
        PlatformError: FEATURE_VIEW_NOT_FOUND, FEATURE_NOT_FOUND.
    """
    planned = list(dict.fromkeys(found for ref in features for found in _named(store, ref)))
    refs = [f"{feature.view}:{feature.name}" for feature in planned]
    return _plan(store, planned, refs)


def plan_service(store: FeatureStore, name: str) -> OnlinePlan:
    """The plan for all features of a feature service.

    Raises:
        PlatformError: FEATURE_SERVICE_NOT_FOUND.
    """
    try:
        service = copy.copy(store.registry.get_feature_service(name, store.project, allow_cache=True))
    except Exception as error:
        raise errors.service_not_found(name) if errors.says_missing(error) else error from error
    # Vectors computed beforehand miss what was pushed since; the features themselves do not.
    service.precompute_online = False
    planned = [
        _planned(_asked_as(projection), field) for projection in service.feature_view_projections for field in projection.features
    ]
    return _plan(store, planned, service)


def _named(store: FeatureStore, ref: str) -> list[PlannedFeature]:
    view_name, _, feature_name = ref.partition(":")
    try:
        view = store.registry.get_any_feature_view(view_name, store.project, allow_cache=True)
    except Exception as error:
        raise errors.view_not_found(view_name) if errors.says_missing(error) else error from error
    fields = {field.name: field for field in view.features}
    if feature_name and feature_name not in fields:
        raise errors.feature_not_found(view_name, feature_name, fields)
    wanted = [fields[feature_name]] if feature_name else fields.values()
    return [_planned(view_name, field) for field in wanted]


def _asked_as(projection: FeatureViewProjection) -> str:
    """The name that a view's features are asked under: its alias, if a feature service gave it one."""
    name: str = projection.name_to_use()  # type: ignore[no-untyped-call]  # Feast's types have gaps
    return name


def _planned(view: str, field: Field) -> PlannedFeature:
    return PlannedFeature(view, field.name, _value_type(field), stored_as=stored_as(field.dtype))


def _value_type(field: Field) -> ValueType.ValueType:
    return value_type_named(field.dtype.to_value_type().name)


def anew(store: FeatureStore, plan: OnlinePlan) -> OnlinePlan:
    """The same plan with the types, keys and ages that the registry has now; the features stay in their order.

    Raises:
        Exception: whatever Feast raises when something that the plan names is gone.
    """
    return replace(_plan(store, plan.features, plan.source), source=plan.source)


def _plan(store: FeatureStore, planned: Iterable[PlannedFeature], source: FeatureService | list[str]) -> OnlinePlan:
    # Feast's own resolution: it knows aliases, and the views that on-demand views are computed from.
    # It must not hide the entity that stands for none: it would do so in objects that the registry's cache hands to everybody.
    views, on_demand = utils._get_feature_views_to_use(
        store.registry, store.project, source, allow_cache=True, hide_dummy_entity=False
    )
    entities = {entity.name: entity for entity in store.registry.list_entities(store.project, allow_cache=True)}
    keyed: list[View] = [*views, *_stored(on_demand)]
    keys = [key for view in keyed for key in _keys(view, entities)]
    by_view = {_asked_as(view.projection): [key.name for key in _keys(view, entities)] for view in keyed}
    by_view = {_asked_as(view.projection): _computed_by(view, by_view) for view in on_demand} | by_view
    inputs = [_input(field) for view in on_demand for request in view.source_request_sources.values() for field in request.schema]
    ages = {_asked_as(view.projection): view.ttl.total_seconds() for view in views if isinstance(view, FeatureView) and view.ttl}
    # Feast takes whichever key comes last for a view's own, so the names that a feature service gave to keys come last.
    renamed = {name for view in views for name in view.projection.join_key_map.values()}
    in_order = sorted([*keys, *inputs], key=lambda key: key.name in renamed)
    found: list[View] = [*views, *on_demand]
    known = {_asked_as(view.projection): view for view in found}
    features = tuple(_resolved(feature, known, by_view) for feature in planned)
    return OnlinePlan(
        features,
        tuple({key.name: key for key in in_order}.values()),
        source,
        ages,
        _plan_of_inputs(store, {each: None for feature in features for each in feature.inputs or ()}),
    )


def _resolved(feature: PlannedFeature, known: Mapping[str, View], by_view: Mapping[str, Sequence[str]]) -> PlannedFeature:
    """The feature with its keys, of the type that its view gives it now; a feature service may have kept an earlier one."""
    view = known.get(feature.view)
    fields = {field.name: field for field in view.features} if view is not None else {}
    field = fields.get(feature.name)
    found = _planned(feature.view, field) if field is not None else feature
    keys = tuple(by_view.get(feature.view, ()))
    if not isinstance(view, OnDemandFeatureView) or view.write_to_online_store:
        return replace(found, join_keys=keys)
    # What is computed has the type that it happens to have.
    return replace(found, join_keys=keys, stored_as="", inputs=_inputs_of(view, known))


def _inputs_of(view: OnDemandFeatureView, known: Mapping[str, View]) -> tuple[PlannedFeature, ...]:
    """The stored features that a view is computed from; but for those that a feature service looks up by other keys.

    Feast gives no way to read those beside it.
    """
    found = []
    for projection in view.source_feature_view_projections.values():
        source = known.get(_asked_as(projection))
        if source is None or source.projection.join_key_map or _asked_as(projection) != projection.name:
            continue
        wanted = {field.name for field in projection.features}
        found += [_planned(projection.name, field) for field in source.features if field.name in wanted]
    return tuple(found)


def _plan_of_inputs(store: FeatureStore, inputs: Iterable[PlannedFeature]) -> OnlinePlan | None:
    refs = [f"{feature.view}:{feature.name}" for feature in inputs]
    return _plan(store, inputs, refs) if refs else None


def _computed_by(view: OnDemandFeatureView, by_view: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys by which what an on-demand view is computed from is looked up, and the inputs that it takes besides."""
    sources = [_asked_as(projection) for projection in view.source_feature_view_projections.values()]
    inputs = [field.name for request in view.source_request_sources.values() for field in request.schema]
    return list(dict.fromkeys([*(key for source in sources for key in by_view.get(source, ())), *inputs]))


def _stored(views: Iterable[OnDemandFeatureView]) -> list[OnDemandFeatureView]:
    """The on-demand views that are computed when they are written, and then read by their own keys."""
    return [view for view in views if view.write_to_online_store]


def _keys(view: View, entities: dict[str, Entity]) -> list[JoinKey]:
    types = {column.name: _value_type(column) for column in view.entity_columns}
    found = [entities[name] for name in view.entities or () if name != DUMMY_ENTITY_NAME]
    return [
        JoinKey(
            # A feature service may look the same view up by another key: origin_id for location_id.
            view.projection.join_key_map.get(entity.join_key, entity.join_key),
            types.get(entity.join_key, value_type_named(entity.value_type.name)),
        )
        for entity in found
    ]


def _input(field: Field) -> JoinKey:
    return JoinKey(field.name, _value_type(field))
