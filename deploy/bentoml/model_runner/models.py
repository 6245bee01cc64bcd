"""The models in memory: each loaded once whatever the number of callers, the least recently used dropped first."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from model_runner.failures import ArtifactMissing, ArtifactUnreadable, InputInvalid, ModelFailed, RegistryUnavailable, raised
from model_runner.inputs import Columns, by_own_names, groups, misfit, model_input
from model_runner.outputs import named_outputs, plain

_log = logging.getLogger("bentoml.service.model_runner")

Key = tuple[str, int]
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class LoadedModel:
    """One version in memory."""

    def __init__(self, model: Any, *, created: int, folder: TemporaryDirectory[str]) -> None:  # noqa: ANN401  # any flavour
        self._model = model
        weakref.finalize(self, folder.cleanup)  # Some flavours read their files late.
        self._schema = model.metadata.get_input_schema()
        self._outputs = model.metadata.get_output_schema()
        self._raw = _raw(model)
        self._classes = _classes(self._raw)
        self._one_against_all = _one_against_all(self._raw)
        self.created = created

    def predict(self, columns: Columns, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer N rows; see the service's `predict_batch`.

        Raises:
            Failure: InputInvalid, InputRejected, ModelFailed.
        """
        parts = groups(by_own_names(columns, self._schema), self._schema)
        if len(parts) == 1:
            return self._answer(parts[0][1], len(parts[0][0]), params)
        answers = [(rows, self._answer(part, len(rows), params)) for rows, part in parts]
        whole = answers[0][1]
        places = [at for rows, _ in answers for at in rows]
        order = sorted(range(len(places)), key=places.__getitem__)
        for name in whole["outputs"]:
            values = [value for _, answer in answers for value in answer["outputs"].get(name, ())]
            if len(values) != len(places):
                raise ModelFailed("The outputs differ between rows.", ValueError(name))
            whole["outputs"][name] = [values[at] for at in order]
        return whole

    def _answer(self, columns: Columns, rows: int, params: dict[str, Any] | None) -> dict[str, Any]:
        given = model_input(columns, self._schema)
        try:
            outputs = named_outputs(self._model.predict(given, params=params or None), rows, self._outputs)
        except Exception as error:  # the model is somebody else's code and may raise anything
            if (column := misfit(given, self._schema)) is not None:
                raise InputInvalid("is not of the type that the signature says", column) from error
            raise raised(error) from error
        answer: dict[str, Any] = {"outputs": outputs}
        # What predict_proba says may be about another question than the one that params ask.
        if self._classes is not None and not params:
            self._add_probabilities(answer, given, rows, self._classes)
        return answer

    def _add_probabilities(
        self,
        answer: dict[str, Any],
        given: Any,  # noqa: ANN401  # what the model takes
        rows: int,
        classes: list[Any],
    ) -> None:
        try:
            probabilities = plain(self._raw.predict_proba(given))
        except Exception:  # noqa: BLE001  # a prediction without probabilities is better than none
            _log.warning("predict_proba failed", exc_info=True)
            return
        tabular = isinstance(probabilities, list) and len(probabilities) == rows
        if tabular and all(_fits(row, classes) for row in probabilities):
            answer["outputs"].setdefault("probability", probabilities)
            if not self._one_against_all:
                answer["classes"] = classes


