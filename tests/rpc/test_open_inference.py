"""The Open Inference Protocol from outside: what its clients send and see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from onnx import TensorProto

from ml_platform.v1 import features_pb2
from ml_platform_server import open_inference as oip
from ml_platform_server import scopes
from ml_platform_server.method import ContractError, methods_of
from ml_platform_server.serving.open_inference.infer import infer
from tests.support.errors import rich_error
from tests.support.inference import Tensor, classifier_graph, deploy, echo_graph, numbers, raw_request, typed_request
from tests.support.inference import call_inference as call
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, STAGING, column, save_onnx


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(House(tmp_path)) as running_house:
        yield running_house


async def refused(house: House, request: Any, method: str = "ModelInfer") -> tuple[str, str, str]:
    """The code, reason and message of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(house, method, request)
    error = rich_error(caught.value)
    return error.code, error.reason, error.message


def deploy_pair(house: House) -> None:
    """Deploy a model of two numbers, one of which a feature supplies, that gives both back."""
    types = {"amount": TensorProto.DOUBLE, "total": TensorProto.DOUBLE}
    deploy(house, echo_graph(types), [column("amount"), column("total")], ["users:total"])


async def test_anyone_may_ask_whether_the_server_lives(house: House) -> None:
    """ServerLive and ServerReady answer strangers too, as a health probe is one."""
    live = await call(house, "ServerLive", oip.message("ServerLiveRequest")(), metadata=())
    ready = await call(house, "ServerReady", oip.message("ServerReadyRequest")(), metadata=())
    assert (live.live, ready.ready) == (True, True)


async def test_the_server_is_ready_while_its_health_is_good(house: House) -> None:
    """ServerReady says what the service's health says; ServerLive only that the server answers."""
    house.healthy = False
    live = await call(house, "ServerLive", oip.message("ServerLiveRequest")(), metadata=())
    ready = await call(house, "ServerReady", oip.message("ServerReadyRequest")(), metadata=())
    assert (live.live, ready.ready) == (True, False)


async def test_a_version_by_its_number_answers_from_memory(house: House) -> None:
    """A loaded version asks neither the store nor the registry, whichever environment it answers in."""
    files = save_onnx(house.folder / "model", echo_graph({"amount": TensorProto.DOUBLE}))
    house.registry.add("m", 3, [column("amount")], files)
    house.deployments.activate("m", 3, STAGING)
    request = raw_request("m", [("amount", "FP64", np.array([2.5]))], model_version="3")
    await call(house, "ModelInfer", request)

    house.registry.down = house.deployments.down = True
    answer = await call(house, "ModelInfer", request)

    assert (answer.model_version, numbers(answer)["amount_out"][1].tolist()) == ("3", [2.5])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda request: request.parameters["sequence_id"], "parameters.sequence_id"),
        (lambda request: request.parameters["priority"], "parameters.priority"),
        (lambda request: request.inputs[0].parameters["shared_memory_region"], "inputs[0].parameters.shared_memory_region"),
        (lambda request: request.outputs[0].parameters["classification"], "outputs[0].parameters.classification"),
        (lambda request: request.inputs[0].parameters["content_type"], "inputs[0].parameters.content_type"),
    ],
)
async def test_unknown_parameters_are_refused(house: House, change: Any, field: str) -> None:
    """What the server cannot do is refused with the parameter's name; MLServer's word for what a tensor is anyway is not."""
    deploy(house, echo_graph({"amount": TensorProto.DOUBLE}), [column("amount")])
    request = raw_request("m", [("amount", "FP64", np.array([2.5]))], outputs=["amount_out"])
    for parameters in (request.parameters, request.inputs[0].parameters, request.outputs[0].parameters):
        parameters["content_type"].string_param = "np"
    assert numbers(await call(house, "ModelInfer", request))["amount_out"][1].tolist() == [2.5]

    change(request).string_param = "x"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(house, "ModelInfer", request)

    error = rich_error(caught.value)
    assert (*error.brief, error.fields) == ("INVALID_ARGUMENT", "INVALID_FIELDS", (field,))


