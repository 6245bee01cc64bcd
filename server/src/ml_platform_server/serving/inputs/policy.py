"""The policy of a deployment for missing and stale features, compiled for the columns of one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ml_platform.v1 import deployments_pb2
from ml_platform.v1.deployments_pb2 import FeaturePolicy, MissingFeatures, StaleFeatures
from ml_platform_server.errors import Violation
from ml_platform_server.serving.inputs.signature import CoercionError, Column
from ml_platform_server.struct_values import plain

_log = structlog.get_logger(__name__)

DEFAULTS = "feature_policy.defaults"


@dataclass(frozen=True, slots=True)
class Policy:
    """A deployment's policy. `defaults` holds converted values by column position."""

    missing: MissingFeatures.ValueType = deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL
    stale: StaleFeatures.ValueType = deployments_pb2.STALE_FEATURES_USE
    defaults: Mapping[int, object] = field(default_factory=dict)

    @property
    def takes_null(self) -> bool:
        """Whether a missing feature becomes null if its column takes null."""
        return self.missing != deployments_pb2.MISSING_FEATURES_FAIL

    @property
    def silent(self) -> bool:
        """Whether the response omits features that the prediction was made without."""
        return self.missing == deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL


DEFAULT_POLICY = Policy()
"""The policy of a deployment without a policy."""


def compiled(policy: FeaturePolicy, columns: Sequence[Column]) -> Policy:
    """Compile a policy for these columns. Deploying has validated its defaults; an invalid one is logged and ignored."""
    defaults: dict[int, object] = {}
    for name, at, value in converted(policy, columns):
        if isinstance(value, Violation):
            _log.warning("feature_default_unusable", column=name, problem=value.description)
        else:
            defaults[at] = value
    missing = policy.missing or deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL
    return Policy(missing, policy.stale or deployments_pb2.STALE_FEATURES_USE, defaults)


def converted(policy: FeaturePolicy, columns: Sequence[Column]) -> Iterator[tuple[str, int, object]]:
    """Convert the defaults. Yields name, column position (-1 for an unknown column), and the converted value or a Violation."""
    places = {column.name: at for at, column in enumerate(columns)}
    for name, value in sorted(policy.defaults.fields.items()):
        path, at, thing = f"{DEFAULTS}.{name}", places.get(name, -1), plain(value)
        if at < 0:
            yield name, at, Violation(path, "is no column of the model")
        elif thing is None:
            yield name, at, Violation(path, "must not be null; leave it out")
        else:
            yield name, at, _converted(columns[at], thing, path)


def _converted(column: Column, thing: object, path: str) -> object:
    try:
        return column.convert(thing)
    except CoercionError as error:
        return Violation(path, f"is no value of its column ({column.type}): {error}")
