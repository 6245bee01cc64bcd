"""The parameters of a request: params of the model. No extension of the protocol is supported; a request for one is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ml_platform_server.errors import invalid
from ml_platform_server.open_inference import Message

# What MLServer's clients say of their tensors, where it is what a tensor is here anyway.
CONTENT_TYPE = "content_type"
CONTENT_TYPES = ("np", "pd", "str")


def params_of(request: Message, known: Collection[str]) -> dict[str, object]:
    """The params of the model that a request sets.

    Args:
        request: a ModelInferRequest.
        known: the names of the model's params.

    Raises:
        PlatformError: INVALID_FIELDS for a parameter that neither the model nor this server knows.
    """
    params: dict[str, object] = {}
    if request.parameters:
        params = {name: _plain(request.parameters[name]) for name in known if name in request.parameters}
        _check({name: value for name, value in request.parameters.items() if name not in params}, "parameters")
    for at, tensor in enumerate(request.inputs):
        if tensor.parameters:
            _check(tensor.parameters, f"inputs[{at}].parameters")
    for at, wanted in enumerate(request.outputs):
        if wanted.parameters:
            _check(wanted.parameters, f"outputs[{at}].parameters")
    return params


def _plain(parameter: Message) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _check(parameters: Mapping[str, Message], where: str) -> None:
    for name in sorted(parameters):
        if name != CONTENT_TYPE:
            raise invalid(f"{where}.{name[:100]}", "is not supported; leave it out")
        if parameters[name].string_param not in CONTENT_TYPES:
            raise invalid(f"{where}.{CONTENT_TYPE}", f"must be one of {', '.join(CONTENT_TYPES)}")
