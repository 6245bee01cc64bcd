"""Finds out by Feast's own code how it keeps a plan's features in Redis. Imports Feast: only for the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from feast import FeatureStore, FeatureView, utils
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast.plan import OnlinePlan, PlannedFeature
from ml_platform_server.backends.feast.redis.connection import Address
from ml_platform_server.backends.feast.redis.decode import Reader, reader
from ml_platform_server.backends.feast.redis.layout import ENCODERS, HashQuery, KeyTemplate, Layout, ViewFields
from ml_platform_server.backends.feast.types import from_feast, to_feast
from ml_platform_server.errors import PlatformError

log = structlog.get_logger(__name__)

SUPPORTED = frozenset({"db", "username", "password", "ssl", "ssl_ca_certs"})
NO_MATTER = frozenset({"socket_timeout", "socket_connect_timeout", "socket_keepalive", "max_connections", "client_name"})
"""Options of Feast's client that this reader has its own ways for."""
TEXTS = (features_pb2.VALUE_TYPE_STRING, features_pb2.VALUE_TYPE_BYTES)


class Unsupported(Exception):  # noqa: N818  # not a failure
    """Feast has to read this itself; the text says why."""


def derive(store: FeatureStore, plan: OnlinePlan) -> Layout | None:
    """The layout of what a plan reads; None if Feast has to read it itself."""
    try:
        layout = _layout(store, plan)
        from ml_platform_server.backends.feast.redis import verify  # noqa: PLC0415  # needs Feast's Redis store, and it is there

        verify.prove(store, plan, layout)
    except (Unsupported, PlatformError) as reason:
        log.info("redis_fast_path_disabled", reason=str(reason))
    except Exception as error:  # noqa: BLE001  # see below
        # Whatever it is, Feast's own read works as ever, or says what is wrong.
        log.warning("redis_fast_path_disabled", reason="the layout is not as expected", error=repr(error))
    else:
        return layout
    return None


def _layout(store: FeatureStore, plan: OnlinePlan) -> Layout:
    address = _address(store)
    context = utils._get_online_request_context(store.registry, store.project, plan.source, full_feature_names=True)
    on_demand, names, views = context[1], context[2], [view for view, _ in context[5]]
    if on_demand:
        raise Unsupported("features are computed on demand")
    if not all(isinstance(view, FeatureView) for view in views):
        raise Unsupported("not all views are plain feature views")
    by_keys: dict[tuple[tuple[str, str], ...], list[FeatureView]] = {}
    for view in views:
        by_keys.setdefault(_suppliers(view, names, plan), []).append(view)
    used = {name for pairs in by_keys for _, name in pairs}
    if not {key.name for key in plan.join_keys} <= used:
        raise Unsupported("some join keys are for nothing")
    made = [_hash_read(store, plan, pairs, grouped) for pairs, grouped in by_keys.items()]
    places = {ref: at for at, ref in enumerate(ref for _, refs in made for ref in refs)}
    order = tuple(places[feature.view, feature.name] for feature in plan.features)
    return Layout(address, tuple(read for read, _ in made), order)


def _reader(feature: PlannedFeature) -> Reader:
    field = feature.stored_as
    return reader(field, lambda raw: from_feast(Value.FromString(raw), field))


def _suppliers(view: FeatureView, names: dict[str, str], plan: OnlinePlan) -> tuple[tuple[str, str], ...]:
    """The view's own join keys in the order of the store's keys, each with the plan's join key that supplies it."""
    supplied: dict[str, Any] = {key.name: key.name for key in plan.join_keys} | {DUMMY_ENTITY_ID: DUMMY_ENTITY_ID}
    if DUMMY_ENTITY_ID not in view.join_keys:
        del supplied[DUMMY_ENTITY_ID]
    # Feast's own choice: it knows the names that a feature service gave to keys.
    chosen: dict[str, Any] = utils._get_table_entity_values(view, names, supplied)
    return tuple(sorted(chosen.items()))


