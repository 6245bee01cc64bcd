"""Numbers that a model refuses and that its graph would answer: the server refuses them in the model's place."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ml_platform.v1 import models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs import refusals
from ml_platform_server.serving.inputs.columns import ColumnData
from ml_platform_server.serving.inputs.convert import convert
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY
from ml_platform_server.serving.inputs.rows import decoder
from ml_platform_server.serving.inputs.signature import Column, columns_of
from tests.support.serving import column, fields

BOTH = '{"x": {"missing": "Input X contains NaN", "largest": 3.4028234663852886e+38, "beyond": "Input X contains infinity"}}'
INFINITE = '{"x": {"largest": 1.7976931348623157e+308, "beyond": "Input X contains infinity"}}'
NAN, TOO_LARGE = "the model refuses NaN (Input X contains NaN)", "the model refuses infinity and numbers beyond"


def restricted(kept: str, kind: str = "double", *, required: bool = True, shape: tuple[int, ...] = ()) -> Column:
    (plain,) = columns_of(models_pb2.ModelSignature(inputs=[column("x", kind, required=required, shape=shape)]))
    return refusals.refusing(plain, refusals.read({refusals.PROPERTY: kept})["x"])


@pytest.mark.parametrize(
    ("kept", "kind", "value", "why"),
    [
        (BOTH, "double", math.nan, NAN),
        (BOTH, "double", math.inf, TOO_LARGE),
        (BOTH, "double", -1e39, TOO_LARGE),
        (BOTH, "double", 3.4028234663852886e38, ""),
        (BOTH, "double", 0.0, ""),
        (BOTH, "float", math.nan, NAN),
        (BOTH, "float", -math.inf, TOO_LARGE),
        (INFINITE, "double", math.nan, ""),
        (INFINITE, "double", 1e300, ""),
        (INFINITE, "double", math.inf, TOO_LARGE),
        (INFINITE, "float", math.inf, TOO_LARGE),
    ],
)
def test_rows_and_columns_refuse_alike(kept: str, kind: str, value: float, why: str) -> None:
    """Whether a value comes in a row, in a column of 64 bits or in one of 32."""
    given = restricted(kept, kind)
    decode = decoder([given])
    if why:
        with pytest.raises(PlatformError, match="do not fit") as caught:
            decode(fields(x=value), DEFAULT_POLICY)
        assert why in caught.value.violations[0].description
    else:
        (found,) = decode(fields(x=value), DEFAULT_POLICY).values
        assert found == value or (math.isnan(value) and isinstance(found, float) and math.isnan(found))
    for dtype in (np.float64, np.float32) if abs(value) != 1e39 and abs(value) != 1e300 else (np.float64,):
        bad = convert(given, ColumnData(np.array([1.0, value], dtype), np.array([], np.int64))).bad
        assert [*bad] == ([1] if why else [])
        assert all(why in text for text in bad.values())


def test_rows_of_a_tensor_are_refused_for_one_number() -> None:
    """The numbers of a tensor are looked at one by one."""
    given = restricted(BOTH, "tensor(float64)", shape=(-1, 2))
    assert given.convert([1.0, 2.0]) == [1.0, 2.0]
    with pytest.raises(ValueError, match="refuses NaN"):
        given.convert([1.0, math.nan])
    bad = convert(given, ColumnData(np.array([[1.0, 2.0], [math.inf, 0.0]]), np.array([], np.int64))).bad
    assert [*bad] == [1]


def test_an_optional_column_whose_gaps_the_model_refuses_is_required() -> None:
    """A null would reach the graph as NaN."""
    assert restricted(BOTH, required=False).required
    assert not restricted(INFINITE, required=False).required


@pytest.mark.parametrize("kept", ["", "[]", "3", '{"x": 1}', '{"x": {"largest": "a"}}'])
def test_metadata_that_make_no_sense_are_left_out(kept: str) -> None:
    """Graphs come from anywhere."""
    assert refusals.read({refusals.PROPERTY: kept}) == {}
    assert refusals.read({}) == {}
