"""The prediction path from request to reply, with ONNX models that really run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from ml_platform.v1 import models_pb2, predictions_pb2
from ml_platform.v1.deployments_pb2 import MISSING_FEATURES_DEFAULT, FeaturePolicy
from ml_platform.v1.features_pb2 import FEATURE_STATUS_DEFAULT, FEATURE_STATUS_FROM_REQUEST, FEATURE_STATUS_PRESENT
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.routing import router
from ml_platform_server.settings import BentomlSettings, ServingSettings
from tests.support.serving import (
    PRODUCTION,
    STAGING,
    FakeDeployments,
    FakeFeatures,
    FakeRegistry,
    column,
    save_onnx,
    struct,
    sum_graph,
)


class House:
    """An engine and what surrounds it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.registry = FakeRegistry()
        self.deployments = FakeDeployments()
        self.features = FakeFeatures(
            views={"users": ("total",)}, keys={"users": ("user_id",)}, stored={("users", ("u1",)): {"total": 10.0}}
        )
        self.bentoml = BentomlBackend(settings=BentomlSettings(url="http://127.0.0.1:9", timeout=0.5))
        self.log_fields: dict[str, object] = {}

    def engine(self) -> PredictionEngine:
        return PredictionEngine(
            settings=ServingSettings(refresh_interval=0.02, model_cache=self.tmp_path / "cache"),
            deployments=self.deployments,
            registry=self.registry,
            features=self.features,
            bentoml=self.bentoml,
        )

    def register(self, version: int, *, scale: float = 1.0, name: str = "m") -> None:
        """A version that gives `scale` times the sum of what is sent and what is stored."""
        files = save_onnx(self.tmp_path / f"{name}-{version}", sum_graph(2, scale=scale))
        self.registry.add(name, version, [column("amount"), column("total")], files, feature_refs=["users:total"])

    async def ask(
        self,
        engine: PredictionEngine,
        *,
        name: str = "m",
        environment: str = PRODUCTION,
        include_features: bool = False,
        **inputs: object,
    ) -> predictions_pb2.PredictResponse:
        request = predictions_pb2.PredictRequest(
            model_name=name,
            environment=environment,
            inputs=struct(inputs or {"amount": 1.0, "user_id": "u1"}),
            include_features=include_features,
        )
        return predictions_pb2.PredictResponse.FromString(await engine.predict_encoded(request, self.log_fields))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    made.register(1)
    yield made
    await made.bentoml.close()


@pytest.fixture
async def engine(house: House) -> AsyncIterator[PredictionEngine]:
    async with house.engine() as opened:
        yield opened


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


async def _reason(house: House, engine: PredictionEngine, **options: object) -> str:
    with pytest.raises(PlatformError) as caught:
        await house.ask(engine, **options)  # type: ignore[arg-type]
    return caught.value.reason_name


async def test_two_deployments_of_a_version_have_policies_of_their_own(house: House, engine: PredictionEngine) -> None:
    """An unknown entity gets production's default, which the reply names, while staging fails; the model is loaded once."""
    policy = FeaturePolicy(missing=MISSING_FEATURES_DEFAULT, defaults=struct({"total": 100.0}))
    house.deployments.activate("m", 1, PRODUCTION, policy=policy)
    house.deployments.activate("m", 1, STAGING)
    nobody: dict[str, Any] = {"amount": 1.0, "user_id": "nobody"}

    response = await house.ask(engine, include_features=True, **nobody)

    assert (response.prediction.number_value, list(response.degraded_features)) == (101.0, ["users:total"])
    (feature,) = response.features
    assert (feature.value.number_value, feature.status) == (100.0, FEATURE_STATUS_DEFAULT)
    assert await _reason(house, engine, environment=STAGING, **nobody) == "FEATURE_MISSING"
    assert (await engine.served("m", PRODUCTION)).model is (await engine.served("m", STAGING)).model


async def test_reply_says_what_and_who(house: House, engine: PredictionEngine) -> None:
    """A reply holds the prediction, every output, and the model, version and deployment that gave it."""
    deployment_id = house.deployments.activate("m", 1)

    response = await house.ask(engine, amount=1.5, user_id="u1", colour="red")

    assert json_format.MessageToDict(response, preserving_proto_field_name=True) == {
        "prediction_id": response.prediction_id,
        "model_name": "m",
        "model_version": "1",
        "deployment_id": deployment_id,
        "prediction": 11.5,
        "outputs": {"total": 11.5},
        "unused_inputs": ["colour"],
    }
    assert house.log_fields == {
        "model": "m",
        "version": 1,
        "prediction_id": response.prediction_id,
        "unused_inputs": ["colour"],
    }


