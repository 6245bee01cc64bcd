"""The hand-written stand-ins beside what they stand for: the same questions, the same answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ml_platform.v1 import deployments_pb2, jobs_pb2, models_pb2
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.plan import listed
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.serving.features.binding import FeatureReader
from ml_platform_server.serving.routing.model_cache import Registry
from ml_platform_server.serving.routing.router import ActiveDeployments
from ml_platform_server.settings import FeastSettings, MlflowSettings
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.tables import DeploymentRow, JobRow
from tests.support.feast_project import FeastProject, OneProcess
from tests.support.feast_requests import NULL, OLD, PRESENT, UNKNOWN, pushed, user_view
from tests.support.frame import opened_store
from tests.support.mlflow_server import fresh_name
from tests.support.refusals import refused
from tests.support.serving import ONNX, PRODUCTION, STAGING, FakeDeployments, FakeFeatures, FakeRegistry, column

pytestmark = pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])
Activate = Callable[[str, int, str], Awaitable[str]]
Door = TypeVar("Door", MlflowBackend, FeastBackend)


@asynccontextmanager
async def opened(backend: Door) -> AsyncIterator[Door]:
    """A backend that is open in a block."""
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def registry(real: bool, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Registry, str]]:
    """A registry with one version of a model whose files are there, and the model's name."""
    if not real:
        fake = FakeRegistry()
        (tmp_path / "MLmodel").touch()
        fake.add("m", 1, [column("amount"), column("count", "long")], tmp_path, flavors=["python_function"])
        yield fake, "m"
        return
    settings = MlflowSettings(tracking_uri=request.getfixturevalue("mlflow_server").uri)
    async with opened(MlflowBackend(settings=settings)) as backend:
        models, name = Models(backend=backend), fresh_name()
        run_id = request.getfixturevalue("run_with_model")
        await models.register(models_pb2.RegisterModelRequest(run_id=run_id, model_name=name, request_id="r"))
        yield models, name


async def test_a_registry(registry: tuple[Registry, str], tmp_path: Path) -> None:
    """What is there, what is not, and files that lie in a folder with an MLmodel."""
    models, name = registry
    assert (await models.get(name)).name == name
    version = await models.get_version(name, 1)
    assert (version.model_name, version.version, version.HasField("create_time")) == (name, 1, True)
    assert [(each.name, each.type) for each in version.signature.inputs] == [("amount", "double"), ("count", "long")]
    assert list(version.flavors) == ["python_function"]
    assert ((await models.download(name, 1, tmp_path / "files")) / "MLmodel").is_file()
    for call, reason in (
        (models.get("nobody's"), "MODEL_NOT_FOUND"),
        (models.get_version(name, 9), "MODEL_VERSION_NOT_FOUND"),
        (models.download_graph(version, tmp_path / "graph"), "MODEL_ARTIFACT_MISSING"),
    ):
        with refused(reason):
            await call


async def test_a_registry_that_is_away(real: bool) -> None:
    """Is unavailable, whatever is asked of it."""
    fake = FakeRegistry(down=True)
    async with opened(MlflowBackend(settings=MlflowSettings(tracking_uri="http://127.0.0.1:9", timeout=5))) as backend:
        models: Registry = Models(backend=backend) if real else fake
        for call in (models.get("m"), models.get_version("m", 1)):
            with refused("BACKEND_UNAVAILABLE"):
                await call


@pytest.fixture
async def deployments(real: bool, request: pytest.FixtureRequest) -> AsyncIterator[tuple[ActiveDeployments, Activate]]:
    """The active deployments, and what activates one."""
    if not real:
        fake = FakeDeployments()

        async def pretend(name: str, version: int, environment: str) -> str:
            return fake.activate(name, version, environment)

        yield fake, pretend
        return
    async with opened_store(request.getfixturevalue("postgres_url")) as database:
        records, start = DeploymentRecords(database=database), datetime(2026, 1, 1, tzinfo=UTC)
        job = {"kind": jobs_pb2.JOB_KIND_DEPLOYMENT, "pipeline": "p", "state": jobs_pb2.JOB_STATE_QUEUED, "conf": {}}
        await JobRecords(database=database).add(JobRow(job_id="mlp-1", submitted_by="ada", create_time=start, **job))

        async def activate(name: str, version: int, environment: str) -> str:
            deployment_id = f"dep-{name}-{version}-{environment}"
            state = deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS
            known: dict[str, Any] = {"model_name": name, "version": version, "environment": environment, "state": state}
            row = DeploymentRow(deployment_id=deployment_id, actor="ada", job_id="mlp-1", **known)
            row.create_time = start + timedelta(seconds=version)
            await records.begin(row)
            assert await records.activate(deployment_id, ONNX, "")
            return deployment_id

        yield records, activate


