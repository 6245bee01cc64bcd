"""Results: frozen objects that also answer like dictionaries, and lists that turn into DataFrames."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pandas as pd
import pytest

from ml_platform import ConfigurationError, Listing, MetricPoint, MLPlatformError, Run, Task
from ml_platform.records import Record
from ml_platform.resources.deployments import read_deployment
from ml_platform.resources.experiments import read_experiment, read_run
from ml_platform.resources.features import read_online
from ml_platform.resources.jobs import JobHandle, read_job, read_submitted
from ml_platform.resources.models import read_model, read_version
from ml_platform.v1 import deployments_pb2, experiments_pb2, features_pb2, jobs_pb2, models_pb2


def run(**metrics: float) -> Run:
    """A run with metrics."""
    return read_run(experiments_pb2.Run(run_id="r1", metrics=metrics, params={"depth": "3"}))


def test_a_record_answers_like_a_dictionary() -> None:
    """Fields are found as keys; what is no field is not."""
    point = MetricPoint(value=0.5, step=1, log_time=None)
    assert dict(point) == {"value": 0.5, "step": 1, "log_time": None} == point.to_dict()
    assert (point["step"], point.get("step"), point.get("other", 7), "step" in point, "other" in point) == (1, 1, 7, True, False)
    with pytest.raises(KeyError, match="it has value, step, log_time"):
        point["other"]


def test_a_record_cannot_be_changed() -> None:
    """Records are frozen, and are equal when their fields are."""
    point = MetricPoint(value=0.5, step=1, log_time=None)
    with pytest.raises(FrozenInstanceError):
        point.step = 2  # type: ignore[misc]
    assert point == MetricPoint(value=0.5, step=1, log_time=None)


def test_to_dict_goes_all_the_way_down() -> None:
    """Nested records and tuples become dictionaries and lists; times stay times."""
    task = Task("t", "running", 1, datetime(2024, 1, 1, tzinfo=UTC), None, -1)
    assert task.to_dict()["start_time"] == datetime(2024, 1, 1, tzinfo=UTC)
    online = read_online(features_pb2.GetOnlineFeaturesResponse(vectors=[features_pb2.FeatureVector()]))
    assert online.to_dict()["vectors"] == [{"entity": {}, "features": {}, "statuses": {}, "event_times": {}}]


def test_every_record_is_frozen_and_slotted() -> None:
    """No record has room for attributes of somebody else's making."""
    kinds = Record.__subclasses__()
    assert len(kinds) > 20
    assert [kind.__name__ for kind in kinds if hasattr(kind, "__dict__") and "__dict__" in kind.__slots__] == []
    assert all(kind.__dataclass_params__.frozen for kind in kinds)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([2**53 + 1, None], "Int64"),
        ([-(2**63), None, 2**63 - 1], "Int64"),
        ([2**63, None], "object"),
        ([2**53 + 1, 0.5], "object"),
        ([2**53 + 1, 0.5, None], "object"),
        ([1, 0.5, None], "float64"),
        ([2**53 + 1, 1], "int64"),
        ([2**64 - 1, 1], "uint64"),
        ([True, None], "object"),
        (["a", None], "object"),
        ([0.5, None], "float64"),
    ],
)
def test_integers_stay_what_they_are_beside_gaps_and_fractions(values, dtype):
    """No column of a DataFrame holds another number than the records do."""
    column = Listing([{"value": value} for value in values]).to_pandas()["value"]
    assert (column.dtype, [None if pd.isna(value) else value for value in column]) == (dtype, values)


def test_rows_that_lack_a_column_do_not_change_its_numbers():
    """A row of an error has no prediction, and those of the others stay exact."""
    frame = Listing([{"prediction": 2**53 + 1}, MLPlatformError("No.", reason="INPUT_INVALID"), {}]).to_pandas()
    assert frame["prediction"].tolist() == [2**53 + 1, pd.NA, pd.NA]
    assert len(Listing([{}, {}]).to_pandas()) == 2


def test_a_listing_is_a_list() -> None:
    """Lists of results have a length, an order and equality, as lists have."""
    runs = Listing([run(accuracy=0.9)])
    assert (len(runs), runs[0].run_id, list(runs) == runs, isinstance(runs, list)) == (1, "r1", True, True)


def test_a_listing_turns_into_a_frame() -> None:
    """One row for each result, with dictionaries spread over columns."""
    frame = Listing([run(accuracy=0.9), run(accuracy=0.8, loss=0.1)]).to_pandas()
    assert list(frame["metrics.accuracy"]) == [0.9, 0.8]
    assert list(frame["params.depth"]) == ["3", "3"]
    assert frame["metrics.loss"].isna().tolist() == [True, False]


def test_a_missing_pandas_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas the error says what to install."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ml-platform-sdk\[pandas\]"'):
        Listing([run()]).to_pandas()


def test_what_has_a_page_links_to_it() -> None:
    """Experiments, runs, models, versions, jobs and deployments have the server's link; a job's handle has it too."""
    url = "http://127.0.0.1:5000/#/experiments/7"
    job = read_job(jobs_pb2.Job(job_id="mlp-1", url=url, undeclared_parameters=["depht"]))
    records = (
        read_experiment(experiments_pb2.Experiment(url=url)),
        read_run(experiments_pb2.Run(url=url)),
        read_model(models_pb2.RegisteredModel(url=url)),
        read_version(models_pb2.ModelVersion(url=url)),
        read_deployment(deployments_pb2.Deployment(url=url)),
        job,
    )
    assert [record.url for record in records] == [url] * 6
    assert all(f'<a href="{url}"' in record._repr_html_() for record in records)
    assert (JobHandle(job).url, JobHandle(job)["url"]) == (url, url)


def test_a_job_keeps_the_parameters_that_its_pipeline_does_not_declare() -> None:
    """Only the reply to the submission names them, so a later look does not take them away."""
    handle = JobHandle(read_submitted(jobs_pb2.Job(job_id="mlp-1", undeclared_parameters=["depht"])))
    handle.see(read_job(jobs_pb2.Job(job_id="mlp-1", state=jobs_pb2.JOB_STATE_RUNNING)))
    assert (handle.undeclared_parameters, handle.info.undeclared_parameters) == (("depht",), ("depht",))
    assert handle.status == "running"
