"""The client's many predictions, against the server itself."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from onnx import TensorProto, helper

from ml_platform import AsyncMLPlatform, FailedPrecondition
from tests.support.inference import deploy, echo_graph
from tests.support.predictions import House, running
from tests.support.serving import column


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[AsyncMLPlatform]:
    async with running(House(tmp_path)) as house:
        house.deploy()
        async with AsyncMLPlatform(f"http://127.0.0.1:{house.frame.server.port}", house.frame.key) as client:
            yield client


@pytest.mark.parametrize("form", ["rows", "frame"])
async def test_many_rows_are_predicted_with_their_features(platform: AsyncMLPlatform, form: str) -> None:
    """Rows and a DataFrame give the same predictions and the same errors, row by row."""
    rows = [{"amount": float(at), "user_id": "nobody" if at == 7 else "u1"} for at in range(2500)]
    found: Any = await platform.predict_many("m", pd.DataFrame(rows) if form == "frame" else rows, on_error="return")
    assert [each.prediction for each in found if each is not found[7]] == [10 + at for at in range(2500) if at != 7]
    assert (found[7].reason, found[8].model_version, found[8].deployment_id) == ("FEATURE_MISSING", 1, "dep-1")
    with pytest.raises(FailedPrecondition, match="Row 7: "):
        await platform.predict_many("m", rows)


async def test_a_stream_of_many_requests_is_answered(platform: AsyncMLPlatform) -> None:
    """A thousand requests over one stream are all answered, each under its own index."""
    answers = [answer async for answer in platform.predict_stream("m", ({"amount": at, "total": 1} for at in range(1000)))]
    assert {each.index: each.prediction.prediction for each in answers if each.prediction} == {at: at + 1 for at in range(1000)}


def told(outputs: dict[str, Any]) -> str:
    """Values with their types, by name."""
    return repr(sorted(outputs.items()))


def json_number(number: float) -> float | None:
    """The number as responses have it: NaN is null."""
    return None if math.isnan(number) else number


async def test_an_output_has_one_type_however_it_is_asked_for(tmp_path: Path) -> None:
    """Integers are int, whatever their size, and other numbers float, infinite ones too, in every form; texts stay texts."""
    kinds = {"label": TensorProto.INT64, "score": TensorProto.DOUBLE, "text": TensorProto.STRING}
    columns = [column("label", "long"), column("score"), column("text", "string"), column("pair", "tensor(int64)", shape=[-1, 2])]
    columns.append(column("shares", "tensor(float64)", shape=[-1, 2]))
    graph = echo_graph(kinds)
    graph.graph.node.append(helper.make_node("Identity", ["pair"], ["pair_out"]))
    graph.graph.input.append(helper.make_tensor_value_info("pair", TensorProto.INT64, [None, 2]))
    graph.graph.output.append(helper.make_tensor_value_info("pair_out", TensorProto.INT64, [None, 2]))
    graph.graph.node.append(helper.make_node("Identity", ["shares"], ["shares_out"]))
    graph.graph.input.append(helper.make_tensor_value_info("shares", TensorProto.DOUBLE, [None, 2]))
    graph.graph.output.append(helper.make_tensor_value_info("shares_out", TensorProto.DOUBLE, [None, 2]))
    rows: list[dict[str, Any]] = [
        {"label": label, "score": score, "text": text, "pair": [label, 1], "shares": [score, 0.5]}
        for label, score, text in (
            (2**53 + 1, 1058.0, "9007199254740993"),
            (7, 611.5, "Infinity"),
            (-(2**63), 2.0**60, "a"),
            (0, float("nan"), "NaN"),
            (1, float("inf"), "Infinity"),
            (2, float("-inf"), "-Infinity"),
        )
    ]
    expected = [
        {
            "label_out": row["label"],
            "score_out": json_number(row["score"]),
            "text_out": row["text"],
            "pair_out": row["pair"],
            "shares_out": [json_number(row["score"]), 0.5],
        }
        for row in rows
    ]
    async with running(House(tmp_path)) as house:
        deploy(house, graph, columns)
        async with AsyncMLPlatform(f"http://127.0.0.1:{house.frame.server.port}", house.frame.key) as client:
            forms: dict[str, list[Any]] = {
                "alone": [await client.predict("m", row) for row in rows],
                "rows": list(await client.predict_many("m", rows)),
                "frame": list(await client.predict_many("m", pd.DataFrame(rows))),
            }
            streamed = {answer.index: answer.prediction async for answer in client.predict_stream("m", rows)}
            forms["stream"] = [streamed[at] for at in range(len(rows))]
    for form, answers in forms.items():
        assert (form, [told(answer.outputs) for answer in answers]) == (form, [told(each) for each in expected])
        assert (form, [repr(answer.prediction) for answer in answers]) == (form, [repr(row["label"]) for row in rows])
