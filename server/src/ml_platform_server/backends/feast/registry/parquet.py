"""Compares the types of a file's columns with the types that a feature view declares. Imports PyArrow: only for the pool.

What is let pass is what Feast loads, as tried with Feast 0.67: it goes by the column's type, and fails in a job, hours later,
where it cannot. Whole numbers may stand as floating-point ones, because pandas writes those where a value is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import pyarrow as pa
from pyarrow import parquet, types
from pyarrow.dataset import FileSystemDataset

from ml_platform.v1 import errors_pb2, features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.errors import PlatformError, Violation

Fits = Callable[[pa.DataType], bool]
MOST_FOOTERS = 100
"""Files of a folder whose statistics are read."""


def check_types(view: features_pb2.FeatureView, schema: pa.Schema) -> None:
    """Check the columns of a view's file, all of which are there.

    Raises:
        PlatformError: INVALID_FIELDS, with a violation for every column whose values Feast could not load as declared.
    """
    violations = list(_misfits(view, schema))
    if violations:
        raise PlatformError(
            errors_pb2.ERROR_REASON_INVALID_FIELDS,
            "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3]) + ".",
            remedy="Declare the types that the file has, or write the file with the types that are declared.",
            violations=violations,
        )


def check_nulls(view: features_pb2.FeatureView, found: FileSystemDataset) -> None:
    """Refuse files whose statistics count rows without a key or a time; where there are none, the materialization finds them.

    Raises:
        PlatformError: INVALID_FIELDS.
    """
    needed = {entity.join_key: f"entities[{at}].join_key" for at, entity in enumerate(view.entities)}
    needed[view.source.timestamp_field] = "source.timestamp_field"
    footers = [fragment.metadata for fragment in islice(found.get_fragments(), MOST_FOOTERS)]
    nulls = {name: sum(_null_count(footer, name) for footer in footers) for name in needed}
    violations = [
        Violation(f"feature_view.{field}", f"{nulls[name]} rows of the file have no value of {name}")
        for name, field in needed.items()
        if nulls[name]
    ]
    if violations:
        raise PlatformError(
            errors_pb2.ERROR_REASON_INVALID_FIELDS,
            "; ".join(f"{violation.field}: {violation.description}" for violation in violations) + ".",
            remedy="Remove these rows from the file, or give them values.",
            violations=violations,
        )


def _null_count(footer: parquet.FileMetaData, name: str) -> int:
    at = next((at for at in range(footer.num_columns) if footer.schema.column(at).path == name), None)
    if at is None:
        return 0
    known = (footer.row_group(group).column(at).statistics for group in range(footer.num_row_groups))
    return sum(statistics.null_count for statistics in known if statistics is not None and statistics.has_null_count)


def _misfits(view: features_pb2.FeatureView, schema: pa.Schema) -> Iterator[Violation]:
    for at, entity in enumerate(view.entities):
        found = _plain(schema, entity.join_key)
        if not _fits_key(entity.value_type, found):
            yield _misfit(f"entities[{at}].value_type", entity.join_key, entity.value_type, found)
    for at, feature in enumerate(view.features):
        found = _plain(schema, feature.name)
        if not _fits(feature.value_type, found):
            yield _misfit(f"features[{at}].value_type", feature.name, feature.value_type, found)
    for field in ("timestamp_field", "created_timestamp_column"):
        name = getattr(view.source, field)
        if name and not (_moment(_plain(schema, name)) or _text(_plain(schema, name))):
            yield Violation(
                f"feature_view.source.{field}", f"the column {name} of the file is {schema.field(name).type}, no time"
            )


def _misfit(field: str, name: str, declared: ValueType.ValueType, found: pa.DataType) -> Violation:
    kind = ValueType.Name(declared).removeprefix("VALUE_TYPE_")
    return Violation(f"feature_view.{field}", f"{name} is declared {kind}, but the file's column is {found}")


def _plain(schema: pa.Schema, name: str) -> pa.DataType:
    """The type of a column's values, however they are stored."""
    found = schema.field(name).type
    return found.value_type if types.is_dictionary(found) else found


def _fits(declared: ValueType.ValueType, found: pa.DataType) -> bool:
    fits = _FITS.get(declared)
    return fits is None or types.is_null(found) or fits(found)


def _fits_key(declared: ValueType.ValueType, found: pa.DataType) -> bool:
    # Keys are never missing, so whole numbers always stand as such, and their texts are always the same: 7, not 7.0 next time.
    return bool(types.is_integer(found)) or (declared == features_pb2.VALUE_TYPE_STRING and _text(found))


def _text(found: pa.DataType) -> bool:
    return bool(types.is_string(found) or types.is_large_string(found))


def _whole(found: pa.DataType) -> bool:
    return bool(types.is_integer(found) or types.is_floating(found))


def _single(found: pa.DataType) -> bool:
    return _whole(found) or bool(types.is_decimal(found))


def _double(found: pa.DataType) -> bool:
    # Feast takes no narrower types for it, however safe that would be.
    return bool(types.is_int64(found) or types.is_float64(found) or types.is_decimal(found))


def _truth(found: pa.DataType) -> bool:
    return bool(types.is_boolean(found) or types.is_int64(found))


def _moment(found: pa.DataType) -> bool:
    return bool(types.is_timestamp(found) or types.is_date(found))


def _bytes(found: pa.DataType) -> bool:
    return bool(types.is_binary(found) or types.is_large_binary(found) or types.is_fixed_size_binary(found))


def _list_of(item: Fits) -> Fits:
    def fits(found: pa.DataType) -> bool:
        is_list = types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
        return bool(is_list) and (types.is_null(found.value_type) or item(found.value_type))

    return fits


_FITS: Mapping[ValueType.ValueType, Fits] = {
    features_pb2.VALUE_TYPE_STRING: _text,
    features_pb2.VALUE_TYPE_INT32: _whole,
    features_pb2.VALUE_TYPE_INT64: _whole,
    features_pb2.VALUE_TYPE_FLOAT: _single,
    features_pb2.VALUE_TYPE_DOUBLE: _double,
    features_pb2.VALUE_TYPE_BOOL: _truth,
    features_pb2.VALUE_TYPE_TIMESTAMP: _moment,
    features_pb2.VALUE_TYPE_BYTES: _bytes,
    features_pb2.VALUE_TYPE_STRING_LIST: _list_of(_text),
    features_pb2.VALUE_TYPE_INT64_LIST: _list_of(types.is_integer),
    features_pb2.VALUE_TYPE_FLOAT_LIST: _list_of(types.is_floating),
    features_pb2.VALUE_TYPE_DOUBLE_LIST: _list_of(types.is_floating),
}
