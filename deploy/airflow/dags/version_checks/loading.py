"""Fetches and loads a version, of any MLflow flavour."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from pathlib import Path
from typing import Any

Model = Any
"""An MLflow pyfunc model."""

Data = Any
"""What models take and give: tables, arrays, or lists and dicts of them."""


def named(name: str, version: int) -> str:
    """The version, for a person."""
    return f"version {version} of '{name}'"


def prepare_mlflow() -> None:
    """Settle, before MLflow is imported, how it behaves here: a registry that is down should fail a check in a minute."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with contextlib.suppress(ImportError):
        import typeguard

        # Feast, if it is installed, is a plugin of MLflow's and comes with its first request. Its own type checks, which take
        # seconds to install, are of no use here: nobody calls it.
        typeguard.typechecked = _as_it_is


def _as_it_is(target: Any = None, **options: object) -> Any:  # noqa: ANN401  # whatever is decorated
    """Like typeguard's own decorator when Python runs with -O."""
    return functools.partial(_as_it_is, **options) if target is None else target


def loaded(name: str, version: int, folder: str) -> tuple[Model, Path]:
    """The version, loaded, and where its files are.

    Raises:
        FileNotFoundError: its files cannot be had.
        ValueError: it does not load.
    """
    prepare_mlflow()
    import mlflow

    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=folder))
    except Exception as error:
        raise FileNotFoundError(f"The files of {named(name, version)} cannot be fetched: {error}") from error
    if not (path / "MLmodel").is_file():
        raise FileNotFoundError(f"The files of {named(name, version)} are gone from the artifact store.")
    try:
        return mlflow.pyfunc.load_model(str(path)), path
    except Exception as error:
        raise ValueError(f"Loading {named(name, version)} fails: {error}") from error


def example_of(model: Model, path: Path) -> Data | None:
    """The example that the model was logged with, or None."""
    try:
        return model.metadata.load_input_example(str(path))
    except Exception as error:  # noqa: BLE001  # an example that cannot be read is as good as none
        print(f"The input example cannot be read: {error}")
        return None


def first_row(example: Data | None) -> Data | None:
    """The first row of an example that is a table; the whole of any other."""
    return example.head(1) if example is not None and hasattr(example, "head") else example


def as_columns(example: Data) -> dict[str, list[Any]] | None:
    """An example as lists of JSON values by column, as the serving side takes rows; None if it is of another shape."""
    if hasattr(example, "to_json"):
        split = json.loads(example.to_json(orient="split", date_format="iso"))
        return {str(name): [row[at] for row in split["data"]] for at, name in enumerate(split["columns"])}
    if hasattr(example, "tolist"):
        return {"input": example.tolist()}
    if isinstance(example, dict) and all(hasattr(values, "tolist") for values in example.values()):
        return {name: values.tolist() for name, values in example.items()}
    return None