class LoadedModels:
    """At most `limit` models."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._models: OrderedDict[Key, Future[LoadedModel]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, version: int) -> LoadedModel:
        """A version, loaded if it is not; whoever comes while it loads waits for it.

        Raises:
            Failure: ArtifactMissing, ModelFailed, RegistryUnavailable.
        """
        with self._lock:
            future = self._models.get((name, version))
            mine = future is None
            if future is None:
                future = self._models[name, version] = Future()
            self._models.move_to_end((name, version))
            while len(self._models) > self._limit:
                self._models.popitem(last=False)
        if mine:
            self._fill(future, (name, version))
        return future.result()

    def renew(self, name: str, version: int) -> None:
        """As `get`, but drop a model whose number has been given to another version since it was loaded."""
        held = self.get(name, version)
        if _created(name, version) != held.created:
            with self._lock:
                self._models.pop((name, version), None)
            self.get(name, version)

    def _fill(self, future: Future[LoadedModel], key: Key) -> None:
        try:
            future.set_result(_load(*key))
        except BaseException as error:  # noqa: BLE001  # it is handed to every waiter, and raised there
            with self._lock:
                if self._models.get(key) is future:
                    del self._models[key]
            future.set_exception(error)


def _load(name: str, version: int) -> LoadedModel:
    import mlflow.pyfunc  # noqa: PLC0415  # takes seconds

    created = _created(name, version)
    folder = TemporaryDirectory(prefix="model-")
    try:
        path = _download(name, version, folder.name)
        return LoadedModel(mlflow.pyfunc.load_model(str(path)), created=created, folder=folder)
    except (ArtifactMissing, ArtifactUnreadable):
        folder.cleanup()
        raise
    except Exception as error:  # unpickling runs somebody else's code, which may raise anything
        folder.cleanup()
        raise ModelFailed(f"Version {version} of {name!r} cannot be loaded.", error, loading=True) from error


def _download(name: str, version: int, folder: str) -> Path:
    """Fetch a version's files, and return where they are."""
    import mlflow  # noqa: PLC0415  # takes seconds
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # the same

    try:
        uri = mlflow.MlflowClient().get_model_version_download_uri(name, str(version))
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
    except (MlflowException, OSError) as error:
        if _is_gone(name, version):
            raise ArtifactMissing(f"The files of version {version} of {name!r} are gone.") from error
        raise ArtifactUnreadable(f"The files of version {version} of {name!r} cannot be fetched.") from error
    if not (path / "MLmodel").is_file():
        raise ArtifactMissing(f"The files of version {version} of {name!r} are gone.")
    return path


def _is_gone(name: str, version: int) -> bool:
    """Whether the folder of a version does not hold a model, rather than that the disk is full or the store is down.

    MLflow says in a text alone why a file could not be fetched, so the folder is listed. False if nobody can tell.
    """
    import mlflow  # noqa: PLC0415  # takes seconds
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # the same

    try:
        uri = mlflow.MlflowClient().get_model_version_download_uri(name, str(version))
        found = mlflow.artifacts.list_artifacts(artifact_uri=uri)
    except MlflowException as error:
        return error.error_code in GONE
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return "MLmodel" not in (Path(info.path).name for info in found)


def _created(name: str, version: int) -> int:
    """When a version was registered, in milliseconds: what tells it from an earlier one of the same number."""
    from mlflow import MlflowClient  # noqa: PLC0415  # takes seconds
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # the same

    try:
        return int(MlflowClient().get_model_version(name, str(version)).creation_timestamp)
    except MlflowException as error:
        if error.error_code in GONE:
            raise ArtifactMissing(f"The registry has no version {version} of {name!r}.") from error
        raise RegistryUnavailable("The model registry does not answer.") from error


def _raw(model: Any) -> Any:  # noqa: ANN401  # any flavour
    """The model behind MLflow's wrapper, if it tells class probabilities."""
    try:
        raw = model.get_raw_model()
    except Exception:  # noqa: BLE001  # not every flavour has one
        return None
    return raw if callable(getattr(raw, "predict_proba", None)) else None


def _classes(raw: Any) -> list[Any] | None:  # noqa: ANN401  # any estimator
    """The classes that a model tells apart, found once for all batches; None if each of its outputs has classes of its own."""
    classes = plain(getattr(raw, "classes_", None))
    flat = isinstance(classes, list) and not any(isinstance(each, list) for each in classes)
    return classes if flat else None


def _one_against_all(raw: Any) -> bool:  # noqa: ANN401  # any estimator
    """Whether a booster tells each class apart from all others, so that its numbers for a row do not add up to one.

    In few rows they do by chance, and they are no more probabilities there.
    """
    steps = getattr(raw, "steps", None)
    params: dict[str, Any] = getattr(steps[-1][1] if steps else raw, "get_params", dict)()
    chosen = {str(params.get(name)).lower() for name in ("objective", "loss_function")}
    return bool(chosen & {"multiclassova", "multiclass_ova", "ova", "ovr", "multiclassonevsall"})


def _fits(row: object, classes: list[Any]) -> bool:
    return isinstance(row, list) and len(row) == len(classes)
