"""The examples' pipelines check what they are asked for, import nothing of ours, and export models that agree with themselves."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.delivery_times import generate as deliveries
from examples.fraud_detection import demo
from examples.fraud_detection import generate as cards
from tests.support import days

ROOT = Path(__file__).parents[3]
DAG_FILES = sorted((ROOT / "examples").glob("*/dags/*.py"))


@pytest.fixture(scope="module")
def fraud(airflow_home: Path) -> Any:
    return importlib.import_module("examples.fraud_detection.dags.fraud_detection_training")


@pytest.fixture(scope="module")
def delivery(airflow_home: Path) -> Any:
    return importlib.import_module("examples.delivery_times.dags.delivery_times_training")


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Importing Airflow writes into its home: here, not into that of whoever runs the tests."""
    home = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(home))
        yield home


@pytest.fixture(scope="module")
def training_rows() -> pd.DataFrame:
    """Transactions with each user's features of the quarter's beginning, as the pipeline's join gives them."""
    transactions, snapshots = cards.generate(date(2024, 3, 31))
    first = snapshots[snapshots["event_timestamp"] == snapshots["event_timestamp"].min()].drop(columns="event_timestamp")
    joined = transactions.merge(first, on="user_id")
    return joined.drop(columns=["transaction_id", "user_id", "event_timestamp"])


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_pipeline_imports_nothing_of_the_platform(path: Path) -> None:
    """A pipeline is an ordinary Airflow DAG: no import in it, at the top or inside a task, is of ours or of a file beside it."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported & {"ml_platform", "ml_platform_server", "examples", ""} == set()
    assert "airflow" in imported


def test_each_example_has_a_pipeline() -> None:
    """The test above looks at both."""
    assert [path.stem for path in DAG_FILES] == ["delivery_times_training", "fraud_detection_training"]


def test_numbers_and_dates_are_taken_as_text_too(fraud: Any) -> None:
    """What arrives as text or as a number of another kind means the same."""
    conf = {"experiment_name": "e", "data_start_date": "2024-01-01", "n_estimators": "20", "max_depth": 2.0, "learning_rate": 1}
    expected = fraud.Config("e", date(2024, 1, 1), None, 20, 2, 1.0)
    assert fraud.Config.parse(conf) == expected


def test_what_is_left_out_takes_its_default(fraud: Any) -> None:
    """An empty configuration, and one that says null, train with the defaults on all the data."""
    expected = fraud.Config("fraud_detection", None, None, 50, 3, 0.1)
    assert fraud.Config.parse({}) == expected
    assert fraud.Config.parse({"n_estimators": None, "data_end_date": ""}) == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"n_estimators": "many"}, "n_estimators must be a whole number from 1 to 1000, not 'many'"),
        ({"n_estimators": 0}, "n_estimators must be a whole number from 1 to 1000, not 0"),
        ({"n_estimators": 2.5}, "n_estimators must be a whole number from 1 to 1000, not 2.5"),
        ({"max_depth": True}, "max_depth must be a whole number from 1 to 16, not True"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number from 0.0001 to 1, not nan"),
        ({"learning_rate": [1]}, r"learning_rate must be a number from 0.0001 to 1, not \[1\]"),
        ({"data_start_date": "March"}, "data_start_date must be a date written as YYYY-MM-DD, not 'March'"),
        ({"data_end_date": "2024-02-30"}, "data_end_date must be a date written as YYYY-MM-DD, not '2024-02-30'"),
        (
            {"data_start_date": "2024-02-02", "data_end_date": "2024-02-01"},
            "data_start_date 2024-02-02 lies after data_end_date 2024-02-01",
        ),
    ],
)
def test_nonsense_is_refused_by_name(fraud: Any, entry: dict[str, object], message: str) -> None:
    """An entry that makes no sense is named, with what it should be and what it was."""
    with pytest.raises(ValueError, match=message):
        fraud.Config.parse(entry)


def test_both_ends_of_the_days_asked_for_count(fraud: Any, delivery: Any) -> None:
    """The first and the last day are taken in full, and no other."""
    transactions, _ = cards.generate(date(2024, 1, 31))
    first, last = date(2024, 1, 10), date(2024, 1, 12)
    assert set(fraud.within(transactions, first, last)["event_timestamp"].dt.date) == {first, date(2024, 1, 11), last}
    history = deliveries.generate(date(2025, 1, 31)).deliveries
    taken = delivery.chosen(history, "2025-01-10", "2025-01-10")
    assert len(taken) == deliveries.DELIVERIES_A_DAY


def test_an_empty_range_of_dates_is_told_with_the_range_there_is(fraud: Any, delivery: Any) -> None:
    """Whoever asks for days without data learns which days have some."""
    transactions, _ = cards.generate(date(2024, 1, 31))
    with pytest.raises(
        ValueError, match="no transactions between 2020-01-01 and 2020-12-31; the data run from 2024-01-01 to 2024-01-31"
    ):
        fraud.within(transactions, date(2020, 1, 1), date(2020, 12, 31))
    history = deliveries.generate(date(2025, 1, 31)).deliveries
    with pytest.raises(ValueError, match="no deliveries between 2025-02-01 and 2025-01-31; the data run from 2025-01-01"):
        delivery.chosen(history, "2025-02-01", "")


def test_a_part_without_frauds_is_told(fraud: Any, training_rows: pd.DataFrame, tmp_path: Path) -> None:
    """A hold-out on which nothing can be measured is refused before anything is trained."""
    edge = int(len(training_rows) * 0.75)
    rows = training_rows.assign(is_fraud=[int(number < edge) for number in range(len(training_rows))])
    rows.to_parquet(tmp_path / "training.parquet")
    with pytest.raises(ValueError, match="do not hold both frauds and honest payments: take more days"):
        fraud.split(tmp_path)


def test_the_fraud_model_learns_and_its_export_agrees(fraud: Any, training_rows: pd.DataFrame) -> None:
    """With a few trees the model tells frauds from the rest, and in ONNX it says the same, an unknown category included."""
    labels = training_rows["is_fraud"]
    inputs = training_rows.drop(columns="is_fraud")
    numeric = [name for name in inputs.columns if name != "merchant_category"]
    edge = int(len(inputs) * 0.75)
    model = fraud.pipeline(fraud.Config.parse({"n_estimators": 20}), numeric).fit(inputs[:edge], labels[:edge])
    held_out = inputs[edge:].copy()
    held_out.iloc[0, held_out.columns.get_loc("merchant_category")] = "a category never seen"
    probabilities = model.predict_proba(held_out)
    outputs = fraud.run_onnx(fraud.to_onnx(model, held_out), held_out)
    assert list(outputs) == ["label", "probabilities"]
    np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_array_equal(outputs["label"], model.predict(held_out))
    frauds = labels[edge:].to_numpy() == 1
    assert probabilities[frauds, 1].mean() > 3 * probabilities[~frauds, 1].mean()


def test_the_demo_s_payments_are_told_apart_on_every_day(fraud: Any, training_rows: pd.DataFrame) -> None:
    """Whatever day the demo runs on, what is known of its user then leaves its strange payment far more suspicious."""
    inputs = training_rows.drop(columns="is_fraud")
    numeric = [name for name in inputs.columns if name != "merchant_category"]
    model = fraud.pipeline(fraud.Config.parse({}), numeric).fit(inputs, training_rows["is_fraud"])
    _, snapshots = cards.generate(days.DAYS[-1])
    known = snapshots[snapshots["user_id"] == demo.USER].drop(columns="user_id")
    latest = [known[known["event_timestamp"] <= pd.Timestamp(day, tz="UTC")].iloc[-1] for day in days.DAYS]
    usual, strange = (
        model.predict_proba(pd.DataFrame([{**payment, **features} for features in latest])[inputs.columns])[:, 1]
        for payment in (demo.USUAL, demo.STRANGE)
    )
    assert (usual + 0.5 < strange).all()


def test_the_delivery_model_takes_a_vehicle_never_seen(delivery: Any) -> None:
    """An unknown vehicle is a value like any other, not a failure."""
    rows = deliveries.generate(date(2025, 1, 31)).deliveries[[*delivery.FACTS, delivery.LABEL]]
    model = delivery.pipeline(20, 0.1).fit(rows[delivery.FACTS], rows[delivery.LABEL])
    strange = rows[delivery.FACTS].head(1).assign(vehicle="unicycle")
    assert 0 < model.predict(strange)[0] < 200