@pytest.mark.parametrize("make", [raw_request, typed_request])
async def test_no_rows_give_no_rows(house: House, make: Any) -> None:
    """A request without rows, as tensors or as one matrix, gets its outputs in their types, without rows."""
    deploy(house, classifier_graph(), [column("a"), column("b")])
    for tensors in ([("input", "FP32", np.empty((0, 2)))], [("a", "FP64", np.empty(0)), ("b", "FP64", np.empty((0, 1)))]):
        found = numbers(await call(house, "ModelInfer", make("m", tensors)))
        assert {name: (kind, array.shape) for name, (kind, array) in found.items()} == {
            "label": ("INT64", (0,)),
            "probabilities": ("FP32", (0, 2)),
        }


async def test_empty_contents_beside_raw_contents_are_as_not_set(house: House) -> None:
    """Some clients set the message and leave it empty."""
    deploy(house, echo_graph({"amount": TensorProto.DOUBLE}), [column("amount")])
    request = raw_request("m", [("amount", "FP64", np.array([2.5]))])
    request.inputs[0].contents.SetInParent()
    assert numbers(await call(house, "ModelInfer", request))["amount_out"][1].tolist() == [2.5]


@pytest.mark.parametrize("method", ["ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"])
async def test_everything_else_needs_a_key(house: House, method: str) -> None:
    """Without a key the rest is refused; with one that lacks the scope, all that is about models is."""
    request = oip.message(f"{method}Request")()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(house, method, request, metadata=())
    assert rich_error(caught.value).brief == ("UNAUTHENTICATED", "CREDENTIALS_MISSING")
    key, _ = await house.frame.keys.create("other", scopes.parse(["models:read"]))
    metadata = (("authorization", f"Bearer {key}"),)
    if method == "ServerMetadata":
        assert (await call(house, method, request, metadata=metadata)).name == "ml-platform"
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(house, method, request, metadata=metadata)
    assert rich_error(caught.value).brief == ("PERMISSION_DENIED", "SCOPE_MISSING")


def test_a_method_without_a_scope_refuses_to_start() -> None:
    """The protocol's file declares no scopes, so a method that the service's table leaves out is nobody's."""
    with pytest.raises(ContractError, match="declares no scope"):
        methods_of(oip.SERVICE)


async def test_the_version_names_a_deployment(house: House) -> None:
    """No version means production; "staging" and the number of a deployed version are understood, others refused."""
    deploy_pair(house)
    house.registry.add("m", 2, [column("amount"), column("total")], house.folder / "model")
    house.deployments.activate("m", 2, STAGING)
    request = oip.message("ModelMetadataRequest")
    versions = {
        version: list((await call(house, "ModelMetadata", request(name="m", version=version))).versions)
        for version in ("", "production", "staging", "1", "2")
    }
    assert versions == {"": ["1"], "production": ["1"], "staging": ["2"], "1": ["1"], "2": ["2"]}
    code, reason, message = await refused(house, request(name="m", version="7"), "ModelMetadata")
    assert (code, reason) == ("FAILED_PRECONDITION", "MODEL_NOT_DEPLOYED")
    assert "deployed are 1, 2" in message


async def test_a_model_in_staging_alone_is_told_how_to_be_named(house: House) -> None:
    """Without a version, a model that is only deployed to staging is not found, and the error says how to ask for it."""
    house.registry.add("m", 1, [column("amount")], house.folder)
    house.deployments.activate("m", 1, STAGING)
    code, reason, message = await refused(house, oip.message("ModelMetadataRequest")(name="m"), "ModelMetadata")
    assert (code, reason) == ("FAILED_PRECONDITION", "MODEL_NOT_DEPLOYED")
    assert '"staging"' in message