async def test_features_are_told_when_asked_for(house: House, engine: PredictionEngine) -> None:
    """Each feature is told with its value, its status, and its event time or that the caller sent it."""
    house.deployments.activate("m", 1)

    read = await house.ask(engine, amount=1.0, user_id="u1", include_features=True)
    sent = await house.ask(engine, amount=1.0, total=3.0, include_features=True)

    assert [json_format.MessageToDict(feature) for feature in read.features] == [
        {
            "featureView": "users",
            "name": "total",
            "value": 10.0,
            "status": "FEATURE_STATUS_PRESENT",
            "eventTime": "2023-11-14T22:13:20Z",
            "valueType": "VALUE_TYPE_DOUBLE",
        }
    ]
    assert [json_format.MessageToDict(feature) for feature in sent.features] == [
        {
            "featureView": "users",
            "name": "total",
            "value": 3.0,
            "status": "FEATURE_STATUS_FROM_REQUEST",
            "valueType": "VALUE_TYPE_DOUBLE",
        }
    ]


@pytest.mark.parametrize(("value", "name"), [(float("inf"), "Infinity"), (float("-inf"), "-Infinity")])
async def test_an_infinite_feature_is_told_by_name(house: House, engine: PredictionEngine, value: float, name: str) -> None:
    """As it may be sent; the model used it, so it is not null."""
    house.deployments.activate("m", 1)
    house.features.stored["users", ("u2",)] = {"total": value}

    read = await house.ask(engine, amount=1.0, user_id="u2", include_features=True)
    sent = await house.ask(engine, amount=1.0, total=name, include_features=True)

    assert [(feature.value.string_value, feature.status) for feature in (*read.features, *sent.features)] == [
        (name, FEATURE_STATUS_PRESENT),
        (name, FEATURE_STATUS_FROM_REQUEST),
    ]


async def test_ids_are_unique(house: House, engine: PredictionEngine) -> None:
    """No two predictions share an id."""
    house.deployments.activate("m", 1)

    ids = {(await house.ask(engine)).prediction_id for _ in range(20)}

    assert len(ids) == 20


async def test_missing_deployment_is_told_from_a_missing_model(house: House, engine: PredictionEngine) -> None:
    """A model that is not deployed there is MODEL_NOT_DEPLOYED, an unknown one MODEL_NOT_FOUND, unless nobody can tell."""
    house.deployments.activate("m", 1)

    elsewhere = await _reason(house, engine, environment=STAGING)
    unknown = await _reason(house, engine, name="unknown")
    house.registry.down = True
    nobody_knows = await _reason(house, engine, name="unknown")

    assert (elsewhere, unknown, nobody_knows) == ("MODEL_NOT_DEPLOYED", "MODEL_NOT_FOUND", "MODEL_NOT_DEPLOYED")


async def test_deployed_model_answers_while_everything_else_is_down(house: House, engine: PredictionEngine) -> None:
    """Once loaded, a model answers without registry and without database."""
    house.deployments.activate("m", 1)
    await house.ask(engine)
    house.registry.down = house.deployments.down = True

    response = await house.ask(engine)

    assert response.prediction.number_value == 11.0


async def test_restart_serves_from_the_disk_while_the_registry_is_down(house: House, engine: PredictionEngine) -> None:
    """A process that starts while the registry is down serves the ONNX models that an earlier one had loaded."""
    house.deployments.activate("m", 1)
    await house.ask(engine)
    house.registry.down = True

    async with house.engine() as restarted:
        response = await house.ask(restarted)

    assert response.prediction.number_value == 11.0


async def test_many_first_calls_load_once(house: House, engine: PredictionEngine) -> None:
    """Calls that find a model unloaded share one load."""
    house.deployments.activate("m", 1)

    responses = await asyncio.gather(*(house.ask(engine) for _ in range(20)))

    assert house.registry.downloads == 1
    assert {response.model_version for response in responses} == {1}


async def test_version_is_swapped_under_load_without_a_failed_call(house: House, engine: PredictionEngine) -> None:
    """While versions change, every call is answered, and no caller sees an older version after a newer one."""
    house.deployments.activate("m", 1)
    await house.ask(engine)
    seen: list[list[int]] = [[], [], [], []]
    stop = asyncio.Event()

    async def caller(versions: list[int]) -> None:
        while not stop.is_set():
            versions.append((await house.ask(engine)).model_version)
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller(versions)) for versions in seen]
    await _until(lambda: all(1 in versions for versions in seen))
    house.register(2)
    house.deployments.activate("m", 2)
    await _until(lambda: all(2 in versions for versions in seen))
    house.register(3)
    house.deployments.activate("m", 3)
    await _until(lambda: all(3 in versions for versions in seen))
    stop.set()
    await asyncio.gather(*callers)

    assert [list(dict.fromkeys(versions)) for versions in seen] == [[1, 2, 3]] * 4


