"""The reads of the feature store that a batch of rows needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_platform.v1 import errors_pb2, features_pb2
from ml_platform_server.backends.feast.online import Cell
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.bindings import Binding, FeatureReader
from ml_platform_server.serving.columns import Column, Unsuitable
from ml_platform_server.serving.rows import Row

Outcome = PlatformError | None
USABLE = (features_pb2.FEATURE_STATUS_PRESENT, features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE)


class Reads:
    """The reads that a batch needs: one, unless some rows bring fewer join keys than others."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Row], outcomes: list[Outcome]) -> None:
        self._columns = columns
        self._rows = rows
        self._outcomes = outcomes
        self._wanted: dict[int, tuple[Binding, list[tuple[int, list[int], dict[str, object]]]]] = {}

    def add(self, binding: Binding, at: int, needed: list[int], keys: dict[str, object]) -> None:
        """Have these columns of this row read."""
        self._wanted.setdefault(id(binding), (binding, []))[1].append((at, needed, keys))

    async def run(self, reader: FeatureReader) -> None:
        """Read, and put what was read into the rows."""
        for binding, wanted in self._wanted.values():
            try:
                found = await reader.read(binding.plan, [keys for _, _, keys in wanted])
            except PlatformError as error:
                for at, _, _ in wanted:
                    self._outcomes[at] = error
                continue
            for (at, needed, keys), cells in zip(wanted, found, strict=True):
                self._outcomes[at] = self._filled(self._rows[at], binding, needed, keys, cells)

    def _filled(
        self, row: Row, binding: Binding, needed: Sequence[int], keys: Mapping[str, object], cells: Sequence[Cell]
    ) -> Outcome:
        absent: list[int] = []
        for column in needed:
            cell = row.cells[column] = cells[binding.features[column]]
            if cell.value is None or cell.status not in USABLE:
                if self._columns[column].required:
                    absent.append(column)
                continue
            try:
                row.values[column] = self._columns[column].convert(cell.value)
            except Unsuitable as error:
                return _stored_unsuitable(binding.refs([column])[0], self._columns[column], error)
        return _feature_missing(binding.refs(absent), [self._columns[column].name for column in absent], keys) if absent else None


def _feature_missing(refs: Sequence[str], columns: Sequence[str], keys: Mapping[str, object]) -> PlatformError:
    entity = ", ".join(f"{name}={value}" for name, value in keys.items())
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_MISSING,
        f"The feature store has no value of {', '.join(refs)} for {entity}.",
        remedy=f"Check the key, materialize or push the features, or send {', '.join(columns)} with the request.",
        metadata={"features": ",".join(refs), "entity": entity},
    )


def _stored_unsuitable(ref: str, column: Column, error: Unsuitable) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_VALUE_INVALID,
        f"The stored value of {ref} does not fit the model's column {column.name} ({column.type}): {error}.",
        remedy="Register a model whose signature fits the feature's type, or send the value with the request.",
    )
