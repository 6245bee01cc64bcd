"""The parameters of a request. No extension of the protocol is supported, and a request for one is refused, not ignored."""

from __future__ import annotations

from collections.abc import Mapping

from ml_platform_server.errors import invalid
from ml_platform_server.open_inference import Message

# What MLServer's clients say of their tensors, where it is what a tensor is here anyway.
CONTENT_TYPE = "content_type"
CONTENT_TYPES = ("np", "pd", "str")


def refuse_unknown(request: Message) -> None:
    """Raise INVALID_FIELDS for a parameter that this server does not know."""
    if request.parameters:
        _check(request.parameters, "parameters")
    for at, tensor in enumerate(request.inputs):
        if tensor.parameters:
            _check(tensor.parameters, f"inputs[{at}].parameters")
    for at, wanted in enumerate(request.outputs):
        if wanted.parameters:
            _check(wanted.parameters, f"outputs[{at}].parameters")


def _check(parameters: Mapping[str, Message], where: str) -> None:
    for name in sorted(parameters):
        if name != CONTENT_TYPE:
            raise invalid(f"{where}.{name[:100]}", "is not supported; leave it out")
        if parameters[name].string_param not in CONTENT_TYPES:
            raise invalid(f"{where}.{CONTENT_TYPE}", f"must be one of {', '.join(CONTENT_TYPES)}")
