"""Jobs: submitted once, remembered, and told from what pipelines, store and tracking know."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ml_platform.v1 import errors_pb2, experiments_pb2, jobs_pb2
from ml_platform.v1.experiments_pb2 import Run
from ml_platform.v1.jobs_pb2 import Task
from ml_platform_server.backends.airflow.errors import AirflowUnavailableError
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.jobs.jobs import JobSpec
from ml_platform_server.store.paging import Page
from tests.support.jobs import START, a_run
from tests.support.jobs_house import House

TRAINING = JobSpec(
    kind=jobs_pb2.JOB_KIND_TRAINING,
    pipeline="train",
    conf={"experiment_name": "churn", "depth": 3},
    principal="ada",
    request_id="r-1",
    experiment_name="churn",
)
END = START + timedelta(minutes=5)


async def test_a_job_is_started_with_its_configuration_under_its_own_id(house: House) -> None:
    """What submit returns is queued, and the pipeline was started under the job's id."""
    job = await house.jobs.submit(TRAINING)
    assert (job.state, job.pipeline, job.submitted_by) == (jobs_pb2.JOB_STATE_QUEUED, "train", "ada")
    assert house.pipelines.triggered == [("train", job.job_id, {"experiment_name": "churn", "depth": 3})]
    assert dict(job.parameters) == {"experiment_name": "churn", "depth": 3}


async def test_a_job_links_to_its_run_in_airflow(house: House) -> None:
    """Submitted, running, listed and ended, and as it is kept while Airflow is down: always at the address configured now."""
    submitted = await house.jobs.submit(TRAINING)
    url = f"http://127.0.0.1:8080/dags/train/runs/{submitted.job_id}"
    assert (submitted.url, (await house.jobs.list(Page()))[0][0].url) == (url, url)
    house.pipelines.runs[submitted.job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, end_time=END)
    house.tracking.runs = [Run(run_id="only")]
    assert (await house.jobs.get(submitted.job_id)).url == url
    house.pipelines.down = backend_unavailable("Airflow")
    moved = House(house.database, house.clock, house.pipelines, house.tracking, airflow_url="https://airflow.example.com")
    kept = await moved.jobs.get(submitted.job_id)
    assert (list(kept.run_ids), kept.url) == (["only"], f"https://airflow.example.com/dags/train/runs/{submitted.job_id}")


async def test_the_same_request_gives_the_same_job_and_another_caller_another(house: House) -> None:
    """The id comes from principal, kind and request id; without a request id every job is new."""
    first, again = await house.jobs.submit(TRAINING), await house.jobs.submit(TRAINING)
    other = await house.jobs.submit(JobSpec(**{**TRAINING.__dict__, "principal": "bob"}))
    nameless = JobSpec(**{**TRAINING.__dict__, "request_id": ""})
    ids = {job.job_id for job in (first, again, other, await house.jobs.submit(nameless), await house.jobs.submit(nameless))}
    assert (first.job_id, len(ids)) == (again.job_id, 4)


async def test_a_request_id_does_not_stand_for_two_jobs(house: House) -> None:
    """The same request id with other parameters is refused."""
    await house.jobs.submit(TRAINING)
    with pytest.raises(PlatformError) as caught:
        await house.jobs.submit(JobSpec(**{**TRAINING.__dict__, "conf": {"depth": 4}}))
    assert caught.value.reason_name == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (PlatformError(errors_pb2.ERROR_REASON_PIPELINE_NOT_FOUND, "no", remedy="no"), 0),
        (AirflowUnavailableError(may_have_arrived=False), 0),
        (AirflowUnavailableError(may_have_arrived=True), 1),
        (PlatformError(errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, "no", remedy="no"), 1),
    ],
)
async def test_a_job_that_may_have_started_is_kept(house: House, error: PlatformError, kept: int) -> None:
    """A start that was refused leaves no job; one whose outcome is unknown does."""
    house.pipelines.refuses = error
    with pytest.raises(PlatformError) as caught:
        await house.jobs.submit(TRAINING)
    assert (caught.value, len((await house.jobs.list(Page()))[0])) == (error, kept)


