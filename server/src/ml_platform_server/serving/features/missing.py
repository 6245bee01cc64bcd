"""Applies the deployment's policy for missing and stale features to a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_platform.v1 import deployments_pb2, errors_pb2, features_pb2
from ml_platform.v1.errors_pb2 import ErrorReason
from ml_platform_server.backends.feast.online import Cell
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.features.binding import Binding
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.inputs.signature import CoercionError, Column

STALE = features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE
DEFAULTED = features_pb2.FEATURE_STATUS_DEFAULT
USABLE = (features_pb2.FEATURE_STATUS_PRESENT, STALE)


class FeaturePolicyApplier:
    """Collects the missing and stale features of one row and applies the row's policy to them."""

    def __init__(self, row: Row, binding: Binding, columns: Sequence[Column]) -> None:
        self._row = row
        self._policy = row.policy
        self._binding = binding
        self._columns = columns
        self._missing: list[int] = []
        self._stale: list[int] = []
        self._degraded: list[int] = []

    def filled(self, column: int, cell: Cell) -> object | None:
        """The value to convert for a column whose cell is missing or stale; None if there is nothing to convert."""
        if cell.value is None or cell.status not in USABLE:
            return self._without(column)
        if cell.status == STALE:
            return self._old(column, cell)
        return cell.value

    def settled(self, keys: Mapping[str, object]) -> PlatformError | None:
        """Record the degraded features in the row. Returns FEATURE_MISSING or FEATURE_STALE if the policy fails the row."""
        if self._missing:
            return self._error(errors_pb2.ERROR_REASON_FEATURE_MISSING, self._missing, keys)
        if self._stale:
            return self._error(errors_pb2.ERROR_REASON_FEATURE_STALE, self._stale, keys)
        self._row.degraded = self._binding.refs(self._degraded)
        return None

    def _old(self, column: int, cell: Cell) -> object | None:
        stale = self._policy.stale
        if stale == deployments_pb2.STALE_FEATURES_AS_MISSING:
            # The response reports the values that were used, and the stale value is not used.
            self._row.cells[column] = Cell(None, STALE, cell.event_time)
            return self._without(column)
        if stale == deployments_pb2.STALE_FEATURES_FAIL:
            self._stale.append(column)
        elif stale == deployments_pb2.STALE_FEATURES_PROCEED:
            self._degraded.append(column)
        return cell.value

    def _without(self, column: int) -> object | None:
        """Handle a missing value. A default is written to the row unconverted: the policy holds converted values."""
        policy = self._policy
        if column in policy.defaults:
            default = self._row.values[column] = policy.defaults[column]
            self._row.cells[column] = Cell(default, DEFAULTED, None)
            self._degraded.append(column)
        elif self._columns[column].required or not policy.takes_null:
            self._missing.append(column)
        elif not policy.silent:
            self._degraded.append(column)
        return None

    def _error(self, reason: ErrorReason.ValueType, columns: Sequence[int], keys: Mapping[str, object]) -> PlatformError:
        refs = self._binding.refs(columns)
        entity = ", ".join(f"{name}={value}" for name, value in keys.items())
        names = ", ".join(self._columns[column].name for column in columns)
        old = any(self._row.cells[column].status == STALE for column in columns)
        problem, check = ("no fresh value", "Materialize") if old else ("no value", "Check the key, materialize")
        return PlatformError(
            reason,
            f"The feature store has {problem} of {', '.join(refs)} for {entity}.",
            remedy=f"{check} or push the features, or send {names} with the request.",
            metadata={"features": ",".join(refs), "entity": entity},
        )


def unfit_feature(ref: str, column: Column, error: CoercionError) -> PlatformError:
    """The error for a stored value that cannot be coerced to its column's type."""
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_VALUE_INVALID,
        f"The stored value of {ref} does not fit the model's column {column.name} ({column.type}): {error}.",
        remedy="Register a model whose signature fits the feature's type, or send the value with the request.",
        resource=("feature", ref),
    )
