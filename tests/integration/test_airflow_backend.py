"""The door to Airflow against a real Airflow."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from ml_platform.v1 import deployments_pb2, jobs_pb2
from ml_platform.v1.deployments_pb2 import DeployModelRequest
from ml_platform_server.backends.airflow import requests
from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.endings import NOTE
from ml_platform_server.backends.airflow.errors import AirflowUnavailableError
from ml_platform_server.backends.airflow.pipelines import PipelineRun, Pipelines
from ml_platform_server.call import Call, Principal
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import AirflowSettings, JobSettings
from tests.support.frame import opened_database
from tests.support.jobs_house import House
from tests.support.processes import free_port
from tests.support.refusals import refused
from tests.support.stack import PIPELINES, Stack

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
    assert caught.value.message == 'parameters.count: is "many"; the pipeline wants an integer at least 1.'
    assert [violation.field for violation in caught.value.violations] == ["parameters.count"]


@pytest.mark.stack
async def test_parameters_that_the_pipeline_does_not_declare_are_found(pipelines: Pipelines) -> None:
    """A misspelt one is refused with the name that was meant, another one returned; a missing pipeline declares nothing."""
    with refused("INVALID_FIELDS") as caught:
        await pipelines.undeclared("tests_mapped", ["cuont"])
    assert "did you mean 'count'?" in caught.value.message
    assert await pipelines.undeclared("tests_mapped", ["count", "rate"]) == ["rate"]
    for free in ("tests_raising", "tests_nobody_wrote"):
        assert await pipelines.undeclared(free, ["rate"]) == []


@pytest.mark.stack
async def test_a_run_that_was_ended_from_outside_says_who_or_what_did_it(pipelines: Pipelines, settings: AirflowSettings) -> None:
    """A hand, a time limit of the pipeline, and the platform itself are told apart."""
    by_hand, by_limit, by_us = (new_run_id() for _ in range(3))
    await pipelines.trigger("tests_limited", by_limit, {})
    for run_id in (by_hand, by_us):
        await pipelines.trigger("tests_hanging", run_id, {})
        await state_of(pipelines, "tests_hanging", run_id, jobs_pb2.JOB_STATE_RUNNING)
    await pipelines._backend.call(requests.end_run, "tests_hanging", by_hand, "enough of it")
    await pipelines.end("tests_hanging", by_us, f"{NOTE}it took too long")
    await pipelines.end("tests_hanging", by_us, f"{NOTE}it took too long")
    ended = [(await end_of(pipelines, "tests_hanging", run_id))[-1] for run_id in (by_hand, by_us)]
    ended.append((await end_of(pipelines, "tests_limited", by_limit))[-1])
    assert [run.state for run in ended] == [jobs_pb2.JOB_STATE_FAILED] * 3
    assert [run.ended_by for run in ended] == [
        f"{settings.username} did it by hand in Airflow",
        "it took too long",
        "it ran into its pipeline's time limit of 0:00:05 (dagrun_timeout), the waiting for a place included",
    ]


@pytest.mark.stack
async def test_a_deployment_whose_job_hangs_gives_its_place_back(pipelines: Pipelines, tmp_path: Path) -> None:
    """After our own time limit it has failed, its job is ended in Airflow too, and the same model can be deployed again."""
    request = DeployModelRequest(model_name="m", version=1, environment="staging")
    call = Call(method="/test", context=cast("Any", None), principal=Principal(name="ada", key_id="k", scopes=frozenset()))
    async with opened_database(tmp_path) as database:
        house = House(database, pipelines=cast("Any", pipelines), deployment_pipeline="tests_hanging")
        hung = await house.deployments.deploy(request, call)
        await state_of(pipelines, "tests_hanging", hung.job_id, jobs_pb2.JOB_STATE_RUNNING)
        await house.reconciler.reconcile()
        with refused("DEPLOYMENT_IN_PROGRESS"):
            await house.deployments.deploy(request, call)
        await house.clock.advance(JobSettings().deployment_timeout)
        await house.reconciler.reconcile()
        failed = await house.deployments.get(hung.deployment_id)
        assert failed.state == deployments_pb2.DEPLOYMENT_STATE_FAILED
        assert "did not end within 2:00:00" in failed.message
        job = await house.jobs.get(hung.job_id)
        assert (job.state, job.failed_task_id) == (jobs_pb2.JOB_STATE_FAILED, "hang")
        assert "did not end within 2:00:00" in job.message
        again = await house.deployments.deploy(request, call)
        await pipelines.end("tests_hanging", again.job_id, "the test is over")


GOES = """
import pathlib, time
from airflow.sdk import dag, task

@dag(dag_id="{name}", schedule=None, catchup=False, max_active_runs=1)
def goes():
    @task
    def first():
        while not pathlib.Path("{end}").exists():
            time.sleep(0.2)

    @task
    def second():
        pass

    first() >> second()

goes()
"""


@pytest.mark.stack
async def test_a_job_whose_pipeline_is_removed_fails(pipelines: Pipelines, tmp_path: Path) -> None:
    """One that runs and one that waits for a place: Airflow would leave both as they are for ever."""
    name, end = f"tests_goes_{uuid.uuid4().hex[:8]}", tmp_path / "end"
    file = PIPELINES / f"{name}.py"
    file.write_text(GOES.format(name=name, end=end))
    try:
        running, waiting = new_run_id(), new_run_id()
        await noticed(pipelines, name, running)
        await state_of(pipelines, name, running, jobs_pb2.JOB_STATE_RUNNING)
        await pipelines.trigger(name, waiting, {})
        file.unlink()
        for run_id in (running, waiting):
            last = (await end_of(pipelines, name, run_id))[-1]
            assert (last.state, "its file was removed" in last.gone) == (jobs_pb2.JOB_STATE_FAILED, True)
    finally:
        file.unlink(missing_ok=True)
        end.touch()


async def noticed(pipelines: Pipelines, pipeline: str, run_id: str) -> None:
    """Start a run as soon as Airflow has noticed its pipeline."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await pipelines.trigger(pipeline, run_id, {})
            except PlatformError as error:
                if error.reason_name != "PIPELINE_NOT_FOUND":
                    raise
            await asyncio.sleep(BETWEEN_LOOKS)


async def state_of(pipelines: Pipelines, pipeline: str, run_id: str, state: jobs_pb2.JobState.ValueType) -> None:
    """Wait until a run has come to a state."""
    async with asyncio.timeout(PATIENCE):
        while True:
            run = await pipelines.state(pipeline, run_id)
            if run is not None and run.state == state:
                return
            await asyncio.sleep(BETWEEN_LOOKS)


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
    with pytest.raises(AirflowUnavailableError) as caught:
        await Pipelines(backend=backend).trigger("any", new_run_id(), {})
    await backend.close()
    assert (caught.value.reason_name, caught.value.may_have_arrived) == ("BACKEND_UNAVAILABLE", False)
