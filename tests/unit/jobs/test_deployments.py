"""Deployments, from the request to the traffic and the alias."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from ml_platform.v1 import deployments_pb2, errors_pb2, jobs_pb2, models_pb2
from ml_platform.v1.deployments_pb2 import Deployment, DeploymentState, DeployModelRequest
from ml_platform.v1.jobs_pb2 import Task
from ml_platform_server.backends.airflow.errors import AirflowUnavailableError
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.store.paging import Page
from tests.support.jobs import START, a_run
from tests.support.jobs_house import House

STAGING = "staging"
PRODUCTION = "production"
GONE_BAD = PlatformError(errors_pb2.ERROR_REASON_PIPELINE_BROKEN, "its file is broken.", remedy="no")


def request(version: int = 1, **fields: Any) -> DeployModelRequest:
    return DeployModelRequest(**{"model_name": "fraud", "version": version, "environment": STAGING, **fields})


def succeed(house: House, deployment: Deployment) -> None:
    house.pipelines.runs[deployment.job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, end_time=START)


async def deployed(house: House, call: Call, version: int) -> Deployment:
    """A deployment whose checks went well and that counts."""
    deployment = await house.deployments.deploy(request(version), call)
    succeed(house, deployment)
    await house.reconciler.reconcile()
    return await house.deployments.get(deployment.deployment_id)


async def state_of(house: House, deployment: Deployment) -> str:
    state = (await house.deployments.get(deployment.deployment_id)).state
    return DeploymentState.Name(state).removeprefix("DEPLOYMENT_STATE_")


async def test_a_deployment_begins_in_progress_and_moves_nothing(house: House, call: Call) -> None:
    """DeployModel starts the checks; traffic and alias stay until these end."""
    deployment = await house.deployments.deploy(request(reason="it is better"), call)
    assert (deployment.state, deployment.actor, deployment.reason) == (
        deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS,
        "ada",
        "it is better",
    )
    conf = {"deployment_id": deployment.deployment_id, "model_name": "fraud", "version": 1, "environment": "staging"}
    assert house.pipelines.triggered == [("model_deployment", deployment.job_id, conf)]
    await house.reconciler.reconcile()
    assert (await house.records.active("fraud", STAGING), house.registry.aliases) == (None, {})


async def test_a_deployment_links_to_its_version_in_mlflow(house: House, call: Call) -> None:
    """Started, repeated, looked up and listed."""
    started = await house.deployments.deploy(request(3, request_id="r-1"), call)
    again = await house.deployments.deploy(request(3, request_id="r-1"), call)
    found = await house.deployments.get(started.deployment_id)
    listed, _ = await house.deployments.list(Page())
    urls = [deployment.url for deployment in (started, again, found, *listed)]
    assert urls == ["http://127.0.0.1:5000/#/models/fraud/versions/3"] * 4


async def test_checks_that_end_well_move_traffic_and_alias_and_archive_the_version_before(house: House, call: Call) -> None:
    """After success the new version is active, the old one archived, and the alias tells the same."""
    first = await deployed(house, call, 1)
    second = await deployed(house, call, 2)
    assert (await state_of(house, first), await state_of(house, second)) == ("ARCHIVED", "ACTIVE")
    assert second.previous_deployment_id == first.deployment_id
    assert house.registry.aliases == {("fraud", "staging"): 2}
    assert (await house.records.generation(), await house.records.unmirrored()) == (2, [])


async def test_this_process_follows_an_activation_at_once(house: House, call: Call) -> None:
    """The serving side is told after each activation, when the new generation counts, and not after a failure."""
    await deployed(house, call, 1)
    await deployed(house, call, 2)
    assert house.generations_followed == [1, 2]


async def test_who_is_told_of_an_active_deployment_is_answered_by_it(
    house: House, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process serves it first, whether it is looked up or listed; other states wait for nothing."""
    first = await deployed(house, call, 1)
    waited: list[str] = []

    async def follow(deployment_ids: Collection[str]) -> None:
        waited.extend(deployment_ids)

    monkeypatch.setattr(house.deployments, "_follow", follow)
    second = await house.deployments.deploy(request(2), call)
    await house.deployments.get(second.deployment_id)
    assert waited == []
    succeed(house, second)
    await house.reconciler.reconcile()
    await house.deployments.get(second.deployment_id)
    await house.deployments.get(first.deployment_id)
    await house.deployments.list(Page())
    assert waited == [second.deployment_id] * 2


