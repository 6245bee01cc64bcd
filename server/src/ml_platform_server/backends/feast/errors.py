"""Turns what Feast, its registry and its online store raise into the platform's errors. The only place that knows their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, Violation, backend_unavailable
from ml_platform_server.similar_names import closest

log = structlog.get_logger(__name__)

# By name, because the libraries behind (redis, SQLAlchemy, psycopg) are not the same everywhere, and Feast is slow to import.
UNREACHABLE = frozenset({
    "ConnectionError", "TimeoutError", "OperationalError", "InterfaceError", "DBAPIError", "ServerSelectionTimeoutError",
    "EndpointConnectionError",
})  # fmt: skip
MISSING = frozenset({
    "FeatureViewNotFoundException", "OnDemandFeatureViewNotFoundException", "FeatureServiceNotFoundException",
    "EntityNotFoundException",
})  # fmt: skip


def says_missing(error: Exception) -> bool:
    """Whether Feast says that its registry has no such object."""
    return type(error).__name__ in MISSING


def _says_outdated(error: Exception) -> bool:
    """Whether a feature service, or an on-demand view, was made from features that its view does not have any more."""
    return isinstance(error, ValueError) and "cannot be applied" in str(error)


def translate(error: Exception) -> PlatformError:
    """The platform's error for one of Feast's that no one foresaw."""
    if says_missing(error) or _says_outdated(error):
        log.debug("feast_object_missing", error=str(error))
        return plan_outdated()
    log.warning("feast_failed", error_type=type(error).__name__, error=str(error))
    seen: BaseException | None = error
    while seen is not None:
        if any(kind.__name__ in UNREACHABLE for kind in type(seen).__mro__):
            return backend_unavailable("Feast")
        seen = seen.__cause__ or seen.__context__
    return PlatformError(
        errors_pb2.ERROR_REASON_BACKEND_FAILED,
        "Feast could not do what was asked.",
        remedy="Quote the request id to whoever runs the platform: the server's log tells what Feast said.",
        metadata={"backend": "Feast"},
    )


def view_not_found(name: str) -> PlatformError:
    """The error for a feature view that does not exist."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND,
        f"There is no feature view {name!r}.",
        remedy="List the feature views with ListFeatureViews, or register one with RegisterFeatureView.",
        resource=("feature view", name),
    )


def view_exists(name: str, existing: str) -> PlatformError:
    """The error for a feature view whose name stands for another definition."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_VIEW_EXISTS,
        f"The feature view {existing!r} exists with another definition.",
        remedy=f"Choose another name, or register {name!r} with the definition that GetFeatureView shows.",
        resource=("feature view", existing),
    )


def entity_exists(name: str) -> PlatformError:
    """The error for an entity whose name stands for another key."""
    return PlatformError(
        errors_pb2.ERROR_REASON_ENTITY_EXISTS,
        f"The entity {name!r} exists with another join key or type.",
        remedy="Choose another name for the entity, or give the join key and the type that it has.",
        resource=("entity", name),
    )


def feature_not_found(view: str, name: str, known: Collection[str]) -> PlatformError:
    """The error for a feature that its view does not have."""
    near = closest(name, known)
    hint = f" Did you mean {near!r}?" if near else ""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND,
        f"The feature view {view!r} has no feature {name!r}.{hint}",
        remedy=f"Its features are: {', '.join(known)}.",
        resource=("feature", f"{view}:{name}"),
    )


def plan_outdated() -> PlatformError:
    """The error for features that were there when a read was planned."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND,
        "Some of the features are gone, or something that they are made from.",
        remedy="Look with GetFeatureView what there is now, and ask again.",
    )


def service_not_found(name: str) -> PlatformError:
    """The error for a feature service that does not exist."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_SERVICE_NOT_FOUND,
        f"There is no feature service {name!r}.",
        remedy="Check the name, or apply the feature service with Feast.",
        resource=("feature service", name),
    )


def entity_mismatch(where: str, wanted: Iterable[str], problem: str) -> PlatformError:
    """The error for keys that are not the join keys."""
    keys = ", ".join(wanted) or "none"
    return PlatformError(
        errors_pb2.ERROR_REASON_ENTITY_MISMATCH,
        f"{where}: {problem}.",
        remedy=f"The keys are: {keys}.",
        violations=[Violation(where, problem)],
    )


def value_invalid(where: str, name: str, value_type: str, problem: str) -> PlatformError:
    """The error for a value that does not fit its type."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_VALUE_INVALID,
        f"{where}: the value of {name!r} {problem}.",
        remedy=f"Give {name!r} a value of the type {value_type}.",
        violations=[Violation(f"{where}.{name}", problem)],
    )


def stored_unreadable(ref: str, problem: str) -> PlatformError:
    """The error for a stored value that cannot be given to anybody."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_VALUE_INVALID,
        f"The stored value of {ref} {problem}.",
        remedy="Write another value for this entity, or ask for the other features.",
    )