async def test_a_job_tells_its_tasks_and_its_runs(house: House) -> None:
    """Tasks come from the pipeline; runs, best run and newest metrics from the tracking."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, Task(task_id="fit"), end_time=END)
    finished = experiments_pb2.RUN_STATUS_FINISHED
    house.tracking.runs = [
        Run(run_id="new", status=finished, metrics={"rmse": 2.0}),
        Run(run_id="old", status=finished, metrics={"rmse": 1.0}),
    ]
    house.tracking.with_models = {"new", "old"}
    job = await house.jobs.get(job_id)
    assert ([task.task_id for task in job.tasks], list(job.run_ids)) == (["fit"], ["new", "old"])
    assert (job.best_run_id, dict(job.metrics)) == ("old", {"rmse": 2.0})
    assert job.end_time.ToDatetime(tzinfo=END.tzinfo) == END


async def test_without_the_tracking_a_job_still_tells_its_state(house: House) -> None:
    """MLflow being down costs the runs, not the answer."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_RUNNING)
    house.tracking.down = backend_unavailable("MLflow")
    job = await house.jobs.get(job_id)
    assert (job.state, list(job.run_ids)) == (jobs_pb2.JOB_STATE_RUNNING, [])
    assert job.message == "0 of 0 tasks are done. MLflow does not answer in time, so the runs of this job are left out."


async def test_a_tracking_that_hangs_holds_nobody_up(house: House) -> None:
    """A poll waits a moment for the runs, then returns the job without them; of each job one search at most is under way."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, end_time=END)
    house.tracking.answers.clear()
    looks = [await house.jobs.poll(job_id, 0.01) for _ in range(5)]
    assert [(look.complete, list(look.job.run_ids)) for look in looks] == [(False, [])] * 5
    assert len(house.tracking.searches) == 1
    house.tracking.runs = [Run(run_id="late")]
    house.tracking.answers.set()
    look = await house.jobs.poll(job_id, 60.0)
    assert (look.complete, list(look.job.run_ids)) == (True, ["late"])


async def test_runs_that_were_seen_are_told_while_the_tracking_hangs(house: House) -> None:
    """Rather than taken away and brought back; after a restart too, of a job that has ended."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, end_time=END)
    house.tracking.runs = [Run(run_id="only", metrics={"rmse": 1.0})]
    await house.jobs.get(job_id)
    house.tracking.answers.clear()
    for jobs in (house.jobs, House(house.database, house.clock, house.pipelines, house.tracking).jobs):
        look = await jobs.poll(job_id, 0.01)
        assert (list(look.job.run_ids), look.job.best_run_id, dict(look.job.metrics)) == (["only"], "only", {"rmse": 1.0})
        assert (look.complete, look.job.message) == (False, "Every task ended well.")


async def test_a_running_job_is_searched_for_in_its_own_experiment(house: House) -> None:
    """And in all the others once it has ended."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    for state in (jobs_pb2.JOB_STATE_RUNNING, jobs_pb2.JOB_STATE_SUCCESS):
        house.pipelines.runs[job_id] = a_run(state)
        await house.jobs.get(job_id)
    assert house.tracking.searches == [("churn", False), ("churn", True)]


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_job_that_has_ended_is_told_without_the_pipelines(house: House, hangs: bool) -> None:
    """As it was kept at its end, with its tasks and its runs, whether Airflow is down or hangs."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, Task(task_id="fit"), end_time=END)
    house.tracking.runs = [Run(run_id="only", metrics={"rmse": 1.0})]
    seen = await house.jobs.get(job_id)
    house.pipelines.hangs = hangs
    house.pipelines.down = None if hangs else backend_unavailable("Airflow")
    assert (await house.jobs.poll(job_id, 0.01)).job == seen