async def test_refresh_does_not_wait_for_the_interval(house: House) -> None:
    """After a refresh the newest version answers."""
    house.deployments.activate("m", 1)
    async with house.engine() as engine:
        await house.ask(engine)
        house.register(2, scale=2.0)
        house.deployments.activate("m", 2)

        await engine.refresh()
        response = await house.ask(engine)

    assert (response.model_version, response.prediction.number_value) == (2, 22.0)


async def test_version_that_cannot_be_loaded_leaves_the_one_before(house: House, engine: PredictionEngine) -> None:
    """When the new version's files are gone, the version before goes on answering, and other models are not touched."""
    house.deployments.activate("m", 1)
    await house.ask(engine)
    house.registry.add("m", 2, [column("amount"), column("total")])
    house.register(1, name="other")
    house.deployments.activate("m", 2)
    house.deployments.activate("other", 1)

    await engine.refresh()

    assert (await house.ask(engine)).model_version == 1
    assert (await house.ask(engine, name="other")).model_version == 1


async def test_failing_version_is_told_to_its_callers(house: House, engine: PredictionEngine) -> None:
    """Without a version before it, a version without files or signature tells its callers why it cannot answer."""
    house.registry.add("gone", 1, [column("amount")])
    house.registry.add("mute", 1, [], house.registry.files["m", 1])
    house.deployments.activate("gone", 1)
    house.deployments.activate("mute", 1)

    reasons = await _reason(house, engine, name="gone"), await _reason(house, engine, name="mute")

    assert reasons == ("MODEL_ARTIFACT_MISSING", "MODEL_WITHOUT_SIGNATURE")


async def test_active_deployments_are_loaded_ahead(house: House) -> None:
    """A process that starts loads what is deployed before anybody asks."""
    house.deployments.activate("m", 1)
    async with house.engine() as engine:
        await _until(lambda: engine._router.ready("m", PRODUCTION) is not None)

    assert house.registry.downloads == 1


async def test_loading_ahead_recovers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts while store and registry are down loads what is deployed when they are back, though nobody asks."""
    monkeypatch.setattr(router, "RETRY_SECONDS", 0.01)
    house.deployments.activate("m", 1)
    house.deployments.down = house.registry.down = True
    tried = house.registry.get_version
    attempts: list[int] = []

    async def counted(model_name: str, version: int) -> models_pb2.ModelVersion:
        attempts.append(version)
        return await tried(model_name, version)

    monkeypatch.setattr(house.registry, "get_version", counted)
    async with house.engine() as engine:
        house.deployments.down = False
        await _until(lambda: len(attempts) > 1)
        house.registry.down = False
        await _until(lambda: engine._router.ready("m", PRODUCTION) is not None)

    assert house.registry.downloads == 1


async def test_deployment_that_ended_stops_answering(house: House, engine: PredictionEngine) -> None:
    """A model whose deployment is gone from the store is no longer served."""
    house.deployments.activate("m", 1)
    await house.ask(engine)
    house.deployments.rows.clear()
    house.deployments.changes += 1

    await engine.refresh()

    assert await _reason(house, engine) == "MODEL_NOT_DEPLOYED"


async def test_both_environments_share_a_version(house: House, engine: PredictionEngine) -> None:
    """One version in two environments is in memory once and answers under two deployments."""
    production, staging = house.deployments.activate("m", 1), house.deployments.activate("m", 1, STAGING)

    answers = await house.ask(engine), await house.ask(engine, environment=STAGING)

    assert [answer.deployment_id for answer in answers] == [production, staging]
    found = [engine._router.ready("m", environment) for environment in (PRODUCTION, STAGING)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].model is found[1].model


async def test_deadline_ends_the_wait_for_a_load_but_not_the_load(
    house: House, engine: PredictionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller whose time is up is told so; the model goes on loading for the next one."""
    house.deployments.activate("m", 1)
    slow, go_on = house.registry.download, asyncio.Event()

    async def download(model_name: str, version: int, target: Path) -> Path:
        await go_on.wait()
        return await slow(model_name, version, target)

    monkeypatch.setattr(house.registry, "download", download)

    async def hurried() -> str:
        set_deadline(time.monotonic() + 0.05)
        return await _reason(house, engine)

    reason = await asyncio.create_task(hurried())
    go_on.set()
    response = await house.ask(engine)

    assert (reason, response.model_version) == ("DEADLINE_EXCEEDED", 1)


async def test_model_in_bentoml_is_unavailable_while_bentoml_is(house: House, engine: PredictionEngine) -> None:
    """A version of another flavour goes to BentoML; while that is down its callers are told to try again."""
    house.registry.add("tree", 1, [column("amount")], flavors=["sklearn", "python_function"])
    house.deployments.activate("tree", 1, runtime=2)

    with pytest.raises(PlatformError) as caught:
        await house.ask(engine, name="tree", amount=1.0)

    assert (caught.value.reason_name, caught.value.metadata) == ("BACKEND_UNAVAILABLE", {"backend": "BentoML"})
    assert caught.value.retry_after is not None