def _hash_read(
    store: FeatureStore, plan: OnlinePlan, pairs: Sequence[tuple[str, str]], views: Sequence[FeatureView]
) -> tuple[HashQuery, list[tuple[str, str]]]:
    """The read of all views with the same keys, and the features in the order in which it gives them."""
    from feast.infra.online_stores import helpers, redis  # noqa: PLC0415  # where Feast has no Redis, this is never reached

    fields: list[bytes] = []
    spans: list[ViewFields] = []
    refs: list[tuple[str, str]] = []
    for view in sorted(views, key=lambda view: _first(plan, _asked_as(view))):
        asked, stored = _asked_as(view), redis._versioned_fv_name(view, store.config)
        wanted = {feature.name: _reader(feature) for feature in plan.features if feature.view == asked}
        start = len(fields)
        fields += [helpers._mmh3(f"{stored}:{name}") for name in wanted]
        spans.append(ViewFields(start, len(fields), plan.max_ages.get(asked), tuple(wanted.values())))
        fields.append(f"_ts:{stored}".encode())
        refs += [(asked, name) for name in wanted]
    return HashQuery(_template(store, plan, pairs), fields, spans), refs


def _asked_as(view: FeatureView) -> str:
    return str(view.projection.name_to_use())  # type: ignore[no-untyped-call]  # Feast's types have gaps


def _first(plan: OnlinePlan, view: str) -> int:
    return next(at for at, feature in enumerate(plan.features) if feature.view == view)


def _template(store: FeatureStore, plan: OnlinePlan, pairs: Sequence[tuple[str, str]]) -> KeyTemplate:
    """Feast's own key for values that stand out, cut at these values."""
    types = {key.name: key.value_type for key in plan.join_keys}
    samples = [_standing_out(at, types.get(name)) for at, (_, name) in enumerate(pairs)]
    rest = _redis_key(store, [own for own, _ in pairs], samples)
    pieces: list[bytes] = []
    values: list[tuple[str, ValueType.ValueType]] = []
    for (_, name), sample in zip(pairs, samples, strict=True):
        if name == DUMMY_ENTITY_ID:
            continue
        raw = ENCODERS[types[name]](plain := from_feast(sample))
        before, found, rest = rest.partition(raw)
        if not found:
            raise Unsupported(f"the key does not hold {plain!r} as expected")
        pieces.append(before)
        values.append((name, types[name]))
    head, *behind = [*pieces, rest]
    return KeyTemplate(head, tuple((name, ENCODERS[kind], tail) for (name, kind), tail in zip(values, behind, strict=True)))


def _standing_out(at: int, kind: ValueType.ValueType | None) -> Value:
    """A value that nothing else in a key looks like; the value of a key that stands for none is always the same."""
    if kind is None:
        return Value(string_val=DUMMY_ENTITY_VAL)
    if kind not in ENCODERS:
        raise Unsupported(f"keys of the type {ValueType.Name(kind)}")
    raw = bytes([0x11, 0x22, 0x33, 0x44 + at])
    if kind == features_pb2.VALUE_TYPE_STRING:
        return to_feast(raw.decode("ascii"), kind)
    if kind == features_pb2.VALUE_TYPE_BYTES:
        return to_feast(raw, kind)
    wide = raw if kind == features_pb2.VALUE_TYPE_INT32 else raw * 2
    return to_feast(int.from_bytes(wide, "little"), kind)


def _redis_key(store: FeatureStore, names: list[str], values: list[Value]) -> bytes:
    from feast.infra.online_stores import helpers  # noqa: PLC0415  # as above

    key = EntityKey(join_keys=names, entity_values=values)
    return helpers._redis_key(store.project, key, store.config.entity_key_serialization_version)


def _address(store: FeatureStore) -> Address:
    config = store.config.online_store
    online: Any = getattr(store.provider, "online_store", None)
    if (type(online).__module__, type(online).__name__) != ("feast.infra.online_stores.redis", "RedisOnlineStore"):
        raise Unsupported("the online store is not Redis")
    if config.redis_type != "redis":
        raise Unsupported("the online store is a cluster or behind sentinels")
    nodes, options = online._parse_connection_string(config.connection_string)
    strange = sorted(set(options) - SUPPORTED - NO_MATTER)
    if strange:
        raise Unsupported(f"the online store's options {', '.join(strange)}")
    return Address(
        host=nodes[0]["host"],
        port=int(nodes[0]["port"]),
        db=int(options.get("db", 0)),
        username=str(options.get("username", "")),
        password=str(options.get("password", "")),
        tls=_yes(options.get("ssl", False)),
        ca_file=str(options.get("ssl_ca_certs", "")),
    )


def _yes(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise Unsupported("the online store's option ssl is neither true nor false")
