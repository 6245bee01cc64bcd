"""Which runtime a version gets, depending on what its deployment found out and on what is still there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ml_platform.v1 import deployments_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.routing.loader import ModelLoader
from ml_platform_server.serving.routing.model_cache import ModelCache
from ml_platform_server.serving.runtimes.bentoml import BentomlFactory, BentomlRuntime
from ml_platform_server.serving.runtimes.onnx.factory import OnnxFactory
from ml_platform_server.serving.runtimes.onnx.runtime import OnnxRuntime
from ml_platform_server.settings import BentomlSettings, ServingSettings
from tests.support.serving import FakeFeatures, FakeRegistry, column, save_onnx, sum_graph

ONNX = deployments_pb2.SERVING_RUNTIME_ONNX
BENTOML = deployments_pb2.SERVING_RUNTIME_BENTOML
UNDECIDED = deployments_pb2.SERVING_RUNTIME_UNSPECIFIED
URI = "models:/m-1"


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    """A version of scikit-learn that was converted, and one of ONNX."""
    made = FakeRegistry()
    made.add("pickled", 1, [column("a")], flavors=("sklearn", "python_function"))
    made.convert("pickled", 1, URI, save_onnx(tmp_path / "graph", sum_graph(1)))
    made.add("native", 1, [column("a")], save_onnx(tmp_path / "native", sum_graph(1)))
    return made


@pytest.fixture
async def loader(tmp_path: Path, registry: FakeRegistry) -> AsyncIterator[ModelLoader]:
    """A loader with a BentoML that is not there: it is asked only when a row comes."""
    pool = BlockingPool("ONNX Runtime", threads=1)
    async with BentomlBackend(settings=BentomlSettings(url="http://127.0.0.1:9", timeout=1)) as bentoml:
        cache = ModelCache(folder=tmp_path / "cache", registry=registry)
        settings = ServingSettings()
        factories = (OnnxFactory(pool=pool, settings=settings), BentomlFactory(backend=bentoml, settings=settings))
        yield ModelLoader(cache=cache, reader=FakeFeatures(), factories=factories, settings=settings)
    pool.close()


@pytest.mark.parametrize("runtime", [ONNX, UNDECIDED])
async def test_a_converted_version_is_run_by_its_graph(loader: ModelLoader, runtime: int) -> None:
    """Also when nobody could say so at the end of the deployment."""
    model = await loader.load("pickled", 1, runtime)
    assert isinstance(model.runtime, OnnxRuntime)
    (answer,) = await model.runtime.predict([[2.5]])
    assert answer.prediction == 2.5


async def test_a_deployment_by_bentoml_stays_with_it(loader: ModelLoader, registry: FakeRegistry) -> None:
    """What was deployed before the version was converted goes on as it was, and nothing is downloaded for it."""
    model = await loader.load("pickled", 1, BENTOML)
    assert isinstance(model.runtime, BentomlRuntime)
    assert registry.downloads == 0


@pytest.mark.parametrize("damage", ["gone", "no graph", "not converted"])
async def test_without_a_graph_that_works_bentoml_serves(
    loader: ModelLoader, registry: FakeRegistry, tmp_path: Path, damage: str
) -> None:
    """A graph that is gone or broken is no reason not to answer: the version itself is still there."""
    match damage:
        case "gone":
            registry.graphs.clear()
        case "no graph":
            (tmp_path / "graph" / "model.onnx").write_bytes(b"\x80\x04N.")
        case "not converted":
            registry.versions["pickled", 1].ClearField("onnx_conversion")

    model = await loader.load("pickled", 1, ONNX)

    assert isinstance(model.runtime, BentomlRuntime)


async def test_an_onnx_model_without_its_graph_is_told(loader: ModelLoader, registry: FakeRegistry) -> None:
    """There is nothing else that could serve it."""
    registry.files.clear()
    with pytest.raises(PlatformError) as caught:
        await loader.load("native", 1, ONNX)
    assert caught.value.reason_name == "MODEL_ARTIFACT_MISSING"