async def test_a_job_that_runs_again_is_told_as_running(house: House) -> None:
    """Somebody may clear tasks of a run that has ended; what was kept of the end is then forgotten."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_FAILED, Task(task_id="fit"), end_time=END)
    assert (await house.jobs.get(job_id)).state == jobs_pb2.JOB_STATE_FAILED
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_RUNNING, Task(task_id="fit"))
    assert (await house.jobs.get(job_id)).state == jobs_pb2.JOB_STATE_RUNNING
    row = await house.job_records.get(job_id)
    assert row is not None
    assert (row.state, row.outcome) == (jobs_pb2.JOB_STATE_RUNNING, None)


async def test_without_the_pipelines_a_job_cannot_be_told(house: House) -> None:
    """Airflow being down is said, rather than an old state of a running job told as if it were the present one."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.down = backend_unavailable("Airflow")
    with pytest.raises(PlatformError) as caught:
        await house.jobs.get(job_id)
    assert caught.value.reason_name == "BACKEND_UNAVAILABLE"


async def test_an_unknown_job_is_not_found(house: House) -> None:
    """A job that nobody submitted is JOB_NOT_FOUND."""
    with pytest.raises(PlatformError) as caught:
        await house.jobs.get("mlp-none")
    assert (caught.value.reason_name, caught.value.resource) == ("JOB_NOT_FOUND", ("job", "mlp-none"))


async def test_a_run_that_airflow_does_not_know_yet_is_queued(house: House) -> None:
    """Right after the start a run may not be there yet; a minute later it is lost, and that is said and remembered."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    assert (await house.jobs.get(job_id)).state == jobs_pb2.JOB_STATE_QUEUED
    await house.clock.advance(61)
    lost = await house.jobs.get(job_id)
    assert (lost.state, "Airflow has no run of this job" in lost.message) == (jobs_pb2.JOB_STATE_FAILED, True)
    assert (await house.job_records.get(job_id)).state == jobs_pb2.JOB_STATE_FAILED


async def test_a_run_that_was_deleted_after_its_end_is_told_as_it_ended(house: House) -> None:
    """What the store remembers of a finished job outlives the run in Airflow, and the message is not piled up."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, end_time=END)
    await house.jobs.get(job_id)
    del house.pipelines.runs[job_id]
    jobs = [await house.jobs.get(job_id) for _ in range(2)]
    assert {job.state for job in jobs} == {jobs_pb2.JOB_STATE_SUCCESS}
    assert {job.message for job in jobs} == {"Every task ended well. Airflow no longer has this run; this is how it had ended."}


async def test_a_list_tells_fresh_states_without_tasks(house: House) -> None:
    """Unfinished jobs of a page are looked up anew; if Airflow is down, the page tells what was last seen."""
    job_id = (await house.jobs.submit(TRAINING)).job_id
    house.pipelines.runs[job_id] = a_run(jobs_pb2.JOB_STATE_RUNNING, Task(task_id="fit"))
    jobs, token = await house.jobs.list(Page())
    assert ([(job.state, len(job.tasks)) for job in jobs], token) == ([(jobs_pb2.JOB_STATE_RUNNING, 0)], "")
    house.pipelines.down = backend_unavailable("Airflow")
    jobs, _ = await house.jobs.list(Page(), experiment_name="churn", kind=jobs_pb2.JOB_KIND_TRAINING)
    assert [job.state for job in jobs] == [jobs_pb2.JOB_STATE_RUNNING]
    assert (await house.jobs.list(Page(), experiment_name="other"))[0] == []


async def test_a_list_of_large_jobs_comes_in_pages_that_fit(house: House) -> None:
    """Jobs with a megabyte of parameters each are told three at a time, whatever the page size, and none is left out."""
    large = {"experiment_name": "churn", "notes": "x" * 1_000_000}
    started = [(await house.jobs.submit(replace(TRAINING, conf=large, request_id=f"r-{n}"))).job_id for n in range(7)]
    pages: list[list[str]] = []
    token = ""
    while token or not pages:
        jobs, token = await house.jobs.list(Page(1000, token))
        pages.append([job.job_id for job in jobs])
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(job_id for page in pages for job_id in page) == sorted(started)
