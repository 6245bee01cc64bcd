"""From what a caller asks for to what a pipeline is given."""

from __future__ import annotations

from typing import Any

import pytest

from ml_platform.v1 import errors_pb2
from ml_platform.v1.training_pb2 import SubmitTrainingJobRequest
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.training import Training
from ml_platform_server.settings import AirflowSettings
from tests.support.jobs_house import AIRFLOW, House


def request(parameters: dict[str, Any] | None = None, **fields: Any) -> SubmitTrainingJobRequest:
    made = SubmitTrainingJobRequest(experiment_name="churn", **fields)
    made.parameters.update(parameters or {})
    return made


@pytest.fixture
def training(house: House) -> Training:
    return Training(jobs=house.jobs, tracking=house.tracking, settings=AIRFLOW)


async def test_the_pipeline_gets_one_flat_configuration(house: House, training: Training, call: Call) -> None:
    """Experiment, dates and parameters lie side by side, and numbers without a fraction are integers, however deep."""
    asked = request({"depth": 3, "rate": 0.1, "grid": [{"n": 50}], "name": "x", "on": True, "none": None}, pipeline="mine")
    asked.data_start_date, asked.data_end_date = "2024-01-01", "2024-02-29"
    await training.submit(asked, call)
    pipeline, _, conf = house.pipelines.triggered[0]
    assert (pipeline, conf) == (
        "mine",
        {
            "experiment_name": "churn",
            "data_start_date": "2024-01-01",
            "data_end_date": "2024-02-29",
            "depth": 3,
            "rate": 0.1,
            "grid": [{"n": 50}],
            "name": "x",
            "on": True,
            "none": None,
        },
    )
    assert [type(conf["depth"]), type(conf["grid"][0]["n"]), type(conf["on"])] == [int, int, bool]


async def test_dates_that_are_not_given_are_left_to_the_pipeline(house: House, training: Training, call: Call) -> None:
    """An empty date is no entry in the configuration, and an empty pipeline is the server's default."""
    await training.submit(request(), call)
    assert house.pipelines.triggered[0][0] == "default_training"
    assert house.pipelines.triggered[0][2] == {"experiment_name": "churn"}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request({"experiment_name": "other"}), "parameters.experiment_name"),
        (request({"data_end_date": "2024-01-01"}), "parameters.data_end_date"),
        (request({"x": {"y": [float("nan")]}}), "parameters.x"),
        (request({"x": {"y": [2.0**53]}}), "parameters.x"),
        (request({"x": "x" * 70_000, "y": float("nan")}), "parameters"),
        (request(data_start_date="2024-02-31"), "data_start_date"),
    ],
)
async def test_what_cannot_be_given_to_a_pipeline_is_refused(
    house: House, training: Training, call: Call, asked: SubmitTrainingJobRequest, field: str
) -> None:
    """Reserved names, numbers that JSON does not know, too much of anything and days that no calendar has: the field is named."""
    with pytest.raises(PlatformError) as caught:
        await training.submit(asked, call)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert house.pipelines.triggered == []


async def test_without_a_default_pipeline_one_must_be_named(house: House, call: Call) -> None:
    """A server that has no default says that the field is needed."""
    training = Training(jobs=house.jobs, tracking=house.tracking, settings=AirflowSettings(training_pipeline=""))
    with pytest.raises(PlatformError) as caught:
        await training.submit(request(), call)
    assert [violation.field for violation in caught.value.violations] == ["pipeline"]


async def test_the_experiment_must_exist(house: House, training: Training, call: Call) -> None:
    """An unknown experiment is told before anything starts."""
    house.tracking.missing = PlatformError(errors_pb2.ERROR_REASON_EXPERIMENT_NOT_FOUND, "no", remedy="no")
    house.tracking.experiments.clear()
    with pytest.raises(PlatformError) as caught:
        await training.submit(request(), call)
    assert (caught.value.reason_name, house.pipelines.triggered) == ("EXPERIMENT_NOT_FOUND", [])


@pytest.mark.parametrize(
    ("pipeline", "allowed", "remedy"),
    [
        ("model_deployment", "*", "call DeployModel"),
        ("Model_Deployment", "*", "call DeployModel"),
        ("feature_materialization", "*", "call MaterializeFeatures"),
        ("feature_materialization", "feature_*", "call MaterializeFeatures"),
        ("mine", "fraud_*, theirs", "airflow.training_pipelines"),
        ("mine", "", "airflow.training_pipelines"),
    ],
)
async def test_training_runs_the_allowed_pipelines_alone(
    house: House, call: Call, pipeline: str, allowed: str, remedy: str
) -> None:
    """Never the platform's own, which other scopes guard, by whichever case; of the others those that the settings allow."""
    settings = AIRFLOW.model_copy(update={"training_pipelines": allowed})
    training = Training(jobs=house.jobs, tracking=house.tracking, settings=settings)
    with pytest.raises(PlatformError) as caught:
        await training.submit(request(pipeline=pipeline), call)
    assert (caught.value.reason_name, caught.value.code.name) == ("PIPELINE_NOT_ALLOWED", "PERMISSION_DENIED")
    assert remedy in caught.value.remedy
    assert house.pipelines.triggered == []


async def test_a_pipeline_that_a_pattern_matches_is_allowed(house: House, call: Call) -> None:
    """Patterns and names stand side by side."""
    settings = AIRFLOW.model_copy(update={"training_pipelines": "other, fraud_*"})
    await Training(jobs=house.jobs, tracking=house.tracking, settings=settings).submit(request(pipeline="fraud_day"), call)
    assert [pipeline for pipeline, _, _ in house.pipelines.triggered] == ["fraud_day"]


async def test_parameters_that_the_pipeline_does_not_declare_are_told(house: House, training: Training, call: Call) -> None:
    """It is given them all the same; the reserved ones are ours."""
    house.pipelines.strangers = {"rate", "experiment_name"}
    job = await training.submit(request({"depth": 3, "rate": 0.1}), call)
    assert list(job.undeclared_parameters) == ["rate"]
    assert "does not declare the parameters rate" in job.message
    assert house.pipelines.triggered[0][2] == {"experiment_name": "churn", "depth": 3, "rate": 0.1}


async def test_a_parameter_that_nobody_can_see_is_refused(house: House, training: Training, call: Call) -> None:
    """Its name is held to the rules of other names, and the character is named."""
    with pytest.raises(PlatformError, match=r"U\+200B") as caught:
        await training.submit(request({"depth\u200b": 3}), call)
    assert caught.value.reason_name == "INVALID_FIELDS"
    assert house.pipelines.triggered == []
