"""The contract stands without our client: Node makes stubs from the protos and calls the server's own frame and services."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import google.rpc
import pytest

from ml_platform.v1 import experiments_pb2, jobs_pb2, predictions_pb2
from ml_platform.v1.errors_pb2 import ERROR_REASON_EXPERIMENT_NOT_FOUND
from ml_platform_server.errors import PlatformError
from ml_platform_server.services.experiments import ExperimentService
from ml_platform_server.services.jobs import JobService
from ml_platform_server.services.predictions import PredictionService
from scripts.contract import GOOGLEAPIS, PROTOS, provide_googleapis
from tests.support.frame import running_frame

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent / "node"
BUILT = ROOT / "build" / "node-caller"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")),
    reason="node and npm are not on this machine: the contract is not tried from a second language",
)


class MemoryExperiments:
    """Keeps experiments in memory, and counts how many were made."""

    def __init__(self) -> None:
        self.made = 0

    async def create(self, request: experiments_pb2.CreateExperimentRequest) -> experiments_pb2.Experiment:
        self.made += 1
        return experiments_pb2.Experiment(experiment_id=str(self.made), name=request.name, tags=request.tags)

    async def get(self, *, experiment_id: str, name: str) -> experiments_pb2.Experiment:
        raise PlatformError(ERROR_REASON_EXPERIMENT_NOT_FOUND, f"No experiment {experiment_id or name!r}.", remedy="List them.")


class ScriptedHub:
    """Tells the same short story of every job."""

    async def watch(self, job_id: str, resume_after: int) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        steps = (
            (jobs_pb2.WATCH_EVENT_SNAPSHOT, jobs_pb2.JOB_STATE_RUNNING),
            (jobs_pb2.WATCH_EVENT_TERMINAL, jobs_pb2.JOB_STATE_SUCCESS),
        )
        for sequence, (event, state) in enumerate(steps, start=resume_after + 1):
            job = jobs_pb2.Job(job_id=job_id, state=state)
            yield jobs_pb2.WatchJobResponse(event=event, sequence=sequence, job=job)


class EchoEngine:
    """Predicts the inputs it is given."""

    async def predict_encoded(self, request: predictions_pb2.PredictRequest, _facts: dict[str, object]) -> bytes:
        said = predictions_pb2.PredictResponse(model_name=request.model_name, model_version=2, outputs=request.inputs)
        return said.SerializeToString()


@pytest.fixture(scope="module")
def caller() -> Path:
    """The program that calls, with what npm installs for it in a folder of its own."""
    BUILT.mkdir(parents=True, exist_ok=True)
    for file in HERE.iterdir():
        shutil.copyfile(file, BUILT / file.name)
    provide_googleapis()
    return BUILT / "caller.js"


async def run(*command: str) -> bytes:
    """The output of a command; its errors fail the test."""
    piped = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=BUILT, stdout=piped, stderr=piped)
    output, errors = await process.communicate()
    assert process.returncode == 0, f"{' '.join(command)}: {errors.decode()}"
    return output


async def test_node_calls_the_platform(caller: Path, tmp_path: Path) -> None:
    """From Node, calls, repeats, rich errors, streams and Structs work as the contract says."""
    await run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline", "--loglevel=error")
    experiments = MemoryExperiments()
    services = [
        (
            experiments_pb2.DESCRIPTOR.services_by_name["ExperimentService"],
            ExperimentService(experiments=cast("Any", experiments)),
        ),
        (
            jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
            JobService(jobs=cast("Any", None), hub=cast("Any", ScriptedHub())),
        ),
        (
            predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"],
            PredictionService(engine=cast("Any", EchoEngine()), batches=cast("Any", None), streams=cast("Any", None)),
        ),
    ]
    # google/rpc's protos lie inside the installed package, beside its modules.
    folders = [PROTOS, GOOGLEAPIS, Path(next(iter(google.rpc.__path__))).parents[1]]
    async with running_frame(tmp_path, services) as frame:
        told = {"target": f"127.0.0.1:{frame.server.port}", "key": frame.key, "includeDirs": [str(folder) for folder in folders]}
        results = json.loads(await run("node", str(caller), json.dumps(told)))
    check_replies(results)
    assert experiments.made == 1
    assert {name: results[name]["code"] for name in ("nameless", "missing", "keyless")} == {
        "nameless": 3,
        "missing": 5,
        "keyless": 16,
    }
    for name, reason in (("nameless", "INVALID_FIELDS"), ("missing", "EXPERIMENT_NOT_FOUND"), ("keyless", "CREDENTIALS_MISSING")):
        info = results[name]["info"]
        assert (info["reason"], info["domain"]) == (reason, "mlplatform.io")
        assert info["metadata"]["remedy"]
        assert info["metadata"]["correlation_id"]


def check_replies(results: dict[str, Any]) -> None:
    """What went well, went well."""
    assert results["created"]["experiment"]["name"] == "from-node"
    assert results["created"]["experiment"]["tags"] == {"team": "risk"}
    assert results["repeated"] == results["created"]
    events = [(message["event"], message["sequence"]) for message in results["watched"]["messages"]]
    assert events == [("WATCH_EVENT_SNAPSHOT", "1"), ("WATCH_EVENT_TERMINAL", "2")]
    assert results["watched"]["code"] == 0
    fields = results["predicted"]["outputs"]["fields"]
    assert (results["predicted"]["model_version"], fields["amount"]["numberValue"]) == ("2", 9.5)
