"""Answers that are not what the contract says, or too large for a message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ml_platform.v1 import errors_pb2, predictions_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.interceptors.response_size import ResponseSize
from ml_platform_server.method import methods_of

PREDICT = methods_of(predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"])[0]
CALL = Call("/a.Service/Method", None)  # type: ignore[arg-type]  # nothing asks for the context
REPLY = predictions_pb2.PredictResponse(prediction_id="x" * 98)  # 100 bytes


@pytest.mark.parametrize("reply", [REPLY, REPLY.SerializeToString()], ids=["message", "bytes"])
async def test_an_answer_passes_if_a_message_can_hold_it(reply):
    """An answer of as many bytes as a message may have passes, and one byte less room gives REPLY_TOO_LARGE."""

    async def answer(request, call):
        return reply

    assert await ResponseSize(largest=100).wrap(PREDICT, answer)(None, CALL) is reply
    with pytest.raises(PlatformError) as raised:
        await ResponseSize(largest=99).wrap(PREDICT, answer)(None, CALL)
    assert raised.value.reason == errors_pb2.ERROR_REASON_REPLY_TOO_LARGE
    assert raised.value.metadata == {"bytes": "100", "limit": "99"}


async def test_an_answer_of_another_type_is_a_fault_of_ours():
    """What a servicer gives back must be its method's response, or bytes."""

    async def answer(request, call):
        return predictions_pb2.PredictRequest()

    with pytest.raises(TypeError, match="PredictRequest"):
        await ResponseSize(largest=100).wrap(PREDICT, answer)(None, CALL)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ((), 60),
        ("99", 99),
        ("100", None),
        ("4000000000", None),
        ("0", 60),
        ("many", 60),
        ("-1", 60),
        ("9" * 5000, 60),
        (b"100", 60),
    ],
)
async def test_an_answer_is_as_large_as_the_client_takes(said, limit):
    """Without a word a client takes what gRPC takes by default; with one it gets more, up to what any message may have."""

    async def answer(request, call):
        return REPLY

    metadata = (("x-max-response-bytes", said),) if said != () else ()
    call = Call("/a.Service/Method", None, metadata=metadata)  # type: ignore[arg-type]  # nothing asks for the context
    handle = ResponseSize(largest=1000, default=60).wrap(PREDICT, answer)
    if limit is None:
        assert await handle(None, call) is REPLY
        return
    with pytest.raises(PlatformError) as raised:
        await handle(None, call)
    assert raised.value.metadata == {"bytes": "100", "limit": str(limit)}


async def test_a_batch_knows_its_limit_before_it_is_answered():
    """So that it stops there; it is the limit that its response is held to."""
    methods = methods_of(predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"])
    batch = next(method for method in methods if method.response_grows)
    limits = []

    async def answer(request, call):
        limits.append(call.response_limit)
        return b""

    for said in ("0", "99", "4000"):
        call = Call("/a.Service/Method", None, metadata=(("x-max-response-bytes", said),))  # type: ignore[arg-type]  # as above
        await ResponseSize(largest=1000, default=60).wrap(batch, answer)(None, call)
    assert (batch.name, limits) == ("BatchPredict", [60, 99, 1000])


async def test_tensors_may_be_as_large_as_any_message():
    """Clients of the Open Inference Protocol take large messages without saying so."""

    async def answer(request, call):
        return REPLY

    infer = replace(PREDICT, full_name="/inference.GRPCInferenceService/ModelInfer")
    assert await ResponseSize(largest=100, default=60).wrap(infer, answer)(None, CALL) is REPLY
