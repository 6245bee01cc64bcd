"""The inference params of a model's signature, which a request may set in addition to the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_platform.v1 import models_pb2
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.inputs.rows import unsuitable
from ml_platform_server.serving.inputs.signature import MOST_NAMED, CoercionError, conversion
from ml_platform_server.similar_names import did_you_mean
from ml_platform_server.struct_values import json_kind
from ml_platform_server.visible import what_is_wrong

REMEDY = "Send params of the model's signature, of their types (ModelService.GetModelVersion tells them)."


def converted(specs: Sequence[models_pb2.ParamSpec], sent: Mapping[str, object]) -> dict[str, object]:
    """Coerce params to the types of the signature.

    Raises:
        PlatformError: INPUT_INVALID, with a violation for every param that is unknown or of another type.
    """
    known = {spec.name: spec for spec in specs}
    found: dict[str, object] = {}
    violations: list[Violation] = []
    for name, value in sent.items():
        try:
            found[name] = _value(known.get(name), name, value, list(known))
        except CoercionError as error:
            violations.append(Violation(f"params.{name[:100]}", str(error)))
            if len(violations) > MOST_NAMED:
                break
    if violations:
        raise unsuitable(violations, remedy=REMEDY)
    return found


def no_params(model_name: str) -> PlatformError:
    """The error for params in a request to a version that runs as an ONNX graph."""
    return unsuitable([Violation("params", f"{model_name} is run as an ONNX graph, which takes none")], remedy="Leave them out.")


def _value(spec: models_pb2.ParamSpec | None, name: str, value: object, names: Sequence[str]) -> object:
    if spec is None:
        if wrong := what_is_wrong(name):
            raise CoercionError(f"is no param of the model: its name {wrong}")
        takes = f"the signature has {', '.join(names[:20])}" if names else "the signature has none"
        close = did_you_mean(names, [name])
        raise CoercionError(f"is no param of the model; {takes}{'.' if close else ''}{close}")
    convert = conversion(spec.type)
    if value is None:
        raise CoercionError("must not be null; left out, it has its default")
    if not spec.list:
        return convert(value)
    if not isinstance(value, list):
        raise CoercionError(f"expected a list, got {json_kind(value)}")
    return [convert(item) for item in value]
