"""Reads the newest row of each entity in a window from a view's Parquet source, and makes Feast's rows of them.

Feast's own read goes through pandas: an integer beside a missing one becomes a float and loses digits, rows without an event time
vanish, and the end of the window counts as within it. Here a column keeps its type, and what cannot be loaded is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, FileSource
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from pyarrow import dataset, fs, types

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast import values
from ml_platform_server.backends.feast.types import to_feast, value_type_named
from ml_platform_server.backends.feast.writes.rows import FeastRow
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT

CHUNK_ROWS = 10_000
TIME, CREATED, AT = "__event_time", "__created", "__at"
_SECONDS, _MICROSECONDS = pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC")
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
"""Seconds since 1970 at which the years begin and end that a Timestamp of the contract can hold."""


class HistoryError(ValueError):
    """A source that cannot be loaded as it stands; the text says which view, what is wrong and what to do."""


class History:
    """A view's Parquet source.

    Args:
        view: the view.
        repo_path: the folder that relative paths are relative to.
    """

    def __init__(self, view: FeatureView, repo_path: str) -> None:
        self._view = view
        self._source: Any = view.batch_source
        self._repo_path = repo_path
        self._keys = {column.name: _type_of(column) for column in view.entity_columns if column.name != DUMMY_ENTITY_ID}
        self._features = {field.name: _type_of(field) for field in view.features}

    @staticmethod
    def can_read(view: Any) -> bool:  # noqa: ANN401  # some view of Feast's
        """Whether a view is a plain one over Parquet, with types that the contract knows; Feast has to read all others."""
        source = getattr(view, "batch_source", None)
        return (
            type(view) is FeatureView
            and type(source) is FileSource
            and isinstance(source.file_format, ParquetFormat | None)
            and not source.field_mapping
            and not source.s3_endpoint_override
            and not source.resolve_credentials()
            and features_pb2.VALUE_TYPE_UNSPECIFIED not in map(_type_of, (*view.entity_columns, *view.features))
        )

    def newest(self, start: datetime, end: datetime) -> pa.Table:
        """The newest row of each entity with an event time from `start` to before `end`; of the same time, the one created last.

        Raises:
            HistoryError: the source cannot be read, has no rows in the window, or has rows that cannot be loaded.
        """
        table = self._read(start, end)
        if not table.num_rows:
            raise self._error(
                f"has no data between {start.isoformat()} and {end.isoformat()}: its source has no rows in that window"
            )
        for name in self._keys:
            if nulls := table[name].null_count:
                raise self._error(f"has {_count(nulls, 'row')} without a value of the key {name}: remove them from its source")
        # A row without a created time counts as the oldest. The order is stable: the last of equal rows stays last.
        times = [name for name in (TIME, CREATED) if name in table.column_names]
        table = table.take(pc.sort_indices(table, sort_keys=[(name, "ascending", "at_start") for name in times]))
        if not self._keys:
            return self._checked(table.slice(table.num_rows - 1))
        numbered = table.select([*self._keys]).append_column(AT, pa.array(np.arange(table.num_rows)))
        last = numbered.group_by([*self._keys]).aggregate([(AT, "max")])[f"{AT}_max"]
        return self._checked(table.take(last))

    def rows(self, table: pa.Table) -> Iterator[list[FeastRow]]:
        """The rows of such a table as Feast stores them, some at a time.

        Raises:
            HistoryError: a value does not fit its declared type.
        """
        for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
            keys = [self._values(batch, name, kind) for name, kind in self._keys.items()]
            features = [self._values(batch, name, kind) for name, kind in self._features.items()]
            times = batch.column(batch.schema.get_field_index(TIME)).cast(_MICROSECONDS, safe=False).to_pylist()
            yield [
                (
                    self._entity_key([column[at] for column in keys]),
                    {name: column[at] for name, column in zip(self._features, features, strict=True)},
                    time,
                    None,
                )
                for at, time in enumerate(times)
            ]

    def _entity_key(self, key: Sequence[Value]) -> EntityKey:
        if not self._keys:
            return EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
        return EntityKey(join_keys=[*self._keys], entity_values=key)

    def _read(self, start: datetime, end: datetime) -> pa.Table:
        time, created = self._source.timestamp_field, self._source.created_timestamp_column
        try:
            source = self._open()
            columns = list(dict.fromkeys([*self._keys, *self._features, time, *([created] if created else [])]))
            missing = [name for name in columns if name not in source.schema.names]
            if missing:
                raise self._error(f"lacks the columns {', '.join(missing)} in its source")
            nulls = source.count_rows(filter=pc.field(time).is_null())
            if nulls:
                raise self._error(
                    f"has {_count(nulls, 'row')} without a time in {time}: remove them from its source, or give them one"
                )
            kind = source.schema.field(time).type
            if types.is_timestamp(kind) and kind.unit == "ns":
                start = max(start, _FIRST_IN_NANOSECONDS)
            table = source.to_table(columns=columns, filter=_in_window(time, kind, start, end))
            table = pa.table({name: _plain(table[name]) for name in columns})
            table = table.append_column(TIME, _utc(table[time]))
            if created:
                table = table.append_column(CREATED, _utc(table[created]))
            return table.filter((pc.field(TIME) >= pa.scalar(start)) & (pc.field(TIME) < pa.scalar(end)))
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, HistoryError):
                raise
            raise self._error(f"has a source that cannot be read: {error}") from error

    def _open(self) -> dataset.Dataset:
        path = self._source.path.removeprefix("file://")
        if "://" not in path:
            return dataset.dataset(str(Path(self._repo_path) / path), format="parquet", partitioning="hive")
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415  # Feast's own way to files elsewhere

        remote, inner = fsspec.core.url_to_fs(path)
        return dataset.dataset(inner, filesystem=fs.PyFileSystem(fs.FSSpecHandler(remote)), format="parquet", partitioning="hive")

    def _checked(self, table: pa.Table) -> pa.Table:
        """Refuse what Feast's values cannot hold, before anything is written."""
        for name, kind in self._features.items():
            column = table[name]
            if kind == features_pb2.VALUE_TYPE_TIMESTAMP and types.is_temporal(column.type):
                whole = column.cast(_SECONDS, safe=False)
                fractions = pc.sum(pc.not_equal(whole.cast(column.type), column)).as_py()
                if fractions:
                    raise self._error(
                        f"has {_count(fractions, 'value')} of {name} with a fraction of a second, and Feast keeps whole seconds: "
                        "round them, or keep them as a DOUBLE or an INT64"
                    )
                low, high = (value.as_py() for value in pc.min_max(whole.cast(pa.int64())).values())
                if low is not None and not _YEAR_1 <= low <= high < _YEAR_10000:
                    raise self._error(f"has values of {name} outside of the years 1 to 9999")
            elif _is_list(column.type) and (gaps := pc.list_flatten(column).null_count):
                raise self._error(
                    f"has {_count(gaps, 'missing item')} in the lists of {name}: a list in the online store has none"
                )
        for name, kind in (*self._keys.items(), *self._features.items()):
            found = table[name].type
            # The items of a list whose every item fits need no look, and vectors have hundreds.
            exact = _EXACT_ITEMS.get(kind) == found.value_type if _is_list(found) else _EXACT.get(kind) == found
            if not exact:
                for batch in table.select([name]).to_batches(max_chunksize=CHUNK_ROWS):
                    self._values(batch, name, kind)
        return table

    def _values(self, batch: pa.RecordBatch, name: str, kind: ValueType.ValueType) -> list[Value]:
        column = batch.column(batch.schema.get_field_index(name))
        if kind == features_pb2.VALUE_TYPE_TIMESTAMP and types.is_temporal(column.type):
            seconds = column.cast(_SECONDS, safe=False).cast(pa.int64()).to_pylist()
            return [Value() if one is None else Value(unix_timestamp_val=one) for one in seconds]
        if types.is_decimal(column.type):
            column = column.cast(pa.float64())
        plain = column.to_pylist()
        if name in self._keys and kind == features_pb2.VALUE_TYPE_STRING and types.is_integer(column.type):
            plain = [str(one) for one in plain]  # As a request's number is the text of it.
        elif types.is_floating(column.type):
            plain = [None if one != one else one for one in plain]  # noqa: PLR0124  # what is not a number is missing
        if _EXACT.get(kind) == column.type:
            return [to_feast(one, kind) for one in plain]
        return [self._coerced(one, name, kind) for one in plain]

    def _coerced(self, value: object, name: str, kind: ValueType.ValueType) -> Value:
        try:
            return to_feast(None if value is None else values.coerce(value, kind), kind)
        except ValueError as error:
            inexact = isinstance(value, float) and kind in _INTEGERS and abs(value) >= SAFE_INTEGER_LIMIT
            problem = "is too large for a floating-point number to be exact; keep the column as integers" if inexact else error
            text = ValueType.Name(kind).removeprefix("VALUE_TYPE_")
            raise self._error(f"has {value!r} in {name}, which is declared {text}: it {problem}") from None

    def _error(self, problem: str) -> HistoryError:
        return HistoryError(f"The feature view '{self._view.name}' {problem}.")


