"""The door to Airflow against a real Airflow."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ml_platform.v1 import jobs_pb2
from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.errors import UnansweredError
from ml_platform_server.backends.airflow.pipelines import PipelineRun, Pipelines
from ml_platform_server.settings import AirflowSettings
from tests.support.processes import free_port
from tests.support.refusals import refused
from tests.support.stack import Stack

ENDED = (jobs_pb2.JOB_STATE_SUCCESS, jobs_pb2.JOB_STATE_FAILED)
BETWEEN_LOOKS = 0.5
# Tests share their machine with whatever else runs on it.
PATIENCE = 240.0


@pytest.fixture(scope="module")
def settings(stack: Stack) -> AirflowSettings:
    passwords = json.loads((Path(stack.state) / "airflow" / "passwords.json").read_text())
    ((username, password),) = passwords.items()
    return AirflowSettings(api_url=stack.urls["airflow"], username=username, password=password, timeout=60.0)


@pytest.fixture
async def backend(settings: AirflowSettings) -> AsyncIterator[AirflowBackend]:
    backend = AirflowBackend(settings=settings)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def pipelines(backend: AirflowBackend) -> Pipelines:
    return Pipelines(backend=backend)


def new_run_id() -> str:
    return f"mlp-{uuid.uuid4().hex}"


async def end_of(pipelines: Pipelines, pipeline: str, run_id: str) -> list[PipelineRun]:
    """What was seen of a run until its end."""
    seen: list[PipelineRun] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            run = await pipelines.state(pipeline, run_id)
            assert run is not None
            seen.append(run)
            if run.state in ENDED:
                return seen
            await asyncio.sleep(BETWEEN_LOOKS)


@pytest.mark.stack
async def test_airflow_is_well(backend: AirflowBackend) -> None:
    """A probe of an Airflow whose scheduler and database work says nothing."""
    await backend.probe()


@pytest.mark.stack
async def test_a_run_is_followed_from_its_start_to_its_end(pipelines: Pipelines) -> None:
    """A paused pipeline is started; its tasks are told in the order they start, retried and mapped ones with their numbers."""
    run_id = new_run_id()
    await pipelines.trigger("tests_mapped", run_id, {"count": 2})
    seen = await end_of(pipelines, "tests_mapped", run_id)
    last = seen[-1]
    assert last.state == jobs_pb2.JOB_STATE_SUCCESS
    told = [(task.task_id, task.try_number, task.state) for task in last.tasks]
    success = jobs_pb2.TASK_STATE_SUCCESS
    assert told == [("numbers", 2, success), ("double", 1, success), ("double", 1, success), ("total", 1, success)]
    assert sorted(task.map_index for task in last.tasks) == [-1, -1, 0, 1]
    assert last.start_time is not None
    assert last.end_time is not None
    assert last.start_time < last.end_time
    assert sorted({run.state for run in seen}) == list(dict.fromkeys(run.state for run in seen)), "states only go forward"


@pytest.mark.stack
async def test_a_failed_run_names_its_task_and_the_last_line_of_the_exception(pipelines: Pipelines) -> None:
    """What the task raised is read from its log; tasks after it are told as not run."""
    run_id = new_run_id()
    await pipelines.trigger("tests_raising", run_id, {})
    last = (await end_of(pipelines, "tests_raising", run_id))[-1]
    assert last.state == jobs_pb2.JOB_STATE_FAILED
    assert last.failed_task is not None
    assert (last.failed_task.task_id, last.failure) == ("explode", "ValueError: the sky is not blue enough")
    assert {task.task_id: task.state for task in last.tasks} == {
        "prepare": jobs_pb2.TASK_STATE_SUCCESS,
        "explode": jobs_pb2.TASK_STATE_FAILED,
        "never": jobs_pb2.TASK_STATE_UPSTREAM_FAILED,
    }


@pytest.mark.stack
async def test_starting_a_run_again_is_harmless_and_with_other_parameters_refused(pipelines: Pipelines) -> None:
    """The run's id makes a repeat safe; the same id cannot stand for two configurations."""
    run_id = new_run_id()
    conf = {"count": 1, "rate": 0.5, "deep": [{"name": None}]}
    await pipelines.trigger("tests_mapped", run_id, conf)
    await pipelines.trigger("tests_mapped", run_id, conf)
    with refused("REQUEST_ID_REUSED"):
        await pipelines.trigger("tests_mapped", run_id, {"count": 3})


@pytest.mark.stack
async def test_a_parameter_that_the_pipeline_does_not_allow_is_named(pipelines: Pipelines) -> None:
    """Airflow checks declared parameters; its refusal becomes a field violation in our words."""
    with refused("INVALID_FIELDS") as caught:
        await pipelines.trigger("tests_mapped", new_run_id(), {"count": "many"})
    assert [violation.field for violation in caught.value.violations] == ["parameters.count"]


@pytest.mark.stack
async def test_a_pipeline_that_nobody_wrote_is_not_found(pipelines: Pipelines) -> None:
    """An unknown DAG is PIPELINE_NOT_FOUND, and names files that fail to import, in case it is in one of them."""
    with refused("PIPELINE_NOT_FOUND") as caught:
        await pipelines.trigger("tests_nobody_wrote", new_run_id(), {})
    assert "tests_broken.py" in caught.value.remedy


@pytest.mark.stack
async def test_a_pipeline_whose_file_is_broken_says_where_and_why(pipelines: Pipelines) -> None:
    """A DAG whose file fails to import is PIPELINE_BROKEN with the file and the last line of the error, and no traceback."""
    with refused("PIPELINE_BROKEN") as caught:
        await pipelines.trigger("tests_broken", new_run_id(), {})
    assert (
        "tests_broken.py fails to import: ModuleNotFoundError: No module named 'a_module_that_nobody_wrote'"
        in caught.value.message
    )
    assert "Traceback" not in caught.value.message


@pytest.mark.stack
async def test_a_run_that_airflow_does_not_know_is_none(pipelines: Pipelines) -> None:
    """A run that was deleted, or never was, is no error."""
    assert await pipelines.state("tests_mapped", new_run_id()) is None
    assert await pipelines.state("tests_nobody_wrote", new_run_id()) is None


@pytest.mark.stack
async def test_a_token_that_airflow_no_longer_takes_is_renewed(backend: AirflowBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first refusal of a token costs one more request, not an error."""
    await backend.probe()
    monkeypatch.setattr(backend._tokens, "_token", "of another time")
    await backend.probe()
    assert await backend._tokens.current() != "of another time"


@pytest.mark.stack
async def test_wrong_credentials_are_told_as_the_operators_business(settings: AirflowSettings) -> None:
    """A password that Airflow does not take points at the server's settings, and shows nothing of it."""
    backend = AirflowBackend(settings=settings.model_copy(update={"password": type(settings.password)("wrong-word")}))
    await backend.open()
    with refused("BACKEND_FAILED") as caught:
        await backend.probe()
    await backend.close()
    assert "airflow.password" in caught.value.remedy
    assert "wrong-word" not in str(caught.value.__dict__)


async def test_without_airflow_it_is_certain_that_nothing_started() -> None:
    """A refused connection is BACKEND_UNAVAILABLE, and known not to have arrived."""
    backend = AirflowBackend(settings=AirflowSettings(api_url=f"http://127.0.0.1:{free_port()}"))
    await backend.open()
    with pytest.raises(UnansweredError) as caught:
        await Pipelines(backend=backend).trigger("any", new_run_id(), {})
    await backend.close()
    assert (caught.value.reason_name, caught.value.may_have_arrived) == ("BACKEND_UNAVAILABLE", False)
