"""The files of model versions: their metadata (the MLmodel file), and the whole folder for those who run them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.struct_values import to_value

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSpec, TensorSpec

METADATA_FILE = "MLmodel"
LOGGED_MODEL = "models:/m-"


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What a version's MLmodel file tells. The signature is None if the model was logged without one."""

    signature: models_pb2.ModelSignature | None
    flavors: tuple[str, ...]


def read_details(client: MlflowClient, name: str, version: int) -> ModelDetails:
    """Fetch and read a version's MLmodel file."""
    location = _location(client, name, version)
    with tempfile.TemporaryDirectory(prefix="ml-platform-") as folder:
        missing = artifact_missing(name, version)
        return _details(_fetch(client, location, Path(folder), missing, file=f"/{METADATA_FILE}"))


def fetch_folder(client: MlflowClient, name: str, version: int, target: Path) -> Path:
    """Fetch a version's whole folder into the target and return where it is."""
    return _folder(client, _location(client, name, version), target, artifact_missing(name, version))


def fetch_graph(client: MlflowClient, uri: str, target: Path, missing: PlatformError) -> Path:
    """Fetch the whole folder of a model without a version (models:/m-...) into the target and return where it is."""
    if not uri.startswith(LOGGED_MODEL):  # Tags can be edited by hand, and must not lead anywhere else.
        raise missing
    return _folder(client, uri, target, missing)


def _folder(client: MlflowClient, uri: str, target: Path, missing: PlatformError) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    folder = _fetch(client, uri, target, missing)
    if not (folder / METADATA_FILE).is_file():  # MLflow takes a folder that is gone for one without files.
        raise missing
    return folder


def artifact_missing(name: str, version: int) -> PlatformError:
    """The error for a version whose files are gone."""
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
        f"The files of version {version} of the model {name!r} are not in the artifact store.",
        remedy="Restore them, or train and register a new version.",
        resource=("model version", f"{name}/{version}"),
    )


def artifact_unreadable(name: str, version: int) -> PlatformError:
    """The error for a version whose files may be there, and cannot be fetched or understood."""
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_UNREADABLE,
        f"The files of version {version} of the model {name!r} cannot be read.",
        remedy="Try again later. If it goes on, quote the request id to whoever runs the platform: its log has the cause.",
        resource=("model version", f"{name}/{version}"),
    )


def _location(client: MlflowClient, name: str, version: int) -> str:
    location: str = client.get_model_version_download_uri(name, str(version))
    return location


def _fetch(client: MlflowClient, uri: str, target: Path, missing: PlatformError, *, file: str = "") -> Path:
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415  # slow to import, so only here, in a thread

    # MLflow hands out local artifacts where they lie, whatever the target; the caller deals with whichever path it gets.
    try:
        return Path(download_artifacts(artifact_uri=uri + file, dst_path=str(target), tracking_uri=client.tracking_uri))
    except Exception as error:
        # MLflow says in a text alone why a file could not be fetched, so the folder is listed to see whether it is there.
        if _is_gone(client, uri):
            raise missing from error
        raise


def _is_gone(client: MlflowClient, location: str) -> bool:
    """Whether a version's folder does not hold its MLmodel file. False if nobody can tell."""
    from mlflow.artifacts import list_artifacts  # noqa: PLC0415  # slow to import, so only here, in a thread

    try:
        found = list_artifacts(artifact_uri=location, tracking_uri=client.tracking_uri)
    except Exception:  # noqa: BLE001  # the error of the file itself is told
        return False
    return METADATA_FILE not in (PurePosixPath(info.path).name for info in found)


def _details(path: Path) -> ModelDetails:
    from mlflow.models import Model  # noqa: PLC0415  # slow to import, so only here, in a thread

    model = Model.load(str(path))
    return ModelDetails(signature=_signature(model.signature), flavors=tuple(sorted(model.flavors)))


def _signature(signature: ModelSignature | None) -> models_pb2.ModelSignature | None:
    if signature is None or signature.inputs is None:
        return None
    return models_pb2.ModelSignature(
        inputs=[_column(spec) for spec in signature.inputs],
        outputs=[_column(spec) for spec in signature.outputs or ()],
        params=[_param(spec) for spec in signature.params or ()],
    )


def _param(spec: ParamSpec) -> models_pb2.ParamSpec:
    kind = getattr(spec.dtype, "name", None) or str(spec.dtype)
    return models_pb2.ParamSpec(name=spec.name, type=kind, list=spec.shape is not None, default_value=to_value(spec.default))


def _column(spec: ColSpec | TensorSpec) -> models_pb2.ColumnSpec:
    # A plain type has a name; arrays, maps and objects describe themselves: Array(double). Only a tensor has a shape.
    kind = getattr(spec.type, "name", None) or str(spec.type)
    shape = getattr(spec, "shape", None)
    # The columns of a table may have numbers for names, 0 among them.
    return models_pb2.ColumnSpec(
        name="" if spec.name is None else str(spec.name),
        type=kind if shape is None else f"tensor({kind})",
        required=spec.required,
        shape=shape or (),
    )
