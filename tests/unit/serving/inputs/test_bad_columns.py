"""Columns with many bad values: what is refused at the first of them, and what holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ml_platform.v1.models_pb2 import ColumnSpec, ModelSignature
from ml_platform.v1.predictions_pb2 import BatchPredictRequest, ColumnValues, InputColumn, StringValues
from ml_platform_server import turns as serving_turns
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs import convert as inputs_convert
from ml_platform_server.serving.inputs.columns import ColumnData
from ml_platform_server.serving.inputs.convert import convert, convert_in_turns
from ml_platform_server.serving.inputs.signature import Column, columns_of
from ml_platform_server.serving.open_inference.infer import infer
from ml_platform_server.turns import Turn
from tests.support.inference import raw_request
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, column, save_onnx, sum_graph

NOWHERE = np.empty(0, np.int64)
BAD = [
    ("long", np.array([1.0, 1.5, 2.0, 2.5]), NOWHERE),
    ("long", np.array([1.0, 0.0, 2.5, 2.5]), np.array([1])),
    ("long", np.array([0.0, 1.5, 2.5]), np.array([0, 1])),
    ("integer", np.array([1, 2**40, 2**41]), NOWHERE),
    ("boolean", np.array([1.0, 0.5, 0.25]), NOWHERE),
    ("double", ["x", "y", "z"], NOWHERE),
    ("double", [1.0, "y", None, "z"], np.array([2])),
    ("long", [None, "y"], np.array([0])),
    ("double", np.array([1.0, 2.0]), NOWHERE),
]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(("kind", "values", "nulls"), BAD)
async def test_the_first_bad_value_is_the_first_of_all(
    kind: str, values: np.ndarray | list[object], nulls: np.ndarray, *, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops at the first bad value learns what whoever looks at all of them learns of it."""
    (taken,) = columns_of(ModelSignature(inputs=[ColumnSpec(name="a", type=kind, required=required)]))
    sent = ColumnData(values, nulls)
    whole = convert(taken, sent).bad
    for part in (1, 2, 100):
        monkeypatch.setattr(inputs_convert, "PART", part)
        assert (await convert_in_turns(taken, sent, Turn())).bad == whole
        first = (await convert_in_turns(taken, sent, Turn(), first=True)).bad
        _stops_at_the_first(whole, first)


def _stops_at_the_first(whole: Mapping[int, str], first: Mapping[int, str]) -> None:
    assert min(whole, default=None) == min(first, default=None)
    assert all(whole[row] == problem for row, problem in first.items())


async def test_tensors_are_refused_at_the_first_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is about one row, so nothing is found out about the 99,998 others; all that is wrong with the row is told."""
    described: list[object] = []
    whole = inputs_convert._refusal

    def describing(taken: Column, value: object) -> str:
        described.append(value)
        return whole(taken, value)

    monkeypatch.setattr(inputs_convert, "_refusal", describing)
    async with running(House(tmp_path)) as house:
        names = ["a", "b", "c"]
        house.registry.add("m", 1, [column(name, "long") for name in names], save_onnx(tmp_path / "m", sum_graph(3)))
        house.deployments.activate("m", 1)
        bad, later = np.full(100_000, 1.5), np.full(100_000, 1.5)
        bad[0] = later[0] = later[1] = 1.0
        request = raw_request("m", [("a", "FP64", bad), ("b", "FP64", bad), ("c", "FP64", later)])
        served = await house.engine.served("m", PRODUCTION)
        with pytest.raises(PlatformError) as caught:
            await infer(served, request, {})
    message = caught.value.message
    assert caught.value.reason_name == "INPUT_INVALID"
    assert message.startswith("Row 1: ")
    assert ["inputs.a" in message, "inputs.b" in message, "inputs.c" in message] == [True, True, False]
    assert len(described) == 3


async def test_columns_that_fail_give_others_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other calls have a turn between two columns and between the errors of two rows."""
    monkeypatch.setattr(serving_turns, "TURN_SECONDS", 0.0)
    async with running(House(tmp_path)) as house:
        names = [f"c{number}" for number in range(100)]
        house.registry.add("wide", 1, [column(name) for name in names], save_onnx(tmp_path / "wide", sum_graph(100)))
        house.deployments.activate("wide", 1)
        texts = ColumnValues(strings=StringValues(values=["x"] * 50))
        columns = [InputColumn(name=name, values=texts) for name in names]
        request = BatchPredictRequest(model_name="wide", environment=PRODUCTION, columns=columns)
        turns, call = 0, house.stub.BatchPredict(request, metadata=house.frame.metadata, timeout=60)
        while not call.done():
            turns += 1
            await asyncio.sleep(0)
        response = await call
    assert [error.row for error in response.errors] == [*range(50)]
    assert turns > 100 + 2 * 50
