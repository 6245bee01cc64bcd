"""A method of the contract: its messages, its kind, the scope it needs, and whether it changes anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ml_platform.v1 import auth_pb2
from ml_platform.v1.auth_pb2 import Scope
from ml_platform_server.call import Call

# Every call passes through functions of this one type, whatever its kind. The request is bytes (an async iterator of them, if the
# client streams) until the validation has turned it into messages. The handler of a method that streams its responses writes them
# itself and returns None; so an interceptor is written once for all four kinds.
Response = Message | bytes | None
Handler = Callable[[Any, Call], Awaitable[Response]]


# In place of a scope: anyone may call, with a key or without. Only for methods that reveal no more than that the server is there.
UNAUTHENTICATED = cast("Scope.ValueType", -1)
# The methods that predict.
_PREDICTING = frozenset({"Predict", "BatchPredict", "StreamPredict", "ModelInfer"})

# Bytes of a request; of each message, if the client streams. What carries rows, columns or tensors takes as much as a message may
# have in this process, one row less, and everything else this much.
_SMALL = 1024 * 1024
_ROW = 2 * 1024 * 1024
_LARGE = 1024 * 1024 * 1024
_LARGEST = {
    "/ml_platform.v1.PredictionService/Predict": _ROW,
    "/ml_platform.v1.PredictionService/StreamPredict": _ROW,
    "/ml_platform.v1.PredictionService/BatchPredict": _LARGE,
    "/ml_platform.v1.FeatureService/PushFeatures": _LARGE,
    "/ml_platform.v1.FeatureService/GetOnlineFeatures": _LARGE,
    "/inference.GRPCInferenceService/ModelInfer": _LARGE,
}


class ContractError(Exception):
    """The contract and the code do not fit together, so the server cannot start."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the contract.

    `mutating`: it takes a request_id and may change something. `data_plane`: it predicts, so it is called thousands of times a
    second, and every step of a call counts.
    """

    full_name: str
    name: str
    scope: Scope.ValueType
    request_class: type[Message]
    response_class: type[Message]
    client_streaming: bool
    server_streaming: bool
    mutating: bool
    data_plane: bool = False

    @property
    def largest_request(self) -> int:
        """Bytes that a request may have."""
        return _LARGEST.get(self.full_name, _SMALL)

    @property
    def hot_path(self) -> bool:
        """Whether the engine gathers the method's calls into batches, and sees to their deadlines."""
        return self.full_name == "/ml_platform.v1.PredictionService/Predict"

    @property
    def response_grows(self) -> bool:
        """Whether the servicer writes the response part by part, and stops at the call's `response_limit`."""
        return self.full_name == "/ml_platform.v1.PredictionService/BatchPredict"


def methods_of(service: ServiceDescriptor, scopes: Mapping[str, Scope.ValueType] = MappingProxyType({})) -> list[Method]:
    """Every method of a service.

    Args:
        service: the service.
        scopes: the scopes of methods, by name, of a service whose own file cannot declare them.

    Raises:
        ContractError: a method declares no scope.
    """
    return [_method(descriptor, scopes) for descriptor in service.methods]


def _method(descriptor: MethodDescriptor, scopes: Mapping[str, Scope.ValueType]) -> Method:
    options = descriptor.GetOptions()
    scope = scopes.get(descriptor.name, options.Extensions[auth_pb2.scope])
    if scope == auth_pb2.SCOPE_UNSPECIFIED:
        raise ContractError(f"{descriptor.full_name} declares no scope, so nobody may call it.")
    changes = options.idempotency_level != MethodOptions.NO_SIDE_EFFECTS
    return Method(
        full_name=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
        name=descriptor.name,
        scope=scope,
        request_class=GetMessageClass(descriptor.input_type),
        response_class=GetMessageClass(descriptor.output_type),
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
        mutating=changes and "request_id" in descriptor.input_type.fields_by_name,
        data_plane=descriptor.name in _PREDICTING,
    )
