"""Stand-ins for what the jobs need, and a clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.experiments_pb2 import Experiment, Run
from ml_platform.v1.features_pb2 import FeatureView
from ml_platform.v1.jobs_pb2 import Job, JobState, Task
from ml_platform.v1.models_pb2 import ModelSignature, ModelVersion, OnnxConversion
from ml_platform_server.backends.airflow.pipelines import PipelineRun
from ml_platform_server.backends.mlflow.artifacts import ModelDetails
from ml_platform_server.errors import PlatformError

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Time that stands still until `advance`."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._bedtime = asyncio.Event()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        alarm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, alarm))
        self._bedtime.set()
        coming: asyncio.Future[bool] = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((coming, alarm), return_when=asyncio.FIRST_COMPLETED)
        finally:
            coming.cancel()
            alarm.cancel()
        return event.is_set()

    async def somebody_sleeps(self) -> None:
        """Return when somebody waits for time to pass."""
        while all(alarm.done() for _, alarm in self._sleepers):
            self._bedtime.clear()
            await self._bedtime.wait()

    async def advance(self, seconds: float) -> None:
        """Let so much time pass, and everybody whom it wakes go on until all sleep again."""
        until = self._elapsed + seconds
        await tune_gc()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= until and not sleeper[1].done()]:
            moment, alarm = min(due, key=lambda sleeper: sleeper[0])
            self._elapsed = moment
            alarm.set_result(None)
            await tune_gc()
        self._elapsed = until
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]


async def tune_gc() -> None:
    """Let every task run until it waits for something that only the test can bring."""
    for _ in range(20):
        await asyncio.sleep(0)


def a_job(state: JobState.ValueType = jobs_pb2.JOB_STATE_RUNNING, message: str = "", job_id: str = "mlp-1") -> Job:
    """A job as a look at it tells."""
    return Job(job_id=job_id, kind=jobs_pb2.JOB_KIND_TRAINING, state=state, message=message)


def a_run(
    state: JobState.ValueType, *tasks: Task, failed_task: Task | None = None, failure: str = "", end_time: datetime | None = None
) -> PipelineRun:
    """A run of a pipeline as Airflow tells it."""
    return PipelineRun(state=state, tasks=tasks, start_time=START, end_time=end_time, failed_task=failed_task, failure=failure)


class FakePipelines:
    """Pipelines that do what the test says."""

    def __init__(self) -> None:
        self.triggered: list[tuple[str, str, Mapping[str, Any]]] = []
        self.runs: dict[str, PipelineRun] = {}
        self.refuses: PlatformError | None = None
        self.down: PlatformError | None = None
        self.hangs = False
        self.hanging: set[str] = set()
        self.strangers: set[str] = set()
        self.ended: list[tuple[str, str]] = []

    async def trigger(self, pipeline: str, run_id: str, conf: Mapping[str, Any]) -> None:
        if self.refuses:
            raise self.refuses
        self.triggered.append((pipeline, run_id, conf))

    async def state(self, pipeline: str, run_id: str) -> PipelineRun | None:
        if self.down:
            raise self.down
        if self.hangs or run_id in self.hanging:
            await asyncio.Event().wait()
        return self.runs.get(run_id)

    async def undeclared(self, pipeline: str, names: Collection[str]) -> list[str]:
        return [name for name in names if name in self.strangers]

    async def end(self, pipeline: str, run_id: str, why: str) -> None:
        if self.down:
            raise self.down
        self.ended.append((run_id, why))


class FakeTracking:
    """Experiments and runs that the test sets."""

    def __init__(self) -> None:
        self.experiments = {"churn"}
        self.runs: list[Run] = []
        self.with_models: set[str] = set()
        self.searches: list[tuple[str, bool]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.missing: PlatformError | None = None
        self.down: PlatformError | None = None

    async def get(self, *, experiment_id: str = "", name: str = "") -> Experiment:
        if name not in self.experiments and self.missing:
            raise self.missing
        return Experiment(name=name)

    async def runs_of_job(self, job_id: str, experiment_name: str = "", *, everywhere: bool = True) -> list[Run]:
        self.searches.append((experiment_name, everywhere))
        if self.down:
            raise self.down
        await self.answers.wait()
        return self.runs

    async def runs_with_models(self, runs: Sequence[Run]) -> set[str]:
        return self.with_models


class FakeRegistry:
    """Models whose versions are all alike, and aliases."""

    def __init__(self) -> None:
        self.flavors: tuple[str, ...] = ("onnx", "python_function")
        self.signature: ModelSignature | None = ModelSignature()
        self.onnx_conversion: OnnxConversion | None = None
        self.doubt = ""
        self.missing: PlatformError | None = None
        self.aliases: dict[tuple[str, str], int] = {}
        self.down: PlatformError | None = None

    async def details(self, model_name: str, version: int, *, fresh: bool = False) -> ModelDetails:
        if self.missing:
            raise self.missing
        return ModelDetails(signature=self.signature, flavors=self.flavors)

    async def get_version(self, model_name: str, version: int) -> ModelVersion:
        if self.down:
            raise self.down
        return ModelVersion(flavors=self.flavors, onnx_conversion=self.onnx_conversion, doubt=self.doubt)

    async def set_alias(self, model_name: str, alias: str, version: int) -> None:
        if self.down:
            raise self.down
        self.aliases[model_name, alias] = version


class FakeViews:
    """Feature views by name."""

    def __init__(self, *names: str, missing: PlatformError) -> None:
        self.names = set(names)
        self.missing = missing

    async def get(self, name: str) -> FeatureView:
        if name not in self.names:
            raise self.missing
        return FeatureView(name=name)