async def test_the_active_deployments(deployments: tuple[ActiveDeployments, Activate]) -> None:
    """One of each model in each environment, the newest; the generation grows with every change, and with nothing else."""
    records, activate = deployments
    assert (await records.active("m", PRODUCTION), list(await records.all_active())) == (None, [])
    generations = [await records.generation()]
    expected = {}
    for version, environment in ((1, PRODUCTION), (1, STAGING), (2, PRODUCTION)):
        expected[environment] = await activate("m", version, environment)
        generations.append(await records.generation())
    assert await records.generation() == generations[-1]
    assert sorted(set(generations)) == generations
    for environment, deployment_id in expected.items():
        row = await records.active("m", environment)
        assert row is not None
        assert (row.deployment_id, row.model_name, row.environment, row.runtime) == (deployment_id, "m", environment, ONNX)
    assert {row.deployment_id for row in await records.all_active()} == set(expected.values())
    assert await records.active("other", PRODUCTION) is None


@pytest.fixture
async def features(real: bool, request: pytest.FixtureRequest) -> AsyncIterator[tuple[FeatureReader, str, str]]:
    """A reader, and two views: one of which "a" has a value and a null, and one of which "a" has an old value."""
    if not real:
        fake = FakeFeatures(
            views={"fresh": ["average", "total"], "aged": ["average", "total"]},
            keys={"fresh": ["user_id"], "aged": ["user_id"]},
            stored={("fresh", ("a",)): {"average": 1.5}, ("aged", ("a",)): {"average": 1.5}},
            old=["aged"],
        )
        yield fake, "fresh", "aged"
        return
    project: FeastProject = request.getfixturevalue("feast_project")
    async with opened(FeastBackend(settings=FeastSettings(config_path=project.config_path, registry_ttl=1000))) as backend:
        views = FeatureViews(backend=backend, locks=OneProcess())
        fresh, aged = [(await views.register(user_view())).name for _ in range(2)]
        await views.push(pushed(fresh, {"user_id": "a", "average": 1.5, "total": None}))
        await views.push(pushed(aged, {"user_id": "a", "average": 1.5, "total": None}, at="2020-01-01T00:00:00Z"))
        yield OnlineFeatures(backend=backend), fresh, aged


async def test_a_reader_of_features(features: tuple[FeatureReader, str, str]) -> None:
    """Values, nulls, old values and entities that nobody knows; by rows and by columns; and names that nobody knows."""
    reader, fresh, aged = features
    plan = await reader.plan(features=[f"{fresh}:average", f"{fresh}:total", f"{aged}:average"])
    assert [(each.view, each.name) for each in plan.features] == [(fresh, "average"), (fresh, "total"), (aged, "average")]
    assert [key.name for key in plan.join_keys] == ["user_id"]
    expected = [[(1.5, PRESENT), (None, NULL), (1.5, OLD)], [(None, UNKNOWN)] * 3]
    found = await reader.read(plan, [{"user_id": "a"}, {"user_id": "nobody"}])
    assert [[(cell.value, cell.status) for cell in row] for row in found] == expected
    assert [[cell.event_time is not None for cell in row] for row in found] == [[True] * 3, [False] * 3]
    columns = await reader.read_columns(plan, {"user_id": ["a", "nobody"]}, 2)
    by_row = zip(*(zip(listed(each.values), each.statuses, strict=True) for each in columns), strict=True)
    assert [list(row) for row in by_row] == expected
    assert await reader.read(plan, []) == []
    for asked, reason in (
        ({"features": ["no_view:x"]}, "FEATURE_VIEW_NOT_FOUND"),
        ({"features": [f"{fresh}:x"]}, "FEATURE_NOT_FOUND"),
        ({"feature_service": "no_service"}, "FEATURE_SERVICE_NOT_FOUND"),
    ):
        with refused(reason):
            await reader.plan(**asked)


async def test_a_feature_store_that_is_away(real: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Is unavailable to those who read, with a plan that was made before."""
    fake = FakeFeatures(views={"users": ["total"]}, keys={"users": ["user_id"]})
    project: FeastProject = request.getfixturevalue("feast_project")
    view = "users"
    if real:
        async with opened(FeastBackend(settings=FeastSettings(config_path=project.config_path))) as backend:
            view = (await FeatureViews(backend=backend, locks=OneProcess()).register(user_view())).name
    config = tmp_path / "feature_store.yaml"
    config.write_text(project.config_path.read_text().replace(f":{project.port}", ":9"))
    async with opened(FeastBackend(settings=FeastSettings(config_path=config, registry_ttl=1000))) as backend:
        reader: FeatureReader = OnlineFeatures(backend=backend) if real else fake
        plan = await reader.plan(features=[f"{view}:total"])
        fake.down = True
        with refused("BACKEND_UNAVAILABLE"):
            await reader.read(plan, [{"user_id": "a"}])
