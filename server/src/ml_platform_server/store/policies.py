"""Feature policies as deployments keep them."""

from __future__ import annotations

from ml_platform.v1 import deployments_pb2
from ml_platform.v1.deployments_pb2 import FeaturePolicy
from ml_platform_server.store.tables import DeploymentRow


def stored(policy: FeaturePolicy) -> bytes:
    """A policy for the row of its deployment."""
    return resolved(policy).SerializeToString(deterministic=True)


def policy_of(row: DeploymentRow) -> FeaturePolicy:
    """A deployment's policy; the usual one if its row has none."""
    return resolved(FeaturePolicy.FromString(row.feature_policy or b""))


def resolved(policy: FeaturePolicy) -> FeaturePolicy:
    """The policy with its defaults filled in: null where the model takes null, and old values are used."""
    effective = FeaturePolicy()
    effective.CopyFrom(policy)
    effective.missing = policy.missing or deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL
    effective.stale = policy.stale or deployments_pb2.STALE_FEATURES_USE
    return effective
