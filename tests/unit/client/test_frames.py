"""Rows and tables of other libraries, as callers hold them."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ml_platform import InvalidArgument, Listing
from ml_platform.errors import MLPlatformError
from ml_platform.resources.batches import parts
from ml_platform.resources.columns import to_column
from ml_platform.resources.definitions import to_entity_keys, to_rows
from ml_platform.values import from_struct, to_struct

COLUMNS: dict[str, list[Any]] = {"user_id": ["u1", "u2"], "amount": [1.5, 2.5], "count": [1, 2], "flag": [True, False]}
ROWS = [{name: values[at] for name, values in COLUMNS.items()} for at in range(2)]
FRAMES = {
    "pandas": pd.DataFrame(COLUMNS),
    "pandas, Arrow's types": pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.DataFrame(COLUMNS),
    "Arrow table": pa.table(COLUMNS),
    "Arrow batch": pa.RecordBatch.from_pydict(COLUMNS),
}
Row = namedtuple("Row", [*COLUMNS])  # type: ignore[misc]  # noqa: PYI024  # as itertuples makes them


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_is_sent_by_columns(frame: Any):
    """Every library's frame becomes the same columns of the same kinds."""
    (request,) = parts(frame, include_features=False)
    kinds = {column.name: str(column.values.WhichOneof("kind")) for column in request.columns}
    assert kinds == {"user_id": "strings", "amount": "doubles", "count": "integers", "flag": "booleans"}
    assert [list(getattr(column.values, kinds[column.name]).values) for column in request.columns] == list(COLUMNS.values())


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_is_entities_and_rows_to_push(frame: Any):
    """Where rows of keys or of features are wanted, a frame stands for its rows."""
    assert [from_struct(key.keys) for key in to_entity_keys(None, frame)] == ROWS
    assert [from_struct(row.values) for row in to_rows(frame, timestamp_field="event_timestamp")] == ROWS


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame([[1, 2]], columns=["a", "a"]), pd.DataFrame([[1, 2]], columns=[1, "1"]), pa.table([[1], [2]], ["a", "a"])],
)
def test_columns_of_one_name_are_refused(frame: Any):
    """Nobody can say which of two columns is meant."""
    for use in (lambda: list(parts(frame, include_features=False)), lambda: to_entity_keys(None, frame)):
        with pytest.raises(InvalidArgument, match="several columns are named"):
            use()


ROWS_OF_LIBRARIES = {
    "mapping": ROWS[0],
    "Series": pd.DataFrame(COLUMNS).iloc[0],
    "row of iterrows": next(pd.DataFrame(COLUMNS).iterrows())[1],
    "row of itertuples": next(pd.DataFrame(COLUMNS).itertuples(index=False)),
    "named tuple": Row(*ROWS[0].values()),
}


@pytest.mark.parametrize("row", ROWS_OF_LIBRARIES.values(), ids=ROWS_OF_LIBRARIES)
def test_a_row_is_taken_as_it_is_held(row: Any):
    """One row may be a mapping, a Series or a named tuple: for predict, in lists, as an entity and to push."""
    assert from_struct(to_struct(row, "inputs")) == ROWS[0]
    (request,) = parts([row, row], include_features=False)
    assert [from_struct(struct) for struct in request.rows] == [ROWS[0]] * 2
    assert [from_struct(key.keys) for key in to_entity_keys(None, [row])] == [ROWS[0]]
    assert [from_struct(made.values) for made in to_rows(row, timestamp_field="t")] == [ROWS[0]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (next(pd.DataFrame(COLUMNS).iterrows()), "take the second of each pair"),
        (FRAMES["pandas"], "one row is wanted, not a DataFrame; many rows go to predict_many"),
        ("text", "a mapping of names to values is wanted, not str"),
        (5, "a mapping of names to values is wanted, not int"),
        (np.array([1, 2]), "a mapping of names to values is wanted, not ndarray"),
        (None, "a mapping of names to values is wanted, not NoneType"),
    ],
)
def test_what_is_no_row_is_refused(given: Any, said: str):
    """The error says what came, and what to do with it."""
    with pytest.raises(InvalidArgument, match=said):
        to_struct(given, "inputs")


@pytest.mark.parametrize("given", [["u1", "u2"], ("u1",), {"u1"}, FRAMES["pandas"], 1.5, True, b"u1", np.array(["u1"])])
def test_an_entity_id_is_one_value(given: Any):
    """Several keys given as one would be read as one strange key; so would what is neither text nor an integer."""
    with pytest.raises(InvalidArgument, match="entity_id"):
        to_entity_keys(given, None)


def test_an_array_given_as_one_key_is_told_where_it_goes():
    """The error names the parameter for several."""
    with pytest.raises(InvalidArgument, match="several go into entities"):
        to_entity_keys(np.array([1, 2]), None)  # type: ignore[arg-type]  # what is refused


def test_a_mapping_of_lists_is_no_entity():
    """A table as a dictionary is many entities, which are a list of mappings."""
    with pytest.raises(InvalidArgument, match="several are a list of mappings"):
        to_entity_keys(None, {"u": [1, 2]})


@pytest.mark.filterwarnings("error")
def test_a_lazy_frame_is_to_be_collected():
    """It is not run behind its owner's back; the error says what to call."""
    lazy = FRAMES["polars"].lazy()
    for use in (lambda: list(parts(lazy, include_features=False)), lambda: to_struct(lazy, "inputs")):
        with pytest.raises(InvalidArgument, match=r"call its collect\(\) first"):
            use()


@pytest.mark.parametrize(
    ("given", "ids"), [(["u1", 2], ["u1", "2"]), (np.array([1, 2]), ["1", "2"]), (pd.Series(["u1"]), ["u1"])]
)
def test_entities_may_be_values_of_their_only_key(given: Any, ids: list[str]):
    """A list, an array or a column of keys is one entity each."""
    assert [key.entity_id for key in to_entity_keys(None, given)] == ids


def test_a_frame_of_results_has_a_column_for_errors():
    """Results of predict_many with on_error="return" make a frame: an error is the text of its row."""
    frame = Listing([{"prediction": 1}, MLPlatformError("No.", reason="INPUT_INVALID")]).to_pandas()
    assert frame["prediction"].tolist()[0] == 1
    assert frame["error"].tolist()[1] == "No. (INPUT_INVALID)"


@pytest.mark.parametrize(
    ("values", "expected", "nulls"),
    [
        ([1.0, math.nan, None], [1.0, math.nan, 0.0], [2]),
        ([1, math.nan], [1.0, math.nan], []),
        ([1, math.nan, pd.NA], [1.0, math.nan, 0.0], [2]),
        ([math.nan, None], [math.nan, 0.0], [1]),
    ],
)
def test_nan_among_numbers_is_a_number_whatever_else_is_missing(
    values: list[object], expected: list[float], nulls: list[int]
) -> None:
    """As it is in a single row: whether another row has no value changes nothing."""
    column = to_column("x", values).values
    assert repr(list(column.doubles.values)) == repr(expected)
    assert list(column.nulls) == nulls


@pytest.mark.parametrize("values", [["a", math.nan], [True, math.nan]])
def test_nan_beside_what_is_no_number_is_missing(values: list[object]) -> None:
    """As pandas has it in columns of texts."""
    assert list(to_column("x", values).values.nulls) == [1]


def test_large_integers_beside_nan_keep_their_digits() -> None:
    """A double would not hold them."""
    column = to_column("x", [2**60 + 1, math.nan]).values
    assert column.any.values[0].string_value == str(2**60 + 1)
    assert math.isnan(column.any.values[1].number_value)
