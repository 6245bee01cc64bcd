"""ONNX graphs of many shapes: how they are fed, what they give, and what is refused when it is loaded."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ml_platform.v1 import models_pb2
from ml_platform.v1.predictions_pb2 import PredictResponse
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.outputs.encode import encoded
from ml_platform_server.serving.runtimes.latency import LatencyEstimator
from ml_platform_server.serving.runtimes.onnx.runtime import INLINE_SECONDS, OnnxRuntime, load_onnx
from ml_platform_server.struct_values import plain
from tests.support.inference import classifier_graph
from tests.support.serving import column, save_onnx, sum_graph

P = ParamSpec("P")
R = TypeVar("R")


class CountingPool(BlockingPool):
    """A pool that knows how often it was used."""

    runs = 0

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.runs += 1
        return await super().run(function, *args, **kwargs)


@pytest.fixture
def pool() -> Iterator[CountingPool]:
    made = CountingPool("ONNX Runtime", threads=1)
    yield made
    made.close()


def _graph(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


def _info(name: str, kind: int, shape: Sequence[int | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


async def _load(tmp_path: Path, pool: BlockingPool, model: onnx.ModelProto, *inputs: models_pb2.ColumnSpec) -> OnnxRuntime:
    return await load_onnx(save_onnx(tmp_path / "m", model), columns_of(models_pb2.ModelSignature(inputs=inputs)), pool)


@pytest.fixture
async def total(tmp_path: Path, pool: BlockingPool) -> OnnxRuntime:
    return await _load(tmp_path, pool, sum_graph(3), column("a"), column("b", "long"), column("c", "boolean"))


async def test_columns_go_side_by_side_into_one_matrix(total: OnnxRuntime) -> None:
    """A graph with one matrix takes all columns in the signature's order; one value a row comes back as a number."""
    first, second = await total.predict([[1.5, 2, True], [0.0, -1, False]])

    assert (first.prediction, second.prediction) == (4.5, -1.0)
    assert (first.probability, first.outputs) == (None, {"total": 4.5})


async def test_missing_numbers_are_null_and_infinite_ones_text(total: OnnxRuntime) -> None:
    """A null goes in as NaN; of what comes out and JSON does not have, NaN is null, and infinity is text and named."""
    missing, endless, fine = await total.predict([[None, 1, True], [float("inf"), 1, True], [1.0, 1, True]])

    assert [str(answer.prediction) for answer in (missing, endless, fine)] == ["nan", "inf", "3.0"]
    responses = [PredictResponse.FromString(encoded(answer)) for answer in (missing, endless, fine)]
    assert [plain(response.prediction) for response in responses] == [None, "Infinity", 3.0]
    assert [response.infinite_prediction for response in responses] == [False, True, False]
    assert [list(response.infinite_outputs) for response in responses] == [[], list(endless.outputs), []]


async def test_short_runs_stay_on_the_loop_and_long_ones_leave_it(total: OnnxRuntime, pool: CountingPool) -> None:
    """The first run leaves the event loop; once runs proved short, small batches stay, and large ones still leave."""
    pool.runs = 0
    first = await _runs(pool, total, rows=1)
    for _ in range(40):
        await total.predict([[1.0, 1, True]])
    short = await _runs(pool, total, rows=1)
    long = await _runs(pool, total, rows=100_000)

    assert (first, short, long) == (1, 0, 1)


