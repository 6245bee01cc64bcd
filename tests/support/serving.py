"""Hand-written stand-ins for what surrounds the prediction engine, and small real ONNX models for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import yaml
from google.protobuf import struct_pb2, timestamp_pb2
from onnx import TensorProto, helper

from ml_platform.v1 import deployments_pb2, errors_pb2, features_pb2, models_pb2
from ml_platform_server.backends.feast.online import Cell, CellColumn, JoinKey, OnlinePlan, PlannedFeature
from ml_platform_server.backends.feast.plan import by_column
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.store.tables import DeploymentRow

PRODUCTION = "production"
STAGING = "staging"
ONNX = deployments_pb2.SERVING_RUNTIME_ONNX
EVENT_TIME = 1_700_000_000.0


def error(reason: errors_pb2.ErrorReason.ValueType) -> PlatformError:
    """An error of which only the reason matters."""
    return PlatformError(reason, "It failed.", remedy="None.")


def column(name: str, type_: str = "double", *, required: bool = True, shape: Sequence[int] = ()) -> models_pb2.ColumnSpec:
    """One input of a signature."""
    return models_pb2.ColumnSpec(name=name, type=type_, required=required, shape=shape)


def fields(**inputs: object) -> Mapping[str, struct_pb2.Value]:
    """Inputs as a request brings them."""
    return struct(inputs).fields


def struct(inputs: Mapping[str, object]) -> struct_pb2.Struct:
    """A Struct of these inputs."""
    made = struct_pb2.Struct()
    made.update(inputs)  # type: ignore[arg-type]  # its stub knows no nested mappings
    return made


def sum_graph(width: int, *, scale: float = 1.0) -> onnx.ModelProto:
    """A graph that takes `width` floats side by side and gives `scale` times their sum."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1, axes=[1]),
        helper.make_node("Mul", ["s", "k"], ["total"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("k", TensorProto.FLOAT, [1], [scale])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


def save_onnx(folder: Path, model: onnx.ModelProto) -> Path:
    """A model folder as MLflow's ONNX flavour makes it, as far as the server reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"onnx": {"data": "model.onnx"}, "python_function": {}}}))
    return folder


@dataclass
class FakeRegistry:
    """A model registry that hands out files where they lie, as MLflow does with files on its own machine."""

    versions: dict[tuple[str, int], models_pb2.ModelVersion] = field(default_factory=dict)
    files: dict[tuple[str, int], Path] = field(default_factory=dict)
    graphs: dict[str, Path] = field(default_factory=dict)
    down: bool = False
    downloads: int = 0

    def add(
        self,
        name: str,
        version: int,
        inputs: Sequence[models_pb2.ColumnSpec],
        files: Path | None = None,
        *,
        created: int = 1,
        flavors: Sequence[str] = ("onnx", "python_function"),
        feature_service: str = "",
        feature_refs: Sequence[str] = (),
    ) -> None:
        """Register a version."""
        self.versions[name, version] = models_pb2.ModelVersion(
            model_name=name,
            version=version,
            create_time=timestamp_pb2.Timestamp(seconds=created),
            signature=models_pb2.ModelSignature(inputs=inputs) if inputs else None,
            flavors=flavors,
            feature_service=feature_service,
            feature_refs=feature_refs,
        )
        if files is not None:
            self.files[name, version] = files

    async def get(self, model_name: str) -> models_pb2.RegisteredModel:
        self._check()
        if not any(name == model_name for name, _ in self.versions):
            raise error(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND)
        return models_pb2.RegisteredModel(name=model_name)

    async def get_version(self, model_name: str, version: int) -> models_pb2.ModelVersion:
        self._check()
        if (model_name, version) not in self.versions:
            raise error(errors_pb2.ERROR_REASON_MODEL_VERSION_NOT_FOUND)
        return self.versions[model_name, version]

    async def download(self, model_name: str, version: int, target: Path) -> Path:
        self._check()
        self.downloads += 1
        if (model_name, version) not in self.files:
            raise error(errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING)
        return self.files[model_name, version]

    async def download_graph(self, version: models_pb2.ModelVersion, target: Path) -> Path:
        self._check()
        self.downloads += 1
        if version.onnx_conversion.model_uri not in self.graphs:
            raise error(errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING)
        return self.graphs[version.onnx_conversion.model_uri]

    def convert(self, name: str, version: int, uri: str, files: Path) -> None:
        """Give a version a graph, as its deployment would."""
        self.versions[name, version].onnx_conversion.state = models_pb2.ONNX_CONVERSION_STATE_CONVERTED
        self.versions[name, version].onnx_conversion.model_uri = uri
        self.graphs[uri] = files

    def _check(self) -> None:
        if self.down:
            raise backend_unavailable("MLflow")


@dataclass
class FakeFeatures:
    """A feature store: the views' features and keys, the services, and stored cells by view, key values and feature.

    The values of views in `old` are older than these allow, or of all, if they are `stale`.
    """

    views: dict[str, Sequence[str]] = field(default_factory=dict)
    keys: dict[str, Sequence[str]] = field(default_factory=dict)
    services: dict[str, Sequence[str]] = field(default_factory=dict)
    stored: dict[tuple[str, tuple[object, ...]], dict[str, object]] = field(default_factory=dict)
    key_type: features_pb2.ValueType.ValueType = features_pb2.VALUE_TYPE_STRING
    stale: bool = False
    old: Sequence[str] = ()
    down: bool = False
    attempts: int = 0
    reads: list[tuple[list[str], list[dict[str, object]]]] = field(default_factory=list)

    async def plan(self, *, features: Sequence[str] = (), feature_service: str = "") -> OnlinePlan:
        self._check()
        if feature_service:
            if feature_service not in self.services:
                raise error(errors_pb2.ERROR_REASON_FEATURE_SERVICE_NOT_FOUND)
            features = self.services[feature_service]
        planned = [self._planned(ref) for ref in features]
        keys = dict.fromkeys(key for feature in planned for key in self.keys[feature.view])
        return OnlinePlan(tuple(planned), tuple(JoinKey(key, self.key_type) for key in keys), source=[])

    def _planned(self, ref: str) -> PlannedFeature:
        view, _, name = ref.partition(":")
        if view not in self.views:
            raise error(errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND)
        if name not in self.views[view]:
            raise error(errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND)
        return PlannedFeature(view, name, features_pb2.VALUE_TYPE_DOUBLE, tuple(self.keys[view]))

    async def read(self, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
        self.attempts += 1
        self._check()
        self.reads.append(([f"{feature.view}:{feature.name}" for feature in plan.features], [dict(row) for row in rows]))
        return [[self._cell(feature, row) for feature in plan.features] for row in rows]

    async def read_columns(self, plan: OnlinePlan, entities: Mapping[str, Sequence[object]], count: int) -> list[CellColumn]:
        rows = [dict(zip(entities, row, strict=True)) for row in zip(*entities.values(), strict=True)] or [{}] * count
        return by_column(await self.read(plan, rows), len(plan.features))

    def _cell(self, feature: PlannedFeature, row: Mapping[str, object]) -> Cell:
        key = tuple(row[name] for name in self.keys[feature.view])
        values = self.stored.get((feature.view, key))
        if values is None:
            return Cell(None, features_pb2.FEATURE_STATUS_NOT_FOUND, None)
        if values.get(feature.name) is None:
            return Cell(None, features_pb2.FEATURE_STATUS_NULL_VALUE, EVENT_TIME)
        stale = self.stale or feature.view in self.old
        status = features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE if stale else features_pb2.FEATURE_STATUS_PRESENT
        return Cell(values[feature.name], status, EVENT_TIME)

    def _check(self) -> None:
        if self.down:
            raise backend_unavailable("Feast")


@dataclass
class FakeDeployments:
    """The active deployments and the number that counts their changes."""

    rows: dict[tuple[str, str], DeploymentRow] = field(default_factory=dict)
    changes: int = 0
    down: bool = False

    def activate(
        self,
        name: str,
        version: int,
        environment: str = PRODUCTION,
        runtime: int = ONNX,
        policy: deployments_pb2.FeaturePolicy | None = None,
    ) -> str:
        """Put a version into an environment; gives the deployment's id."""
        self.changes += 1
        row = DeploymentRow(
            deployment_id=f"dep-{self.changes}",
            model_name=name,
            version=version,
            environment=environment,
            runtime=runtime,
            feature_policy=policy.SerializeToString() if policy else None,
        )
        self.rows[name, environment] = row
        return row.deployment_id

    async def active(self, model_name: str, environment: str) -> DeploymentRow | None:
        self._check()
        return self.rows.get((model_name, environment))

    async def all_active(self) -> Sequence[DeploymentRow]:
        self._check()
        return list(self.rows.values())

    async def generation(self) -> int:
        self._check()
        return self.changes

    def _check(self) -> None:
        if self.down:
            raise ConnectionError("the database is away")
