"""Registered models and their versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ml_platform.records import Record
from ml_platform.v1 import models_pb2
from ml_platform.values import enum_name, from_value, to_datetime


@dataclass(frozen=True, slots=True, repr=False)
class RegisteredModel(Record):
    """A name under which versions are kept.

    `version` is the one that matters most now: the version in production, else the newest one in another environment, else the
    newest; `stage` is where that version stands: "None", "Staging", "Production" or "Archived". `active_versions` holds the
    version that is active in each environment. `url` is the model's page in MLflow.
    """

    name: str
    version: int
    stage: str
    description: str
    latest_version: int
    latest_stage: str
    active_versions: dict[str, int]
    create_time: datetime | None
    update_time: datetime | None
    tags: dict[str, str]
    url: str = ""

    @property
    def staging_version(self) -> int:
        """The version that is active in staging; 0 if none is."""
        return self.active_versions.get("staging", 0)

    @property
    def production_version(self) -> int:
        """The version that is active in production; 0 if none is."""
        return self.active_versions.get("production", 0)


@dataclass(frozen=True, slots=True, repr=False)
class Column(Record):
    """One input or output of a model. `type` is MLflow's word for it; `shape` is empty unless it is a tensor."""

    name: str
    type: str
    required: bool
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Param(Record):
    """One param of a model. `type` is MLflow's word for it; `is_list` says whether it is a list of values of that type."""

    name: str
    type: str
    is_list: bool
    default: Any


@dataclass(frozen=True, slots=True, repr=False)
class Signature(Record):
    """What a model takes and what it gives, in its own order, and the params that a request may set."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    params: tuple[Param, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class OnnxConversion(Record):
    """What became of the attempt to convert a version to ONNX, which its first deployment makes.

    `state` is "converted" (the platform itself runs its graph), "not_convertible", "output_mismatch" (the graph answers
    otherwise, so it is not used), "native" (it is an ONNX model) or "undecided" (the attempt took too long or crashed; the next
    deployment tries again). `largest_difference` is None if nothing was compared. Of `rows_compared`, `rows_in_range` lie within
    the ranges of the input example's columns.
    """

    state: str
    message: str
    largest_difference: float | None
    rows_compared: int
    model_uri: str
    rows_in_range: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class ModelVersion(Record):
    """One model that was trained, kept and numbered.

    `status` is "registered". `signature` and `flavors` are there for a version that was registered or looked up by itself, not in
    lists; `signature` is None if the model was logged without one. `onnx_conversion` is None until the version was deployed once.
    `doubt` is what the checks of its last deployment could not find out; empty if nothing. `url` is its page in MLflow.
    """

    name: str
    version: int
    status: str
    stage: str
    description: str
    run_id: str
    job_id: str
    create_time: datetime | None
    signature: Signature | None
    flavors: tuple[str, ...]
    feature_service: str
    feature_refs: tuple[str, ...]
    aliases: tuple[str, ...]
    tags: dict[str, str]
    onnx_conversion: OnnxConversion | None
    doubt: str = ""
    url: str = ""


def read_model(message: models_pb2.RegisteredModel) -> RegisteredModel:
    """Make a registered model of its message."""
    version, stage = _foremost(message)
    return RegisteredModel(
        name=message.name,
        version=version,
        stage=stage,
        description=message.description,
        latest_version=message.latest_version,
        latest_stage=_stage(message.latest_stage),
        active_versions=dict(message.active_versions),
        create_time=to_datetime(message, "create_time"),
        update_time=to_datetime(message, "update_time"),
        tags=dict(message.tags),
        url=message.url,
    )


def read_version(message: models_pb2.ModelVersion) -> ModelVersion:
    """Make a model version of its message."""
    return ModelVersion(
        name=message.model_name,
        version=message.version,
        status="registered",
        stage=_stage(message.stage),
        description=message.description,
        run_id=message.run_id,
        job_id=message.job_id,
        create_time=to_datetime(message, "create_time"),
        signature=_signature(message.signature) if message.HasField("signature") else None,
        flavors=tuple(message.flavors),
        feature_service=message.feature_service,
        feature_refs=tuple(message.feature_refs),
        aliases=tuple(message.aliases),
        tags=dict(message.tags),
        onnx_conversion=_onnx_conversion(message.onnx_conversion) if message.HasField("onnx_conversion") else None,
        doubt=message.doubt,
        url=message.url,
    )


def _foremost(message: models_pb2.RegisteredModel) -> tuple[int, str]:
    active = message.active_versions
    if "production" in active:
        return active["production"], "Production"
    if active:
        return max(active.values()), "Staging"
    return message.latest_version, _stage(message.latest_stage)


def _stage(number: models_pb2.ModelStage.ValueType) -> str:
    # A version whose stage the server did not tell was never deployed, as far as anybody knows.
    return "None" if not number else enum_name(models_pb2.ModelStage.Name, number, "MODEL_STAGE_").capitalize()


def _onnx_conversion(message: models_pb2.OnnxConversion) -> OnnxConversion:
    return OnnxConversion(
        state=enum_name(models_pb2.OnnxConversionState.Name, message.state, "ONNX_CONVERSION_STATE_"),
        message=message.message,
        largest_difference=message.largest_difference if message.HasField("largest_difference") else None,
        rows_compared=message.rows_compared,
        rows_in_range=message.rows_in_range,
        model_uri=message.model_uri,
    )


def _signature(message: models_pb2.ModelSignature) -> Signature:
    return Signature(
        inputs=tuple(map(_column, message.inputs)),
        outputs=tuple(map(_column, message.outputs)),
        params=tuple(map(_param, message.params)),
    )


def _param(message: models_pb2.ParamSpec) -> Param:
    return Param(name=message.name, type=message.type, is_list=message.list, default=from_value(message.default_value))


def _column(message: models_pb2.ColumnSpec) -> Column:
    return Column(name=message.name, type=message.type, required=message.required, shape=tuple(message.shape))
