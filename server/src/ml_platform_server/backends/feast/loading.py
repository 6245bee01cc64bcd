"""Loads the feature store, set up for serving. Imports Feast: only for the pool."""

from __future__ import annotations

import math
from pathlib import Path

from feast import FeatureStore, FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig, load_repo_config

PROBE_KEY = "ml-platform-probe"


def load(config_path: Path, timeout: float) -> FeatureStore:
    """The feature store of a feature_store.yaml. Paths in it may be relative to the folder it is in, as for `feast apply`."""
    folder = config_path.resolve().parent
    config = load_repo_config(folder, config_path)
    _set_up(config, timeout)
    store = FeatureStore(repo_path=str(folder), config=config)
    # Both are made at their first use; made here, a failure shows now, and threads cannot make two of them.
    _ = store.registry
    _give_up_soon(store)
    return store


def _set_up(config: RepoConfig, timeout: float) -> None:
    registry = config.registry
    registry.cache_mode = "sync"
    registry.cache_ttl_seconds = 0  # For ever: the backend refreshes.
    # A view goes on serving what it has while a job loads newer values.
    registry.serve_features_while_materializing = True
    if getattr(config, "mlflow", None) is not None:
        config.mlflow.enabled = False  # Runs belong to the pipelines; here it would only cost time.
    online = config.online_store
    connection = getattr(online, "connection_string", "")
    if type(online).__name__ == "RedisOnlineStoreConfig" and "socket_timeout" not in connection:
        # Without it a store that hangs would keep a thread for ever.
        seconds = math.ceil(timeout)
        online.connection_string = f"{connection},socket_timeout={seconds},socket_connect_timeout={seconds}"


def _give_up_soon(store: FeatureStore) -> None:
    """Redis's client tries again for some eight seconds when a connection is refused; a caller rather hears of it at once."""
    online_store = getattr(store.provider, "online_store", None)
    if online_store is None or type(online_store).__name__ != "RedisOnlineStore":
        return
    from redis.backoff import NoBackoff  # noqa: PLC0415  # where Feast has the Redis store, redis is installed
    from redis.retry import Retry  # noqa: PLC0415  # the same

    client = online_store._get_client(store.config.online_store)
    if hasattr(client, "set_retry"):  # A cluster's client brings its own ways.
        client.set_retry(Retry(NoBackoff(), 1))


def touch(store: FeatureStore) -> None:
    """Read something from the registry's database and something from the online store."""
    store.registry.list_entities(store.project, allow_cache=False)
    views: list[FeatureView] = store.registry.list_feature_views(store.project, allow_cache=True)
    usable = [view for view in views if view.features and view.online and view.entity_columns]
    if not usable:
        return  # No features, so nothing depends on the online store.
    view = usable[0]
    keys = [column.name for column in view.entity_columns]
    key = EntityKey(join_keys=keys, entity_values=[Value(string_val=PROBE_KEY) for _ in keys])
    store.provider.online_read(store.config, view, [key], [view.features[0].name])
