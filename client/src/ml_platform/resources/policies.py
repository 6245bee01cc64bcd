"""Feature policies: what the predictions of a deployment do about features that are missing or stale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_platform.records import Record
from ml_platform.v1 import deployments_pb2
from ml_platform.v1.deployments_pb2 import MissingFeatures, StaleFeatures
from ml_platform.values import build, choice, enum_name, from_struct, to_struct

_MISSING: dict[str, MissingFeatures.ValueType] = {
    "null_or_fail": deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL,
    "fail": deployments_pb2.MISSING_FEATURES_FAIL,
    "default": deployments_pb2.MISSING_FEATURES_DEFAULT,
    "proceed": deployments_pb2.MISSING_FEATURES_PROCEED,
}
_STALE: dict[str, StaleFeatures.ValueType] = {
    "use": deployments_pb2.STALE_FEATURES_USE,
    "fail": deployments_pb2.STALE_FEATURES_FAIL,
    "as_missing": deployments_pb2.STALE_FEATURES_AS_MISSING,
    "proceed": deployments_pb2.STALE_FEATURES_PROCEED,
}


@dataclass(frozen=True, slots=True, repr=False)
class FeaturePolicy(Record):
    """What a deployment's predictions do when the feature store has no value of a feature, or an old one.

    `on_missing` is "null_or_fail" (null where the model takes null, else an error), "fail", "default" (the value in `defaults`),
    or "proceed" (as "null_or_fail", but the prediction names the feature). `on_stale` is "use", "fail", "as_missing" or "proceed"
    (use it, but name it).
    """

    on_missing: str
    on_stale: str
    defaults: dict[str, Any]


def to_policy(
    on_missing: str | None, on_stale: str | None, defaults: Mapping[str, Any] | None
) -> deployments_pb2.FeaturePolicy | None:
    """The policy that a caller asks for; None if that is the usual one."""
    if on_missing is None and defaults:
        on_missing = "default"
    if on_missing is None and on_stale is None and not defaults:
        return None
    return build(
        deployments_pb2.FeaturePolicy,
        missing=None if on_missing is None else choice(on_missing, _MISSING, "on_missing"),
        stale=None if on_stale is None else choice(on_stale, _STALE, "on_stale"),
        defaults=to_struct(defaults, "defaults") if defaults else None,
    )


def read_policy(message: deployments_pb2.FeaturePolicy) -> FeaturePolicy:
    """Make a policy of its message; a server that knows no policies follows the usual one."""
    return FeaturePolicy(
        on_missing=enum_name(MissingFeatures.Name, message.missing, "MISSING_FEATURES_") if message.missing else "null_or_fail",
        on_stale=enum_name(StaleFeatures.Name, message.stale, "STALE_FEATURES_") if message.stale else "use",
        defaults=from_struct(message.defaults),
    )