async def test_checks_that_fail_leave_traffic_where_it_was(house: House, call: Call) -> None:
    """A failed deployment says which task failed and why, and the version before goes on answering."""
    first = await deployed(house, call, 1)
    second = await house.deployments.deploy(request(2), call)
    failed = Task(task_id="smoke_predict", state=jobs_pb2.TASK_STATE_FAILED, map_index=-1)
    house.pipelines.runs[second.job_id] = a_run(
        jobs_pb2.JOB_STATE_FAILED, failed, failed_task=failed, failure="ValueError: not finite", end_time=START
    )
    await house.reconciler.reconcile()
    assert (await state_of(house, first), await state_of(house, second)) == ("ACTIVE", "FAILED")
    assert (await house.deployments.get(second.deployment_id)).message == "Task 'smoke_predict' failed: ValueError: not finite."
    assert house.registry.aliases == {("fraud", "staging"): 1}


async def test_a_check_that_was_skipped_moves_nothing(house: House, call: Call) -> None:
    """A run that Airflow calls a success, though a check of it never ran, does not count as passed."""
    deployment = await house.deployments.deploy(request(), call)
    skipped = Task(task_id="smoke_predict", state=jobs_pb2.TASK_STATE_SKIPPED, map_index=-1)
    house.pipelines.runs[deployment.job_id] = a_run(jobs_pb2.JOB_STATE_SUCCESS, skipped, end_time=START)
    await house.reconciler.reconcile()
    told = await house.deployments.get(deployment.deployment_id)
    assert (await state_of(house, deployment), "'smoke_predict' was skipped" in told.message) == ("FAILED", True)


async def test_who_sees_the_end_of_the_job_finds_the_traffic_moved(house: House, call: Call) -> None:
    """A poll prompts the reconciler and waits for it, so that traffic has moved when the end is returned."""
    deployment = await house.deployments.deploy(request(), call)
    await house.reconciler.open()
    try:
        await asyncio.wait_for(house.clock.somebody_sleeps(), 10)
        succeed(house, deployment)
        look = await house.jobs.poll(deployment.job_id, 60.0)
        assert (look.job.state, look.complete) == (jobs_pb2.JOB_STATE_SUCCESS, True)
        assert await state_of(house, deployment) == "ACTIVE"
    finally:
        await house.reconciler.close()


async def test_no_look_moves_traffic(house: House, call: Call) -> None:
    """Without the reconciler's rounds the job is returned as it is, by a get and a list, and the deployment stays."""
    deployment = await house.deployments.deploy(request(), call)
    succeed(house, deployment)
    assert (await house.jobs.get(deployment.job_id)).state == jobs_pb2.JOB_STATE_SUCCESS
    assert [job.state for job in (await house.jobs.list(Page()))[0]] == [jobs_pb2.JOB_STATE_SUCCESS]
    assert (await state_of(house, deployment), await house.records.active("fraud", STAGING)) == ("IN_PROGRESS", None)


async def test_a_reader_does_not_wait_long_for_the_reconciler(house: House, call: Call) -> None:
    """While the reconciler's own poll hangs, the reader gets the job, marked as incomplete."""
    deployment = await house.deployments.deploy(request(), call)
    await house.reconciler.open()
    try:
        await asyncio.wait_for(house.clock.somebody_sleeps(), 10)
        ended = jobs_pb2.Job(job_id=deployment.job_id, kind=jobs_pb2.JOB_KIND_DEPLOYMENT, state=jobs_pb2.JOB_STATE_SUCCESS)
        house.pipelines.hangs = True
        assert not await house.reconciler.prompt(ended, 0.01)
        assert await state_of(house, deployment) == "IN_PROGRESS"
    finally:
        await house.reconciler.close()


