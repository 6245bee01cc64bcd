"""Validates the features and the feature policy of a deployment before it starts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import structlog

from ml_platform.v1 import deployments_pb2, errors_pb2, models_pb2
from ml_platform.v1.deployments_pb2 import FeaturePolicy
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.features.binding import FeatureReader, resolve
from ml_platform_server.serving.inputs.policy import DEFAULTS, converted
from ml_platform_server.serving.inputs.signature import Column, columns_of

_log = structlog.get_logger(__name__)

MISSING = "feature_policy.missing"


class Versions(Protocol):
    """What the check needs from the model registry."""

    async def get_version(self, model_name: str, version: int) -> models_pb2.ModelVersion:
        """A version with its signature."""
        ...


class PolicyChecker:
    """Validates feature policies against a version's signature and the features that the feature store supplies for it.

    Args:
        registry: the model registry.
        reader: the feature store.
    """

    def __init__(self, *, registry: Versions, reader: FeatureReader) -> None:
        self._registry = registry
        self._reader = reader

    async def check(self, model_name: str, version: int, policy: FeaturePolicy) -> None:
        """Validate the features of a version and a policy for it.

        Raises:
            PlatformError: FEATURE_AMBIGUOUS; FEATURE_POLICY_INVALID, with one violation per problem; MODEL_NOT_FOUND,
                MODEL_VERSION_NOT_FOUND.
        """
        violations = _contradictions(policy)
        found = await self._registry.get_version(model_name, version)
        columns = columns_of(found.signature)
        supplied = await self._supplied(found, columns)
        violations += _unfit(columns, supplied, policy)
        if violations:
            raise _invalid(violations)

    async def _supplied(self, version: models_pb2.ModelVersion, columns: Sequence[Column]) -> Collection[int] | None:
        """Positions of the columns that features supply; None if the feature store fails, which must not block deploying."""
        try:
            binding = await resolve(version, columns, self._reader)
        except PlatformError as error:
            _log.warning("features_not_checked", model=version.model_name, version=version.version, reason=error.reason_name)
            return None
        if binding is None:
            return ()
        for at, candidates in binding.ambiguous.items():
            raise _ambiguous(columns[at].name, candidates)
        return binding.features


def _unfit(columns: Sequence[Column], supplied: Collection[int] | None, policy: FeaturePolicy) -> list[Violation]:
    violations = []
    for name, at, value in converted(policy, columns):
        if isinstance(value, Violation):
            violations.append(value)
        elif supplied is not None and at not in supplied:
            violations.append(Violation(f"{DEFAULTS}.{name}", "is no feature that the version was trained on"))
    if policy.missing == deployments_pb2.MISSING_FEATURES_PROCEED and supplied:
        required = [columns[at].name for at in sorted(supplied) if columns[at].required]
        if len(required) == len(supplied):
            violations.append(Violation(MISSING, f"has no effect: the model takes no null for {', '.join(required)}"))
    return violations


def _contradictions(policy: FeaturePolicy) -> list[Violation]:
    uses_defaults = policy.missing == deployments_pb2.MISSING_FEATURES_DEFAULT
    if policy.defaults.fields and not uses_defaults:
        return [Violation(DEFAULTS, "are used with MISSING_FEATURES_DEFAULT only")]
    if uses_defaults and not policy.defaults.fields:
        return [Violation(DEFAULTS, "must not be empty with MISSING_FEATURES_DEFAULT")]
    return []


def _invalid(violations: Sequence[Violation]) -> PlatformError:
    summary = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_POLICY_INVALID,
        f"The feature policy does not fit the model: {summary}.",
        remedy="Give defaults for columns that features supply, of the columns' types (ModelService.GetModelVersion tells both); "
        "to go on without a feature, train the model with optional columns or give a default.",
        violations=violations,
    )


def _ambiguous(column: str, candidates: Sequence[str]) -> PlatformError:
    names = " or ".join(ref.replace(":", "__") for ref in candidates)
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_AMBIGUOUS,
        f"The model's column {column!r} may be any of {', '.join(candidates)}: the version was trained on features of this name "
        "from several views.",
        remedy=f"Name the column {names} (get_historical_features does so with full_feature_names=True), or by a name that no "
        "feature has if callers send it; log the model again, register it and deploy that version.",
        resource=("feature", candidates[0]),
        metadata={"column": column, "features": ",".join(candidates)},
    )