async def test_columns_that_take_a_little_longer_are_run_in_two_halves_on_the_loop(
    tmp_path: Path, pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They give what one run gives, others have a turn in between, and what takes longer still leaves the loop."""
    runtime = await _load(tmp_path, pool, classifier_graph(), column("a"), column("b"))
    columns = [np.linspace(-3, 3, 101), np.linspace(2, -1, 101)]
    expected = await runtime.predict_columns(columns, 101)
    ran = pool.runs
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    monkeypatch.setattr(LatencyEstimator, "expected", lambda *_: 1.5 * INLINE_SECONDS)
    halves = await runtime.predict_columns(columns, 101)
    assert (pool.runs, turns) == (ran, [1])
    for name, values in expected.outputs.items():
        assert np.array_equal(np.asarray(halves.outputs[name]), np.asarray(values))
        assert np.asarray(halves.outputs[name]).dtype == np.asarray(values).dtype
    assert expected.probabilities is not None
    assert halves.probabilities is not None
    assert np.array_equal(halves.probabilities(), expected.probabilities())
    monkeypatch.setattr(LatencyEstimator, "expected", lambda *_: 2.5 * INLINE_SECONDS)
    await runtime.predict_columns(columns, 101)
    assert pool.runs == ran + 1


async def _runs(pool: CountingPool, runtime: OnnxRuntime, *, rows: int) -> int:
    before = pool.runs
    await runtime.predict([[1.0, 1, True]] * rows)
    return pool.runs - before


async def test_inputs_called_like_columns_get_one_tensor_each(tmp_path: Path, pool: BlockingPool) -> None:
    """A graph with an input per column gets each in its own type and shape, text included."""
    nodes = [
        helper.make_node("Identity", ["city"], ["town"]),
        helper.make_node("Squeeze", ["rooms"], ["flat"], axes=[1]),
        helper.make_node("Add", ["flat", "floor"], ["height"]),
    ]
    model = _graph(
        nodes,
        [
            _info("rooms", TensorProto.INT64, [None, 1]),
            _info("floor", TensorProto.INT64, [None]),
            _info("city", TensorProto.STRING, [None, 1]),
        ],
        [_info("height", TensorProto.INT64, [None]), _info("town", TensorProto.STRING, [None, 1])],
    )
    runtime = await _load(tmp_path, pool, model, column("city", "string"), column("floor", "integer"), column("rooms", "long"))

    first, second = await runtime.predict([["Paris", 1, 3], ["Rome", 2, 4]])

    assert first.outputs == {"height": 4, "town": "Paris"}
    assert second.outputs == {"height": 6, "town": "Rome"}
    optional = dataclasses.replace(columns_of(models_pb2.ModelSignature(inputs=[column("city", "string")]))[0], required=False)
    assert runtime.restricted(optional, 0).required


async def test_graph_for_one_row_is_run_row_by_row(tmp_path: Path, pool: BlockingPool) -> None:
    """A graph that was exported for exactly one row answers a batch all the same."""
    node = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1, axes=[1])
    model = _graph([node], [_info("x", TensorProto.FLOAT, [1, 2])], [_info("s", TensorProto.FLOAT, [1, 1])])
    runtime = await _load(tmp_path, pool, model, column("a"), column("b"))

    answers = await runtime.predict([[1.0, 2.0], [3.0, 4.0]])

    assert [answer.prediction for answer in answers] == [3.0, 7.0]


@pytest.mark.parametrize("rows", [2, 40])
async def test_graph_that_gives_its_answers_side_by_side_is_run_row_by_row(tmp_path: Path, pool: BlockingPool, rows: int) -> None:
    """Its answers to N rows are (1, N): no row is at fault, and nothing is searched for one that is."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1, axes=[1]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[1, 0]),
    ]
    model = _graph(nodes, [_info("x", TensorProto.FLOAT, [None, 2])], [_info("t", TensorProto.FLOAT, [1, None])])
    runtime = await _load(tmp_path, pool, model, column("a"), column("b"))
    expected = [2.0 * at for at in range(rows)]

    answers = await runtime.predict([[float(at), float(at)] for at in range(rows)])
    found = await runtime.predict_columns([np.arange(rows, dtype=float)] * 2, rows)

    assert [answer.prediction for answer in answers] == expected
    assert np.asarray(found.outputs["t"]).tolist() == expected


async def test_graph_that_gives_no_entry_per_row_fails(tmp_path: Path, pool: BlockingPool) -> None:
    """Also row by row."""
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
    model = _graph([node], [_info("x", TensorProto.FLOAT, [None, 2])], [_info("y", TensorProto.FLOAT, [None, 2])])
    runtime = await _load(tmp_path, pool, model, column("a"), column("b"))
    for rows in (1, 3, 3):
        with pytest.raises(PlatformError) as caught:
            await runtime.predict([[1.0, 2.0]] * rows)
        assert caught.value.reason_name == "MODEL_FAILED"
        with pytest.raises(PlatformError) as caught:
            await runtime.predict_columns([np.ones(rows)] * 2, rows)
        assert caught.value.reason_name == "MODEL_FAILED"


async def test_tensor_goes_in_as_it_is(tmp_path: Path, pool: BlockingPool) -> None:
    """A model of one tensor gets one row of it a request and gives vectors as lists."""
    node = helper.make_node("ReduceSum", ["image"], ["s"], keepdims=0, axes=[1])
    model = _graph([node], [_info("image", TensorProto.FLOAT, [None, 2, 2])], [_info("s", TensorProto.FLOAT, [None, 2])])
    runtime = await _load(tmp_path, pool, model, column("", "tensor(float32)", shape=[-1, 2, 2]))

    (answer,) = await runtime.predict([[[[1.0, 2.0], [3.0, 4.0]]]])

    assert answer.prediction == [4.0, 6.0]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([column("a"), column("b")], "does not hold the signature's 2 columns side by side"),
        ([column("a"), column("b"), column("c", "string")], "column c (string) does not fit"),
        ([column("a"), column("b"), column("c", "datetime")], "column c (datetime) does not fit"),
    ],
)
async def test_misfit_is_refused_when_it_is_loaded(
    tmp_path: Path, pool: BlockingPool, inputs: list[models_pb2.ColumnSpec], told: str
) -> None:
    """A signature that does not go with the graph is MODEL_FAILED at load, with the column at fault."""
    with pytest.raises(PlatformError) as caught:
        await _load(tmp_path, pool, sum_graph(3), *inputs)

    assert caught.value.reason_name == "MODEL_FAILED"
    assert told in caught.value.message