@pytest.mark.parametrize("down", [False, True])
async def test_checks_that_take_too_long_fail_the_deployment_and_free_its_place(house: House, call: Call, down: bool) -> None:
    """After our own time limit, whether Airflow answers or not; the job is ended too, if Airflow answers."""
    first = await house.deployments.deploy(request(1), call)
    house.pipelines.runs[first.job_id] = a_run(
        jobs_pb2.JOB_STATE_RUNNING, Task(task_id="load_version", state=jobs_pb2.TASK_STATE_RUNNING, map_index=-1)
    )
    await house.clock.advance(7199)
    await house.reconciler.reconcile()
    assert await state_of(house, first) == "IN_PROGRESS"
    house.pipelines.down = backend_unavailable("Airflow") if down else None
    await house.clock.advance(1)
    await house.reconciler.reconcile()
    last = "Airflow does not answer." if down else "Task 'load_version' runs."
    why = "he checks of this deployment did not end within 2:00:00 (jobs.deployment_timeout)"
    assert await state_of(house, first) == "FAILED"
    assert (await house.deployments.get(first.deployment_id)).message == f"T{why}. Last seen: {last}"
    assert house.pipelines.ended == ([] if down else [(first.job_id, f"ML Platform: t{why}")])
    house.pipelines.down = None
    assert (await deployed(house, call, 2)).state == deployments_pb2.DEPLOYMENT_STATE_ACTIVE


async def test_one_look_that_hangs_does_not_hold_up_the_others(house: House, call: Call) -> None:
    """Each deployment in progress is looked at by itself."""
    hung = await house.deployments.deploy(request(1), call)
    house.pipelines.hanging = {hung.job_id}
    other = await house.deployments.deploy(request(1, environment=PRODUCTION), call)
    succeed(house, other)
    await house.reconciler.open()
    try:
        ended = await house.jobs.get(other.job_id)
        assert await house.reconciler.prompt(ended, 60.0)
        assert await state_of(house, other) == "ACTIVE"
        assert await state_of(house, hung) == "IN_PROGRESS"
    finally:
        await house.reconciler.close()


async def test_only_one_deployment_of_a_model_to_an_environment_is_under_way(house: House, call: Call) -> None:
    """A second one is refused and leaves no job behind; another environment or model is free."""
    await house.deployments.deploy(request(1), call)
    with pytest.raises(PlatformError) as caught:
        await house.deployments.deploy(request(2), call)
    assert caught.value.reason_name == "DEPLOYMENT_IN_PROGRESS"
    await house.deployments.deploy(request(2, environment=PRODUCTION), call)
    await house.deployments.deploy(request(2, model_name="churn"), call)
    assert len((await house.jobs.list(Page()))[0]) == 3


async def test_the_same_request_gives_the_same_deployment(house: House, call: Call) -> None:
    """A repeat with the same request id starts nothing new, in progress or done."""
    first = await house.deployments.deploy(request(request_id="r"), call)
    again = await house.deployments.deploy(request(request_id="r"), call)
    succeed(house, first)
    await house.reconciler.reconcile()
    done = await house.deployments.deploy(request(request_id="r"), call)
    assert {first.deployment_id, again.deployment_id, done.deployment_id} == {first.deployment_id}
    assert len((await house.deployments.list(Page()))[0]) == 1


