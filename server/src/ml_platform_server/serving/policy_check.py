"""Checks the feature policy of a deployment before anything is deployed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import structlog

from ml_platform.v1 import deployments_pb2, errors_pb2, models_pb2
from ml_platform.v1.deployments_pb2 import FeaturePolicy
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.bindings import FeatureReader, resolve
from ml_platform_server.serving.columns import Column, columns_of
from ml_platform_server.serving.policies import DEFAULTS, converted

_log = structlog.get_logger(__name__)

MISSING = "feature_policy.missing"


class Versions(Protocol):
    """What the check asks of the model registry."""

    async def get_version(self, model_name: str, version: int) -> models_pb2.ModelVersion:
        """One version with its signature."""
        ...


class PolicyChecker:
    """Knows from a version's signature what the model takes, and from the feature store which of it features supply."""

    def __init__(self, *, registry: Versions, reader: FeatureReader) -> None:
        self._registry = registry
        self._reader = reader

    async def check(self, model_name: str, version: int, policy: FeaturePolicy) -> None:
        """Check a policy for a version.

        Raises:
            PlatformError: FEATURE_POLICY_INVALID, with a violation for everything that is wrong; MODEL_NOT_FOUND,
                MODEL_VERSION_NOT_FOUND.
        """
        violations = _contradictions(policy)
        if policy.defaults.fields or policy.missing == deployments_pb2.MISSING_FEATURES_PROCEED:
            violations += await self._unfit(await self._registry.get_version(model_name, version), policy)
        if violations:
            raise _invalid(violations)

    async def _unfit(self, version: models_pb2.ModelVersion, policy: FeaturePolicy) -> list[Violation]:
        columns = columns_of(version.signature)
        supplied = await self._supplied(version, columns)
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

    async def _supplied(self, version: models_pb2.ModelVersion, columns: Sequence[Column]) -> Collection[int] | None:
        """The columns that features supply; None if the feature store cannot tell, which is no reason not to deploy."""
        try:
            binding = await resolve(version, columns, self._reader)
        except PlatformError as error:
            _log.warning(
                "feature_policy_half_checked", model=version.model_name, version=version.version, reason=error.reason_name
            )
            return None
        return binding.features if binding else ()


def _contradictions(policy: FeaturePolicy) -> list[Violation]:
    uses_defaults = policy.missing == deployments_pb2.MISSING_FEATURES_DEFAULT
    if policy.defaults.fields and not uses_defaults:
        return [Violation(DEFAULTS, "are used with MISSING_FEATURES_DEFAULT only")]
    if uses_defaults and not policy.defaults.fields:
        return [Violation(DEFAULTS, "must not be empty with MISSING_FEATURES_DEFAULT")]
    return []


def _invalid(violations: Sequence[Violation]) -> PlatformError:
    told = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_POLICY_INVALID,
        f"The feature policy does not fit the model: {told}.",
        remedy="Give defaults for columns that features supply, of the columns' types (ModelService.GetModelVersion tells both); "
        "to go on without a feature, train the model with optional columns or give a default.",
        violations=violations,
    )
