"""What reflection tells of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from tests.support.echo import ECHO, EchoService
from tests.support.frame import Frame, running_frame

V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
SYMBOLS = (
    "ml_platform.v1.PredictionService",
    "ml_platform.v1.PredictionService.Predict",
    "ml_platform.v1.PredictRequest",
    "ml_platform.v1.JobState",
    "ml_platform.v1.scope",
    "inference.GRPCInferenceService.ModelInfer",
    "inference.ModelInferRequest.InferInputTensor",
    "grpc.health.v1.Health",
    V1,
    f"{V1ALPHA}.ServerReflectionInfo",
)


@pytest.fixture
async def frame(tmp_path: Path) -> AsyncIterator[Frame]:
    async with running_frame(tmp_path, [(ECHO, EchoService())]) as running:
        yield running


async def ask(frame, service, **question):
    """The response to one question."""
    method = frame.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = method(iter([reflection_pb2.ServerReflectionRequest(**question)]))
    return await call.read()


async def files(frame, service, symbol):
    """The file of a symbol and those that it imports, by name, the file first."""
    response = await ask(frame, service, file_containing_symbol=symbol)
    found = [FileDescriptorProto.FromString(each) for each in response.file_descriptor_response.file_descriptor_proto]
    return {file.name: file for file in found}


@pytest.mark.parametrize("service", [V1, V1ALPHA])
async def test_both_versions_answer_the_same(frame, service):
    """Clients ask for v1 first, and older ones for v1alpha alone."""
    listed = {each.name for each in (await ask(frame, service, list_services="")).list_services_response.service}
    assert {V1, V1ALPHA, "grpc.health.v1.Health"} <= listed
    for symbol in SYMBOLS:
        found = await files(frame, service, symbol)
        imported = {name for file in found.values() for name in file.dependency}
        assert imported <= found.keys(), symbol


async def test_the_contract_comes_with_its_comments_and_json_names(frame):
    """A person who describes a method reads what it does."""
    file = next(iter((await files(frame, V1, "ml_platform.v1.PredictionService.Predict")).values()))
    comments = " ".join(location.leading_comments for location in file.source_code_info.location)
    assert "Predict asks the version deployed to an environment for one prediction." in comments
    request = next(message for message in file.message_type if message.name == "PredictRequest")
    assert request.field[0].json_name == "modelName"


async def test_a_file_is_found_by_its_name_and_what_is_not_there_is_not_found(frame):
    """As the protocol has it: an error in a response, and the stream goes on."""
    response = await ask(frame, V1, file_by_filename="ml_platform/v1/jobs.proto")
    assert response.HasField("file_descriptor_response")
    for question in ({"file_by_filename": "nothing.proto"}, {"file_containing_symbol": "ml_platform.v1.Nothing"}):
        assert (await ask(frame, V1, **question)).error_response.error_code == 5  # NOT_FOUND