async def test_a_start_that_is_refused_fails_the_deployment_and_a_repeat_is_a_new_try(house: House, call: Call) -> None:
    """The history keeps the try that could not start; the same request may then succeed."""
    house.pipelines.refuses = GONE_BAD
    with pytest.raises(PlatformError) as caught:
        await house.deployments.deploy(request(request_id="r"), call)
    assert caught.value is GONE_BAD
    house.pipelines.refuses = None
    await house.deployments.deploy(request(request_id="r"), call)
    history, _ = await house.deployments.list(Page())
    assert sorted((one.state, one.message) for one in history) == [
        (deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS, "Being checked; traffic has not moved."),
        (deployments_pb2.DEPLOYMENT_STATE_FAILED, "Its checks could not start: its file is broken."),
    ]


async def test_a_start_whose_outcome_is_unknown_stays_in_progress_until_it_is_known(house: House, call: Call) -> None:
    """If Airflow's answer got lost, the run may be there; when it turns out not to be, the deployment fails."""
    house.pipelines.refuses = AirflowUnavailableError(may_have_arrived=True)
    with pytest.raises(PlatformError):
        await house.deployments.deploy(request(), call)
    await house.reconciler.reconcile()
    (deployment,), _ = await house.deployments.list(Page())
    assert deployment.state == deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS
    await house.clock.advance(61)
    await house.reconciler.reconcile()
    assert await state_of(house, deployment) == "FAILED"


async def test_a_model_without_a_signature_is_not_deployed(house: House, call: Call) -> None:
    """Without a signature nobody knows what to send, so nothing starts."""
    house.registry.signature = None
    with pytest.raises(PlatformError) as caught:
        await house.deployments.deploy(request(), call)
    assert (caught.value.reason_name, house.pipelines.triggered) == ("MODEL_WITHOUT_SIGNATURE", [])


@pytest.mark.parametrize("reason", ["MODEL_NOT_FOUND", "MODEL_VERSION_NOT_FOUND", "MODEL_ARTIFACT_MISSING"])
async def test_what_the_registry_misses_is_not_deployed(house: House, call: Call, reason: str) -> None:
    """An unknown model or version, or files that are gone, are told before anything starts."""
    house.registry.missing = PlatformError(errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}"), "no", remedy="no")
    with pytest.raises(PlatformError) as caught:
        await house.deployments.deploy(request(), call)
    assert (caught.value.reason_name, (await house.deployments.list(Page()))[0]) == (reason, [])


@pytest.mark.parametrize(
    ("flavors", "runtime"),
    [
        (("onnx", "python_function"), deployments_pb2.SERVING_RUNTIME_ONNX),
        (("sklearn", "python_function"), deployments_pb2.SERVING_RUNTIME_UNSPECIFIED),
    ],
)
async def test_the_runtime_of_an_onnx_model_is_known_from_the_start(
    house: House, call: Call, flavors: tuple[str, ...], runtime: deployments_pb2.ServingRuntime.ValueType
) -> None:
    """ONNX runs in the platform's own process; of everything else the checks find out whether it converts."""
    house.registry.flavors = flavors
    assert (await house.deployments.deploy(request(), call)).runtime == runtime


@pytest.mark.parametrize(
    ("flavors", "state", "runtime"),
    [
        (("onnx",), models_pb2.ONNX_CONVERSION_STATE_NATIVE, deployments_pb2.SERVING_RUNTIME_ONNX),
        (("sklearn",), models_pb2.ONNX_CONVERSION_STATE_CONVERTED, deployments_pb2.SERVING_RUNTIME_ONNX),
        (("sklearn",), models_pb2.ONNX_CONVERSION_STATE_OUTPUT_MISMATCH, deployments_pb2.SERVING_RUNTIME_BENTOML),
        (("sklearn",), models_pb2.ONNX_CONVERSION_STATE_NOT_CONVERTIBLE, deployments_pb2.SERVING_RUNTIME_BENTOML),
    ],
)
async def test_what_the_checks_found_decides_the_runtime(
    house: House,
    call: Call,
    flavors: tuple[str, ...],
    state: models_pb2.OnnxConversionState.ValueType,
    runtime: deployments_pb2.ServingRuntime.ValueType,
) -> None:
    """A version that was converted runs in the platform's own process, one that was not in BentoML's."""
    house.registry.flavors = flavors
    house.registry.onnx_conversion = models_pb2.OnnxConversion(state=state)
    assert (await deployed(house, call, 1)).runtime == runtime


