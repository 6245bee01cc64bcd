"""What the deployment pipeline makes of models and of their answers, without Airflow running."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from version_checks import asking, loading

FILE = Path(__file__).parents[3] / "deploy" / "airflow" / "dags" / "model_deployment.py"
NOWHERE = Path("no files are needed")
SCALARS = [{"name": "a", "type": "double"}, {"name": "b", "type": "integer"}, {"name": "t", "type": "datetime"}]


class Model:
    """A model that answers what the test says, and keeps what it was asked."""

    def __init__(self, answer: Any, flavors: dict[str, Any] | None = None) -> None:
        self._answer = answer
        self.asked: Any = None
        self.metadata = SimpleNamespace(flavors=flavors or {"sklearn": {}})

    def predict(self, given: Any) -> Any:
        self.asked = given
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def imported() -> ModuleType:
    """The file as Airflow would import it."""
    spec = importlib.util.spec_from_file_location("model_deployment", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The file, imported with a home of its own, which Airflow fills when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        yield imported()


def test_time_limits_are_those_of_the_tasks(pipeline: ModuleType) -> None:
    """The run has none, so that a deployment that waits for a place does not fail for it."""
    dag = pipeline.model_deployment()
    assert dag.dagrun_timeout is None
    assert len(dag.tasks) == 5
    assert all(task.execution_timeout for task in dag.tasks)


@pytest.mark.parametrize(("setting", "places"), [("5", 5), ("", max(2, os.cpu_count() or 1))])
def test_as_many_heavy_tasks_run_at_once_as_the_machine_bears(
    pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch, setting: str, places: int
) -> None:
    """As many as there are processors, unless the environment says how many."""
    monkeypatch.setenv("ML_PLATFORM_HEAVY_TASKS", setting)
    dag = imported().model_deployment()
    at_once = {task.task_id: task.max_active_tis_per_dag for task in dag.tasks}
    assert at_once == {
        "load_version": places,
        "convert_to_onnx": places,
        "check_signature": None,
        "smoke_predict": None,
        "warm_serving": None,
    }


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (np.array([1.0, 2.0]), ""),
        (pd.DataFrame({"label": ["fraud"], "score": [0.5]}), ""),
        ({"output": np.array([[0.1, 0.9]])}, ""),
        ([1], ""),
        (pd.Series([3], dtype="int64"), ""),
        (np.array([]), "gives an empty prediction"),
        (pd.DataFrame({"x": []}), "gives an empty prediction"),
        ([float("nan")], "gives a prediction that is not finite: [nan]"),
        ({"y": np.array([np.inf])}, "gives a prediction that is not finite: {'y': array([inf])}"),
        ([None], "gives a prediction that is not finite: [None]"),
    ],
)
def test_an_answer_holds_something_and_only_numbers_that_are_numbers(answer: Any, fault: str) -> None:
    """Tables, arrays, lists and dicts of them are all looked through to the last value."""
    assert asking.fault_of(answer) == fault


def test_a_row_is_made_up_from_the_signature() -> None:
    """Without an example, columns get values of their types, and tensors ones in their shapes."""
    row = asking.made_up(SCALARS)
    assert {name: str(kind) for name, kind in row.dtypes.items()} == {"a": "float64", "b": "int32", "t": "datetime64[ns]"}
    assert len(row) == 1
    tensor = asking.made_up([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}])
    assert (tensor.tolist(), str(tensor.dtype)) == ([[1.0, 1.0, 1.0]], "float32")


def test_a_model_is_asked_with_its_own_example_if_it_has_one() -> None:
    """The example that was logged beats anything made up."""
    model, example = Model([0.5]), pd.DataFrame({"a": [7.0]})
    assert asking.asked(model, NOWHERE, SCALARS, example) == {"answer": "[0.5]", "fault": "", "doubt": ""}
    assert model.asked is example


def test_a_model_that_fails_on_its_example_or_on_numbers_is_at_fault() -> None:
    """Any number should do, and one's own example must."""
    broken = Model(ValueError("no"))
    assert asking.asked(broken, NOWHERE, SCALARS, pd.DataFrame({"a": [7.0]}))["fault"] == "fails on its own input example: no"
    assert asking.asked(broken, NOWHERE, SCALARS, None)["fault"] == "fails on a made-up row of ones: no"


def test_a_made_up_text_leaves_a_doubt() -> None:
    """A model may rightly refuse a category that it never saw."""
    refused = asking.asked(Model(ValueError("unknown category 'a'")), NOWHERE, [{"name": "c", "type": "string"}], None)
    assert refused == {"answer": "", "fault": "", "doubt": "fails on a made-up row: unknown category 'a'"}


@pytest.mark.parametrize(
    ("environment", "told"),
    [("staging", None), ("production", "log the model with input_example=")],
)
def test_a_version_in_doubt_is_for_staging_alone(
    pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch, environment: str, told: str | None
) -> None:
    """What nobody could check may be tried in staging; in production it would replace what works."""
    configuration = {"environment": environment, "model_name": "m", "version": 1}
    monkeypatch.setattr(pipeline, "conf", lambda: configuration)
    version = {"answer": "", "fault": "", "doubt": "fails on a made-up row: unknown category 'a'"}
    outcome = pytest.raises(ValueError, match=told) if told else nullcontext()
    with outcome:
        pipeline.smoke_predict.function(version)


def test_a_graph_with_an_input_for_each_column_is_asked_as_the_server_asks_it(tmp_path: Path) -> None:
    """Each column becomes an array of one column, in the type of its input; MLflow's own wrapper is not asked."""
    column = [None, 1]
    amount = onnx.helper.make_tensor_value_info("amount", onnx.TensorProto.FLOAT, column)
    hour = onnx.helper.make_tensor_value_info("hour", onnx.TensorProto.INT64, column)
    total = onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, column)
    nodes = [
        onnx.helper.make_node("Cast", ["hour"], ["hours"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Add", ["amount", "hours"], ["total"]),
    ]
    graph = onnx.helper.make_graph(nodes, "sum", [amount, hour], [total])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    wrapped = Model(ValueError("Invalid rank"), flavors={"onnx": {"data": "model.onnx"}})
    answer = asking.answer_of(wrapped, tmp_path, pd.DataFrame({"amount": [1.5], "hour": [3]}))
    assert {name: values.tolist() for name, values in answer.items()} == {"total": [[4.5]]}


@pytest.mark.parametrize(
    ("example", "columns"),
    [
        (pd.DataFrame({"a": [1.5], "t": [pd.Timestamp("2024-01-01")]}), {"a": [1.5], "t": ["2024-01-01T00:00:00.000"]}),
        (np.array([[1.0, 2.0]]), {"input": [[1.0, 2.0]]}),
        ({"x": np.array([1])}, {"x": [1]}),
        ({"x": 1}, None),
        (None, None),
    ],
)
def test_an_example_is_told_as_the_serving_side_takes_rows(example: Any, columns: Any) -> None:
    """Columns of JSON values; what cannot be told so is not sent."""
    assert loading.as_columns(example) == columns