_INTEGERS = (features_pb2.VALUE_TYPE_INT32, features_pb2.VALUE_TYPE_INT64)
_EXACT = {
    features_pb2.VALUE_TYPE_STRING: pa.string(),
    features_pb2.VALUE_TYPE_INT32: pa.int32(),
    features_pb2.VALUE_TYPE_INT64: pa.int64(),
    features_pb2.VALUE_TYPE_FLOAT: pa.float32(),
    features_pb2.VALUE_TYPE_DOUBLE: pa.float64(),
    features_pb2.VALUE_TYPE_BOOL: pa.bool_(),
    features_pb2.VALUE_TYPE_BYTES: pa.binary(),
}
"""The type of a column whose every value fits."""
_EXACT_ITEMS = {
    features_pb2.VALUE_TYPE_STRING_LIST: pa.string(),
    features_pb2.VALUE_TYPE_INT64_LIST: pa.int64(),
    features_pb2.VALUE_TYPE_FLOAT_LIST: pa.float32(),
    features_pb2.VALUE_TYPE_DOUBLE_LIST: pa.float64(),
}
"""The same of the items of a list."""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _type_of(field: Any) -> ValueType.ValueType:  # noqa: ANN401  # Feast's Field
    return value_type_named(field.dtype.to_value_type().name)