@pytest.mark.parametrize("flavors", [("onnx",), ("sklearn",)])
async def test_an_active_deployment_shows_the_doubt_of_its_checks(house: House, call: Call, flavors: tuple[str, ...]) -> None:
    """A version that failed on a made-up row is active in staging, and its deployment says so."""
    house.registry.flavors, house.registry.doubt = flavors, "fails on a made-up row: unknown category 'a'"
    deployment = await deployed(house, call, 1)
    assert deployment.state == deployments_pb2.DEPLOYMENT_STATE_ACTIVE
    assert "fails on a made-up row: unknown category 'a'" in deployment.message
    assert "input_example=" in deployment.message


async def test_the_runtime_is_the_one_in_use(house: House, call: Call) -> None:
    """BentoML stands in for a graph that cannot be used, and the deployment says so, alone and in a list."""
    house.registry.flavors = ("onnx", "python_function")
    deployment = await deployed(house, call, 1)
    in_use = {deployment.deployment_id: deployments_pb2.SERVING_RUNTIME_BENTOML}
    house.deployments._runtime_in_use = in_use.get
    found = await house.deployments.get(deployment.deployment_id)
    assert (found.runtime, "ONNX graph cannot be used" in found.message) == (deployments_pb2.SERVING_RUNTIME_BENTOML, True)
    listed, _ = await house.deployments.list(Page(10, ""))
    assert listed == [found]
    in_use.clear()
    assert await house.deployments.get(deployment.deployment_id) == deployment


async def test_traffic_does_not_wait_for_the_choice_of_a_runtime(house: House, call: Call) -> None:
    """While MLflow is away nobody knows whether the version was converted; it is active all the same, and loading it tells."""
    house.registry.flavors = ("sklearn",)
    house.registry.down = backend_unavailable("MLflow")
    deployment = await deployed(house, call, 1)
    assert (deployment.state, deployment.runtime) == (
        deployments_pb2.DEPLOYMENT_STATE_ACTIVE,
        deployments_pb2.SERVING_RUNTIME_UNSPECIFIED,
    )


async def test_the_alias_is_mirrored_later_if_the_registry_is_down(house: House, call: Call) -> None:
    """Traffic does not wait for MLflow; the alias follows when MLflow is back."""
    house.registry.down = backend_unavailable("MLflow")
    deployment = await deployed(house, call, 1)
    assert (deployment.state, house.registry.aliases) == (deployments_pb2.DEPLOYMENT_STATE_ACTIVE, {})
    house.registry.down = None
    await house.reconciler.reconcile()
    assert house.registry.aliases == {("fraud", "staging"): 1}


async def test_the_rounds_survive_a_backend_that_is_down(house: House, call: Call) -> None:
    """The reconciler goes on after a round in which Airflow did not answer."""
    deployment = await house.deployments.deploy(request(), call)
    succeed(house, deployment)
    house.pipelines.down = backend_unavailable("Airflow")
    await house.reconciler.open()
    try:
        await asyncio.wait_for(house.clock.somebody_sleeps(), 10)
        assert await state_of(house, deployment) == "IN_PROGRESS"
        house.pipelines.down = None
        await house.clock.advance(1)
        await asyncio.wait_for(house.clock.somebody_sleeps(), 10)
        assert await state_of(house, deployment) == "ACTIVE"
    finally:
        await house.reconciler.close()


async def test_an_unknown_deployment_is_not_found(house: House) -> None:
    """A deployment that nobody started is DEPLOYMENT_NOT_FOUND."""
    with pytest.raises(PlatformError) as caught:
        await house.deployments.get("dep-none")
    assert caught.value.reason_name == "DEPLOYMENT_NOT_FOUND"
