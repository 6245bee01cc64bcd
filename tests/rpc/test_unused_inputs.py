"""A misspelt input, on every path: the response names what nothing used, and an error what may have been meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from ml_platform import AsyncMLPlatform, MLPlatformError
from ml_platform.resources.predictions import Prediction
from tests.support.errors import rich_error
from tests.support.inference import call_inference, raw_request
from tests.support.predictions import House, running

SENT = {"amount": 1.0, "user_id": "u1", "totall": 99.0}
LACKING = {"amuont": 1.0, "usr_id": "u1"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(House(tmp_path)) as house:
        house.deploy()
        yield house


@pytest.fixture
async def client(house: House) -> AsyncIterator[AsyncMLPlatform]:
    async with AsyncMLPlatform(f"http://127.0.0.1:{house.frame.server.port}", house.frame.key) as client:
        yield client


async def _answers(client: AsyncMLPlatform, inputs: dict[str, Any]) -> dict[str, Any]:
    """The answer or the error on each path."""
    found: dict[str, Any] = {}
    try:
        found["predict"] = await client.predict("m", inputs)
    except MLPlatformError as error:
        found["predict"] = error
    (found["rows"],) = await client.predict_many("m", [inputs], on_error="return")
    (found["frame"],) = await client.predict_many("m", pd.DataFrame([inputs]), on_error="return")
    async for answer in client.predict_stream("m", [inputs]):
        found["stream"] = answer.prediction or answer.error
    return found


async def test_the_response_names_unused_inputs(client: AsyncMLPlatform) -> None:
    """A misspelt override is named in every form of response; join keys and columns are not."""
    for path, answer in (await _answers(client, SENT)).items():
        assert isinstance(answer, Prediction), path
        assert (path, answer.prediction, answer.unused_inputs) == (path, 11.0, ("totall",))
    for answer in (await _answers(client, {"amount": 1.0, "user_id": "u1"})).values():
        assert answer.unused_inputs == ()


async def test_a_missing_input_is_told_with_what_was_sent_in_its_stead(client: AsyncMLPlatform) -> None:
    """The error for a missing column or join key names the input that resembles it."""
    for path, error in (await _answers(client, LACKING)).items():
        assert error.reason == "INPUT_MISSING", path
        assert "Did you mean amount: you sent amuont?" in error.message, path
        assert "Did you mean user_id: you sent usr_id?" in error.message, path


async def test_an_unknown_tensor_is_refused_with_what_may_have_been_meant(house: House) -> None:
    """Open Inference refuses an unknown input, and says which of the model's it resembles."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call_inference(house, "ModelInfer", raw_request("m", [("amuont", "FP64", np.array([1.0]))]))

    message = rich_error(caught.value).message
    assert "Did you mean amount: you sent amuont?" in message
    assert "?." not in message


async def test_a_join_key_is_no_unknown_tensor_while_the_feature_store_is_down(house: House) -> None:
    """Without the feature store nobody knows the join keys, so the error is the store's, not the caller's."""
    house.features.down = True
    house.registry.add(
        "other", 1, [*house.registry.versions["m", 1].signature.inputs], house.folder / "m-1", feature_refs=["users:total"]
    )
    house.deployments.activate("other", 1)
    tensors = [("amount", "FP64", np.array([1.0])), ("user_id", "BYTES", np.array(["u1"], np.object_))]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call_inference(house, "ModelInfer", raw_request("other", tensors))

    assert rich_error(caught.value).brief == ("UNAVAILABLE", "BACKEND_UNAVAILABLE")