async def test_a_model_is_ready_once_it_answers(house: House) -> None:
    """ModelReady is true for a deployed model and false for one that nobody knows."""
    deploy_pair(house)
    request = oip.message("ModelReadyRequest")
    assert (await call(house, "ModelReady", request(name="m"))).ready
    assert not (await call(house, "ModelReady", request(name="other"))).ready


async def test_metadata_tells_columns_outputs_and_what_features_supply(house: House) -> None:
    """ModelMetadata lists the columns with their types, the outputs, and the inputs that join keys stand in for."""
    deploy_pair(house)
    answer = await call(house, "ModelMetadata", oip.message("ModelMetadataRequest")(name="m"))
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.inputs] == [
        ("amount", "FP64", [-1, 1]),
        ("total", "FP64", [-1, 1]),
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("amount_out", "FP64", [-1]),
        ("total_out", "FP64", [-1]),
    ]
    assert answer.platform == "onnx"
    told = {name: value.string_param for name, value in answer.parameters.items()}
    assert told == {"deployment_id": "dep-1", "features": "total", "join_keys": "user_id"}


@pytest.mark.parametrize("make", [raw_request, typed_request])
async def test_tensors_of_every_kind_come_back_as_they_went(house: House, make: Any) -> None:
    """Each datatype travels raw and typed, as [N] and as [N, 1], and the answer comes in the form of the request."""
    types = {
        "d": TensorProto.DOUBLE,
        "f": TensorProto.FLOAT,
        "l": TensorProto.INT64,
        "b": TensorProto.BOOL,
        "s": TensorProto.STRING,
    }
    columns = {"d": "double", "f": "float", "l": "long", "b": "boolean", "s": "string"}
    deploy(house, echo_graph(types), [column(name, kind) for name, kind in columns.items()])
    sent: list[Tensor] = [
        ("d", "FP64", np.array([1.5, -2.5, 1e300])),
        ("f", "FP32", np.array([[1.5], [2.5], [np.nan]], np.float32)),
        ("l", "INT64", np.array([1, -(2**62), 3])),
        ("b", "BOOL", np.array([[True], [False], [True]])),
        ("s", "BYTES", np.array(["a", "", "ü" * 300], np.object_)),
    ]
    answer = await call(house, "ModelInfer", make("m", sent, id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "mine")
    assert answer.parameters["deployment_id"].string_param == "dep-1"
    assert answer.parameters["prediction_id"].string_param
    assert bool(answer.raw_output_contents) is (make is raw_request)
    for name, datatype, array in sent:
        kind, told = numbers(answer)[f"{name}_out"]
        assert kind == datatype
        assert told.shape == (3,)
        np.testing.assert_array_equal(told, array.reshape(3))


@pytest.mark.parametrize("name", ["input", "x"])
@pytest.mark.parametrize("dtype", ["FP32", "FP64"])
async def test_a_table_of_numbers_may_come_as_one_matrix(house: House, name: str, dtype: str) -> None:
    """A model of several columns takes them side by side, under the graph's name or "input"."""
    deploy(house, classifier_graph(), [column("a"), column("b")])
    matrix = np.array([[0.5, 0.1], [-3.0, -2.0]], {"FP32": np.float32, "FP64": np.float64}[dtype])
    one = numbers(await call(house, "ModelInfer", raw_request("m", [(name, dtype, matrix)])))
    parts: list[Tensor] = [("a", dtype, matrix[:, 0]), ("b", dtype, matrix[:, 1])]
    other = numbers(await call(house, "ModelInfer", raw_request("m", parts)))
    assert [(kind, array.tolist()) for kind, array in one.values()] == [(kind, array.tolist()) for kind, array in other.values()]
    assert one["probabilities"][1].shape == (2, 2)
    assert one["label"][1].tolist() == [1, 0]


async def test_a_model_of_one_tensor_takes_it_whole(house: House) -> None:
    """A tensor model takes its tensor as it is."""
    deploy(house, classifier_graph(), [column("x", "tensor(float32)", shape=[-1, 2])])
    matrix = np.array([[0.5, 0.1], [-3.0, -2.0]], np.float32)
    answer = numbers(await call(house, "ModelInfer", raw_request("m", [("x", "FP32", matrix)])))
    assert answer["label"][1].tolist() == [1, 0]
    code, reason, message = await refused(house, raw_request("m", [("x", "FP32", np.zeros((2, 3), np.float32))]))
    assert (code, reason, message.startswith("Row 0: ")) == ("INVALID_ARGUMENT", "INPUT_INVALID", True)


async def test_features_are_looked_up_by_join_keys_among_the_inputs(house: House) -> None:
    """A column that is not sent comes from the feature store, by the key sent as BYTES."""
    deploy_pair(house)
    keys = np.array(["u1", "u1"], np.object_)
    answer = await call(
        house, "ModelInfer", raw_request("m", [("amount", "FP64", np.array([1.0, 2.0])), ("user_id", "BYTES", keys)])
    )
    assert numbers(answer)["total_out"][1].tolist() == [10.0, 10.0]


@pytest.mark.parametrize("rows", [1, 2])
async def test_a_double_that_may_stand_for_its_neighbour_is_no_key(house: House, rows: int) -> None:
    """From 2^53 on; the same key as an integer is one."""
    house.features.key_type = features_pb2.VALUE_TYPE_INT64
    house.features.stored["users", (2**53,)] = {"total": 10.0}
    deploy_pair(house)
    amount: Tensor = ("amount", "FP64", np.arange(rows) * 1.0)
    keys = np.array([2**53] * rows)
    code, reason, message = await refused(house, raw_request("m", [amount, ("user_id", "FP64", keys.astype(np.float64))]))
    assert (code, reason, "send it as text" in message) == ("INVALID_ARGUMENT", "INPUT_INVALID", True)
    answer = await call(house, "ModelInfer", raw_request("m", [amount, ("user_id", "INT64", keys)]))
    assert numbers(answer)["total_out"][1].tolist() == [10.0] * rows


async def test_a_row_that_cannot_be_predicted_is_named(house: House) -> None:
    """A bad row fails the call, which says which row it is and why."""
    deploy_pair(house)
    keys = np.array(["u1", "nobody"], np.object_)
    code, reason, message = await refused(
        house, raw_request("m", [("amount", "FP64", np.array([1.0, 2.0])), ("user_id", "BYTES", keys)])
    )
    assert (code, reason, message.startswith("Row 1: The feature store has no value")) == (
        "FAILED_PRECONDITION",
        "FEATURE_MISSING",
        True,
    )


async def test_a_row_alone_is_answered_as_it_is_among_others(house: House) -> None:
    """One row gets the datatypes and values that it gets as the first of two, NaN too."""
    deploy(house, classifier_graph(), [column("a"), column("b")])
    for first in (0.5, np.nan):
        pair: list[Tensor] = [("a", "FP64", np.array([first, 1.0])), ("b", "FP64", np.array([0.1, 1.0]))]
        two = numbers(await call(house, "ModelInfer", raw_request("m", pair)))
        alone: list[Tensor] = [(name, datatype, array[:1]) for name, datatype, array in pair]
        one = numbers(await call(house, "ModelInfer", raw_request("m", alone)))
        for name, (datatype, array) in two.items():
            assert one[name][0] == datatype
            np.testing.assert_array_equal(one[name][1], array[:1])


async def test_single_rows_that_come_together_share_their_work(house: House) -> None:
    """Many callers with one row each cost fewer reads of the feature store than there are callers."""
    deploy_pair(house)
    keys = np.array(["u1"], np.object_)
    requests = [raw_request("m", [("amount", "FP64", np.array([at * 1.0])), ("user_id", "BYTES", keys)]) for at in range(64)]
    served = await house.engine.served("m", PRODUCTION)
    answers = await asyncio.gather(*(infer(served, request, {}) for request in requests))
    assert [numbers(answer)["amount_out"][1].tolist() for answer in answers] == [[at * 1.0] for at in range(64)]
    assert len(house.features.reads) < 8


@pytest.mark.parametrize("rows", [1, 2])
async def test_a_value_that_does_not_fit_is_told_with_its_row(house: House, rows: int) -> None:
    """A row alone is refused as a row among others is."""
    deploy_pair(house)
    words = np.array(["x"] * rows, np.object_)
    code, reason, message = await refused(
        house, raw_request("m", [("amount", "BYTES", words), ("total", "FP64", np.zeros(rows))])
    )
    assert (code, reason, "Row 0: " in message and "amount" in message) == ("INVALID_ARGUMENT", "INPUT_INVALID", True)


async def test_only_the_outputs_asked_for_are_told(house: House) -> None:
    """Outputs that are named come in that order, alone; one that there is not is refused."""
    deploy_pair(house)
    pair: Sequence[Tensor] = [("amount", "FP64", np.array([1.0])), ("total", "FP64", np.array([2.0]))]
    answer = await call(house, "ModelInfer", raw_request("m", pair, outputs=["total_out"]))
    assert [output.name for output in answer.outputs] == ["total_out"]
    assert len(answer.raw_output_contents) == 1
    assert (await refused(house, raw_request("m", pair, outputs=["nothing"])))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELDS")


def spoilt() -> dict[str, Any]:
    """Requests that are not what they say."""
    pair: list[Tensor] = [("amount", "FP64", np.array([1.0])), ("total", "FP64", np.array([2.0]))]
    made = {
        name: raw_request("m", pair)
        for name in ("datatype", "shape", "rows", "short", "count", "both", "none", "unknown", "twice")
    }
    made["datatype"].inputs[0].datatype = "FP65"
    made["shape"].inputs[0].shape[:] = [0]
    made["rows"].inputs[0].shape[:] = [2]
    made["rows"].raw_input_contents[0] = bytes(16)
    made["short"].raw_input_contents[0] = bytes(7)
    made["count"].raw_input_contents.append(b"")
    made["both"].inputs[0].contents.fp64_contents.append(1)
    del made["none"].inputs[:], made["none"].raw_input_contents[:]
    made["unknown"].inputs[0].name = "colour"
    made["twice"].inputs[0].name = "total"
    text = raw_request("m", [("amount", "BYTES", np.array(["abc"], np.object_)), pair[1]])
    made["cut"] = oip.ModelInferRequest.FromString(text.SerializeToString())
    made["cut"].raw_input_contents[0] = b"\x09\x00\x00\x00abc"
    made["utf8"] = oip.ModelInferRequest.FromString(text.SerializeToString())
    made["utf8"].raw_input_contents[0] = b"\x01\x00\x00\x00\xff"
    for name in ("field", "large", "half"):
        made[name] = typed_request("m", pair)
    made["field"].inputs[0].datatype = "FP32"
    made["large"].inputs[0].datatype = "INT8"
    del made["large"].inputs[0].contents.fp64_contents[:]
    made["large"].inputs[0].contents.int_contents.append(300)
    made["half"].inputs[0].datatype = "FP16"
    return made


@pytest.mark.parametrize("name", list(spoilt()))
async def test_a_request_that_is_not_what_it_says_is_refused(house: House, name: str) -> None:
    """Wrong datatypes, shapes, lengths, names and contents are the caller's fault, and told."""
    deploy_pair(house)
    assert (await refused(house, spoilt()[name]))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELDS")


async def test_reflection_lists_the_protocol_too(house: House) -> None:
    """Reflection finds the service and its file."""
    stub = reflection_pb2_grpc.ServerReflectionStub(house.frame.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
    ]
    listed, found = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    assert "inference.GRPCInferenceService" in {service.name for service in listed.list_services_response.service}
    file = FileDescriptorProto.FromString(found.file_descriptor_response.file_descriptor_proto[0])
    assert file.package == "inference"