def _is_list(found: pa.DataType) -> bool:
    return bool(types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column


def _in_window(name: str, found: pa.DataType, start: datetime, end: datetime) -> pc.Expression | None:
    """What lets Parquet leave out whole groups of rows; None where the column holds no timestamps, which are compared later."""
    if not types.is_timestamp(found):
        return None
    bounds = (one if found.tz else one.replace(tzinfo=None) for one in (start, end))
    low, high = (pa.scalar(one, pa.timestamp("us", found.tz)) for one in bounds)
    return (pc.field(name) >= low) & (pc.field(name) < high)


_FIRST_IN_NANOSECONDS = datetime(1677, 9, 21, 0, 12, 44, tzinfo=UTC)


def _parsed(column: pa.ChunkedArray) -> pa.Array:
    import pandas as pd  # noqa: PLC0415  # as Feast reads such texts, and for them alone

    try:
        parsed = pd.to_datetime(column.to_pandas(), utc=True, format="ISO8601").dt.floor("us")
        return pa.array(parsed).cast(_MICROSECONDS)
    except pd.errors.OutOfBoundsDatetime:  # pandas counts nanoseconds, from 1677 to 2262
        found = [datetime.fromisoformat(text) for text in column.to_pylist()]
        return pa.array([one.astimezone(UTC) if one.tzinfo else one.replace(tzinfo=UTC) for one in found], _MICROSECONDS)


def _utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of times in UTC, which those without a zone are in."""
    if types.is_string(column.type) or types.is_large_string(column.type):
        return pa.chunked_array([_parsed(column)])
    unit = column.type.unit if types.is_timestamp(column.type) else "us"
    return column.cast(pa.timestamp(unit, "UTC"))