async def test_graph_that_fails_on_a_row_is_told_without_its_words(tmp_path: Path, pool: BlockingPool) -> None:
    """What ONNX Runtime raises on a row becomes INPUT_REJECTED in the platform's words."""
    node = helper.make_node("Gather", ["table", "place"], ["found"], axis=0)
    table = helper.make_node("Constant", [], ["table"], value=helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0]))
    model = _graph([table, node], [_info("place", TensorProto.INT64, [None, 1])], [_info("found", TensorProto.FLOAT, [None, 1])])
    runtime = await _load(tmp_path, pool, model, column("place", "long"))

    (fine,) = await runtime.predict([[1]])
    with pytest.raises(PlatformError) as caught:
        await runtime.predict([[7]])

    assert fine.prediction == 2.0
    message = "The model failed on these inputs: InvalidArgument in ONNX Runtime."
    assert (caught.value.reason_name, caught.value.message) == ("INPUT_REJECTED", message)


@pytest.mark.parametrize("rows", [1, 20])
async def test_an_integer_beyond_the_graphs_tensor_is_a_bad_input(tmp_path: Path, pool: BlockingPool, rows: int) -> None:
    """A signature of 64 bits over a graph of 32 takes what fits; what does not is INPUT_INVALID naming the column."""
    names = ("count", "other")
    nodes = [helper.make_node("Add", list(names), ["sum"])]
    inputs = [_info(name, TensorProto.INT32, [None, 1]) for name in names]
    model = _graph(nodes, inputs, [_info("sum", TensorProto.INT32, [None, 1])])
    runtime = await _load(tmp_path, pool, model, column("count", "long"), column("other", "long"))
    assert [answer.prediction for answer in await runtime.predict([[2**31 - 1, 0]] * rows)] == [2**31 - 1] * rows

    for predict in (
        lambda: runtime.predict([[1, 2**31]] * rows),
        lambda: runtime.predict_columns([np.ones(rows, np.int64), np.full(rows, 2**31)], rows),
    ):
        with pytest.raises(PlatformError) as caught:
            await predict()
        assert (caught.value.reason_name, [each.field for each in caught.value.violations]) == ("INPUT_INVALID", ["inputs.other"])


@pytest.mark.parametrize("damage", ["no folder", "no graph", "no flavour", "outside"])
async def test_files_that_are_not_there_are_told(tmp_path: Path, pool: BlockingPool, damage: str) -> None:
    """A model folder without its graph is MODEL_ARTIFACT_MISSING, and a path that leads out of it is not followed."""
    folder = save_onnx(tmp_path / "m", sum_graph(1))
    match damage:
        case "no folder":
            folder = tmp_path / "nothing"
        case "no graph":
            (folder / "model.onnx").unlink()
        case "no flavour":
            (folder / "MLmodel").write_text("flavors: {sklearn: {}}")
        case "outside":
            (folder / "model.onnx").rename(tmp_path / "model.onnx")
            (folder / "MLmodel").write_text("flavors: {onnx: {data: ../model.onnx}}")

    with pytest.raises(PlatformError) as caught:
        await load_onnx(folder, (), pool)

    assert caught.value.reason_name == "MODEL_ARTIFACT_MISSING"


async def test_file_that_is_no_graph_is_refused(tmp_path: Path, pool: BlockingPool) -> None:
    """A pickle in place of the graph is not opened: ONNX Runtime refuses it."""
    folder = save_onnx(tmp_path / "m", sum_graph(1))
    (folder / "model.onnx").write_bytes(b"\x80\x04\x95cos\nsystem\n.")

    with pytest.raises(PlatformError) as caught:
        await load_onnx(folder, (), pool)

    assert (caught.value.reason_name, caught.value.message) == ("MODEL_FAILED", "ONNX Runtime cannot load the model.")


def _predicts_probabilities() -> onnx.ModelProto:
    """A graph that gives all probabilities twice, as what it predicts and by their name."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["prediction"], axis=1),
        helper.make_node("Identity", ["prediction"], ["probability"]),
    ]
    outputs = [_info(name, TensorProto.FLOAT, [None, 2]) for name in ("prediction", "probability")]
    model = _graph(nodes, [_info("x", TensorProto.FLOAT, [None, 1])], outputs)
    model.graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
    return model


async def test_a_graph_that_predicts_probabilities_has_a_probability(tmp_path: Path, pool: BlockingPool) -> None:
    """The probability of the positive class is given in every form: one row, several, and columns."""
    runtime = await _load(tmp_path, pool, _predicts_probabilities(), column("x"))
    values = [0.0, 2.0, -3.0]
    expected = [pytest.approx(1 / (1 + np.exp(-value)), abs=1e-6) for value in values]
    alone = [(await runtime.predict([[value]]))[0] for value in values]
    together = await runtime.predict([[value] for value in values])
    columns = await runtime.predict_columns([np.array(values)], 3)
    assert columns.probabilities is not None
    assert [answer.probability for answer in alone] == expected
    assert [answer.probability for answer in together] == expected
    assert list(columns.probabilities()) == expected
