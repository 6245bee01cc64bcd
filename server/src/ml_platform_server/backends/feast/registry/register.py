"""Registers feature views: checks the request and what is there, then applies. Imports Feast: only for the pool."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
from feast import Entity, FeatureStore
from pyarrow.dataset import dataset

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast import errors
from ml_platform_server.backends.feast.registry import convert, parquet
from ml_platform_server.backends.feast.registry.source_access import Roots, is_url
from ml_platform_server.backends.feast.types import value_type_named
from ml_platform_server.errors import invalid

KEY_TYPES = frozenset({features_pb2.VALUE_TYPE_STRING, features_pb2.VALUE_TYPE_INT32, features_pb2.VALUE_TYPE_INT64})


def register(store: FeatureStore, request: features_pb2.FeatureView, places: Sequence[str] = ()) -> features_pb2.FeatureView:
    """Apply a feature view and those of its entities that are new; one that is there already is returned as it is.

    Args:
        store: the project.
        request: the view.
        places: where sources may lie: folders and prefixes of URLs. None means the project's own folder.

    Raises:
        PlatformError: INVALID_FIELDS, FEATURE_SOURCE_REFUSED, FEATURE_VIEW_EXISTS, ENTITY_EXISTS.
    """
    view = _completed(request, store.repo_path)
    _check_fields(view)
    existing = _existing(store, view)
    if existing is not None:
        return existing
    Roots(places or [str(store.repo_path)]).check(view.source.path)
    _check_file(view)
    known = {entity.name for entity in store.registry.list_entities(store.project, allow_cache=False)}
    entities = [convert.feast_entity(entity) for entity in view.entities if entity.name not in known]
    store.apply([*entities, convert.feast_view(view)])
    made = find(store, view.name, fresh=True)
    if convert.sorted_definition(made) != convert.sorted_definition(view):  # Applied by another tool at the same time.
        raise errors.view_exists(view.name, made.name)
    return made


def find(store: FeatureStore, name: str, *, fresh: bool = False) -> features_pb2.FeatureView:
    """One feature view of any kind.

    Raises:
        PlatformError: FEATURE_VIEW_NOT_FOUND.
    """
    try:
        view = store.registry.get_any_feature_view(name, store.project, allow_cache=not fresh)
    except Exception as error:
        raise errors.view_not_found(name) if errors.says_missing(error) else error from error
    return convert.view_message(view, _entities(store, fresh=fresh))


def find_all(store: FeatureStore, *, fresh: bool = False) -> list[features_pb2.FeatureView]:
    """Every feature view of any kind, by name."""
    entities = _entities(store, fresh=fresh)
    views = store.registry.list_all_feature_views(store.project, allow_cache=not fresh)
    return sorted((convert.view_message(view, entities) for view in views), key=lambda view: view.name)


def _entities(store: FeatureStore, *, fresh: bool) -> dict[str, Entity]:
    return {entity.name: entity for entity in store.registry.list_entities(store.project, allow_cache=not fresh)}


def _completed(request: features_pb2.FeatureView, folder: Path) -> features_pb2.FeatureView:
    """The request with its defaults filled in, and with a path that means the same to everybody."""
    view = convert.without_times(request)
    for entity in view.entities:
        entity.join_key = entity.join_key or entity.name
        entity.value_type = entity.value_type or features_pb2.VALUE_TYPE_STRING
    path = view.source.path.removeprefix("file://")
    if "://" not in path:
        view.source.path = str(folder / path)
    return view


def _check_fields(view: features_pb2.FeatureView) -> None:
    if view.ttl.ToNanoseconds() < 0:
        raise invalid("feature_view.ttl", "must not be negative")
    if view.ttl.nanos % 1000:
        raise invalid("feature_view.ttl", "must be whole microseconds, which is what Feast keeps")
    keys = [entity.join_key for entity in view.entities]
    features = [feature.name for feature in view.features]
    for entity in view.entities:
        if entity.value_type not in KEY_TYPES:
            raise invalid("feature_view.entities", f"the key of {entity.name!r} must be a string or an integer")
    for field, names in (("entities", [entity.name for entity in view.entities]), ("entities", keys), ("features", features)):
        twice = _repeated(names)
        if twice:
            raise invalid(f"feature_view.{field}", f"these appear more than once: {', '.join(twice)}")
    times = {view.source.timestamp_field, view.source.created_timestamp_column}
    clashes = sorted(set(features) & {*keys, *times})
    if clashes:
        raise invalid("feature_view.features", f"these are join keys or times, so they cannot be features: {', '.join(clashes)}")


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _existing(store: FeatureStore, view: features_pb2.FeatureView) -> features_pb2.FeatureView | None:
    for other in find_all(store, fresh=True):
        if convert.sorted_definition(other) == convert.sorted_definition(view):
            return other
        if other.name.lower() == view.name.lower():  # Feast takes names that differ in case only for the same.
            raise errors.view_exists(view.name, other.name)
    known = _entities(store, fresh=True)
    for entity in view.entities:
        if entity.name in known and not _same_key(known[entity.name], entity):
            raise errors.entity_exists(entity.name)
    return None


def _same_key(known: Entity, wanted: features_pb2.Entity) -> bool:
    # An entity without a type takes whichever its views give it.
    types = {value_type_named(known.value_type.name), features_pb2.VALUE_TYPE_UNSPECIFIED}
    untyped = known.value_type.name == "UNKNOWN"
    return known.join_key == wanted.join_key and (untyped or wanted.value_type in types)


def _check_file(view: features_pb2.FeatureView) -> None:
    """What can be known now should not fail in a job later. Files that are not on this machine are left to the job."""
    path = view.source.path
    if is_url(path):
        return
    # Not by Path: it raises for names that no file can have.
    if not os.path.exists(path):  # noqa: PTH110
        raise invalid("feature_view.source.path", f"there is no file {path}")
    unreadable = invalid("feature_view.source.path", f"{path} is not a Parquet file that can be read")
    if not (Path(path).is_file() or Path(path).is_dir()):  # Reading from a pipe or a device would wait for ever.
        raise unreadable
    try:
        found = dataset(path, format="parquet")
    except (pa.ArrowException, OSError, ValueError):
        raise unreadable from None
    _check_columns(view, set(found.schema.names))
    parquet.check_types(view, found.schema)
    try:
        parquet.check_nulls(view, found)
    except (pa.ArrowException, OSError):
        raise unreadable from None


def _check_columns(view: features_pb2.FeatureView, columns: set[str]) -> None:
    wanted = [entity.join_key for entity in view.entities] + [feature.name for feature in view.features]
    times = [name for name in (view.source.timestamp_field, view.source.created_timestamp_column) if name]
    missing = [name for name in wanted + times if name not in columns]
    if missing:
        raise invalid("feature_view.source.path", f"the file lacks the columns {', '.join(missing)}")
