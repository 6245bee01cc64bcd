"""A file whose columns Feast could not load as declared is refused when its view is registered."""

from __future__ import annotations

import pyarrow as pa
import pytest
from google.protobuf import json_format

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.registry.parquet import check_types
from ml_platform_server.errors import PlatformError

TIME = pa.timestamp("us", "UTC")


def told(view: dict[str, object], **columns: pa.DataType) -> list[tuple[str, str]]:
    """What is wrong with a file of these columns for this view."""
    try:
        check_types(json_format.ParseDict(view, pb.FeatureView()), pa.schema(columns))
    except PlatformError as error:
        return [(violation.field.removeprefix("feature_view."), violation.description) for violation in error.violations]
    return []


def a_view(declared: str = "INT64", key: str = "STRING") -> dict[str, object]:
    return {
        "entities": [{"name": "user", "join_key": "user_id", "value_type": f"VALUE_TYPE_{key}"}],
        "features": [{"name": "total", "value_type": f"VALUE_TYPE_{declared}"}],
        "source": {"path": "x", "timestamp_field": "time"},
    }


@pytest.mark.parametrize(
    ("declared", "fitting", "unfit"),
    [
        ("STRING", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], [pa.int64(), TIME]),
        ("INT32", [pa.int8(), pa.int32(), pa.int64(), pa.float64()], [pa.string(), TIME]),
        ("INT64", [pa.int32(), pa.int64(), pa.float64()], [pa.string(), pa.bool_(), pa.list_(pa.int64())]),
        ("FLOAT", [pa.float32(), pa.float64(), pa.int32(), pa.decimal128(5, 2)], [pa.string(), TIME]),
        ("DOUBLE", [pa.float64(), pa.int64(), pa.decimal128(5, 2)], [pa.float32(), pa.int32(), pa.string()]),
        ("BOOL", [pa.bool_(), pa.int64()], [pa.string(), pa.float64()]),
        ("TIMESTAMP", [TIME, pa.timestamp("ns"), pa.date32()], [pa.string(), pa.float64()]),
        ("BYTES", [pa.binary(), pa.large_binary()], [pa.string()]),
        ("STRING_LIST", [pa.list_(pa.string())], [pa.string(), pa.list_(pa.int64())]),
        ("INT64_LIST", [pa.list_(pa.int64()), pa.list_(pa.int32())], [pa.int64(), pa.list_(pa.float64())]),
        ("FLOAT_LIST", [pa.list_(pa.float32()), pa.list_(pa.float64(), 3)], [pa.list_(pa.int64())]),
        ("DOUBLE_LIST", [pa.list_(pa.float64()), pa.large_list(pa.float64())], [pa.list_(pa.string())]),
    ],
)
def test_a_feature_s_type_must_be_one_that_feast_can_load(
    declared: str, fitting: list[pa.DataType], unfit: list[pa.DataType]
) -> None:
    """A column that holds nothing fits everything."""
    assert [kind for kind in [*fitting, pa.null()] if told(a_view(declared), user_id=pa.string(), total=kind, time=TIME)] == []
    for kind in unfit:
        assert told(a_view(declared), user_id=pa.string(), total=kind, time=TIME) == [
            ("features[0].value_type", f"total is declared {declared}, but the file's column is {kind}")
        ]


@pytest.mark.parametrize(
    ("key", "found", "fits"),
    [
        ("STRING", pa.string(), True),
        ("STRING", pa.int64(), True),
        ("STRING", pa.float64(), False),
        ("INT64", pa.int32(), True),
        ("INT64", pa.float64(), False),
        ("INT64", pa.string(), False),
    ],
)
def test_a_key_is_text_or_a_whole_number(key: str, found: pa.DataType, fits: bool) -> None:  # a column of the table
    """Whole numbers may be declared text, for their text is always the same."""
    assert (told(a_view(key=key), user_id=found, total=pa.int64(), time=TIME) == []) == fits


def test_the_time_must_be_one() -> None:
    """Times as text are parsed by Feast; numbers would be taken for nanoseconds."""
    assert told(a_view(), user_id=pa.string(), total=pa.int64(), time=pa.string()) == []
    assert told(a_view(), user_id=pa.string(), total=pa.int64(), time=pa.int64()) == [
        ("source.timestamp_field", "the column time of the file is int64, no time")
    ]
