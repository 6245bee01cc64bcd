"""Holds what the platform's server answers from a graph against what the library itself answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.serving.inputs.columns import ColumnData
from ml_platform_server.serving.inputs.convert import convert
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.runtimes.onnx.runtime import load_onnx
from tests.conversion_search.candidates import Candidate

ABSOLUTE, RELATIVE = 1e-4, 1e-3
TIE = 1e-6
MOST_BORDERS = 20_000


def original(made: Candidate, table: pd.DataFrame) -> tuple[Any, Any]:
    """The library's predictions, and its probabilities by class or None."""
    model = made.model
    if type(model).__name__ == "Booster" and made.flavor == "xgboost":
        import xgboost

        return model.predict(xgboost.DMatrix(table)), None
    given = model.predict(table)
    return given, model.predict_proba(table) if hasattr(model, "predict_proba") else None


class Served:
    """A graph in the platform's server."""

    def __init__(self, folder: Path, table: pd.DataFrame) -> None:
        kinds = {"f": "double", "i": "long", "b": "boolean", "O": "string"}
        specs = [
            models_pb2.ColumnSpec(
                name=name, required=True, type="float" if values.dtype == np.float32 else kinds[values.dtype.kind]
            )
            for name, values in table.items()
        ]
        self._folder = folder
        self._columns = columns_of(models_pb2.ModelSignature(inputs=specs))
        self._pool = BlockingPool("ONNX Runtime", threads=1)

    async def __aenter__(self) -> Self:
        self._runtime = await load_onnx(self._folder, self._columns, self._pool)
        if hasattr(self._runtime, "restricted"):
            self._columns = tuple(self._runtime.restricted(column, at) for at, column in enumerate(self._columns))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.close()

    async def answer(self, table: pd.DataFrame) -> tuple[Any, Any, Any, set[int]]:
        """The predictions, the outputs called probability, the one probability of each row, and the rows that were refused."""
        none = np.array([], np.int64)
        sent = [ColumnData(values.to_numpy(), none) for _, values in table.items()]
        converted = [convert(column, values) for column, values in zip(self._columns, sent, strict=True)]
        refused = {row for each in converted for row in each.bad}
        found = await self._runtime.predict_columns([each.values for each in converted], len(table))
        prediction, *_ = found.outputs.values()
        told = found.probabilities() if found.probabilities is not None else None
        return np.asarray(prediction), found.outputs.get("probability"), told, refused


def differing(expected: tuple[Any, Any], answered: tuple[Any, Any, Any, set[int]]) -> dict[str, int]:
    """How many rows differ, and how."""
    want, shares = expected
    given, outputs, told, _ = answered
    want = np.asarray(want)
    if shares is None or want.dtype.kind == "f":
        labels = want.dtype.kind in "iuOU"
        wrong = {"values": int((want.astype(str) != given.astype(str)).sum()) if labels else _apart(want, given)}
        return {name: count for name, count in wrong.items() if count}
    ordered = np.sort(shares, axis=1)
    tied = ordered[:, -1] - ordered[:, -2] < TIE
    other = want.astype(str) != given.astype(str)
    positive = shares[:, 1] if shares.shape[1] == 2 else shares.max(axis=1)  # two classes
    found = {
        "classes": int((other & ~tied).sum()),
        "flipped ties": int((other & tied).sum()),
        "probabilities": _apart(shares, np.asarray(outputs)),
        "no probability": int(len(want) if told is None else (~np.isfinite(told)).sum()),
        "beyond 0 and 1": int(((np.asarray(outputs) < 0) | (np.asarray(outputs) > 1)).sum()),
        "one probability": 0 if told is None else _apart(positive, told),
        "small": _small(shares, np.asarray(outputs)),
    }
    return {name: count for name, count in found.items() if count}


def _apart(want: Any, given: Any) -> int:
    want, given = np.asarray(want, float), np.asarray(given, float).reshape(np.shape(want))
    gap = np.abs(want - given)
    wrong = ~((gap <= ABSOLUTE) | (gap <= RELATIVE * np.abs(want))) & ~(np.isnan(want) & np.isnan(given))
    return int(wrong.reshape(len(wrong), -1).any(axis=1).sum())


def _small(shares: Any, given: Any) -> int:
    """Small probabilities that are not right within what the library's own type rounds."""
    rounding = 2 * float(np.finfo(shares.dtype).eps)
    gap = np.abs(shares - given) - rounding
    small = (shares > 1e-12) & (shares < ABSOLUTE)  # below, rounding is all there is
    return int((small & (gap > RELATIVE * shares)).any(axis=1).sum())


def borders(made: Candidate) -> pd.DataFrame | None:
    """Rows of which one value lies on either side of a split, as its column's own type has them; None if none can be read."""
    found = thresholds(made)
    parts = []
    random = np.random.default_rng(1)
    for name, values in found.items():
        column = made.fresh[name]
        sides = _sides(values, column.dtype)
        rows = made.fresh.iloc[random.integers(0, len(made.fresh), len(sides))].reset_index(drop=True)
        parts.append(rows.assign(**{name: sides.astype(column.dtype)}))
    whole = pd.concat(parts, ignore_index=True) if parts else None
    if whole is None or len(whole) <= MOST_BORDERS:
        return whole
    return whole.iloc[random.choice(len(whole), MOST_BORDERS, replace=False)].reset_index(drop=True)


def _sides(values: Any, dtype: Any) -> Any:
    if dtype.kind in "iu":
        return np.unique(np.concatenate([np.floor(values), np.ceil(values), np.floor(values) + 1]))
    values = values.astype(dtype)
    down, up = dtype.type(-np.inf), dtype.type(np.inf)
    single = values.astype(np.float32)
    near = [np.nextafter(values, down), values, np.nextafter(values, up)]
    if dtype == np.float64:
        below, above = (
            np.nextafter(single, np.float32(-np.inf)).astype(float),
            np.nextafter(single, np.float32(np.inf)).astype(float),
        )
        middle, other = (single.astype(float) + below) / 2, (single.astype(float) + above) / 2
        near += [single.astype(float), below, above]
        near += [np.nextafter(each, way) for each in (middle, other) for way in (-np.inf, np.inf)] + [middle, other]
    return np.unique(np.concatenate(near))


def thresholds(made: Candidate) -> dict[str, Any]:
    """By column, the splits of trees that stand on the columns themselves or behind one scaler, and the edges of bins."""
    from sklearn import preprocessing

    model, names = made.model, [*made.table.columns]
    scale, shift = np.ones(len(names)), np.zeros(len(names))
    for step in [step for _, step in getattr(model, "steps", [])][:-1]:
        if hasattr(step, "bin_edges_"):
            return _numeric(made, {name: np.asarray(edges) for name, edges in zip(names, step.bin_edges_, strict=True)})
        if isinstance(step, preprocessing.StandardScaler):
            scale, shift = step.scale_, step.mean_
        elif isinstance(step, preprocessing.MinMaxScaler):
            scale, shift = 1 / step.scale_, -step.min_ / step.scale_
        elif isinstance(step, preprocessing.RobustScaler):
            scale, shift = step.scale_, step.center_
        elif isinstance(step, preprocessing.MaxAbsScaler):
            scale = step.scale_
        else:
            return {}
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    found = _splits(last)
    return _numeric(made, {names[at]: values * scale[at] + shift[at] for at, values in found.items()})


def _numeric(made: Candidate, found: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in found.items() if made.table[name].dtype.kind in "fiu" and len(values)}


def _splits(model: Any) -> dict[int, Any]:
    library = type(model).__module__.partition(".")[0]
    if library == "lightgbm":
        table = getattr(model, "booster_", model).trees_to_dataframe().dropna(subset=["threshold"])
        names = getattr(model, "booster_", model).feature_name()
        return {names.index(name): part["threshold"].astype(float).unique() for name, part in table.groupby("split_feature")}
    if library == "xgboost":
        return _of_dump(model if type(model).__name__ == "Booster" else model.get_booster())
    trees = [part.tree_ for part in np.ravel(getattr(model, "estimators_", [model])) if hasattr(part, "tree_")]
    found: dict[int, list[Any]] = {}
    for tree in trees:
        for at in np.unique(tree.feature[tree.feature >= 0]).tolist():
            values = tree.threshold[tree.feature == at]
            found.setdefault(at, []).append(values[np.isfinite(values)])
    return {at: np.unique(np.concatenate(values)) for at, values in found.items()}


def _of_dump(booster: Any) -> dict[int, Any]:
    names = booster.feature_names or []
    found: dict[int, set[float]] = {}
    open_ones = [json.loads(tree) for tree in booster.get_dump(dump_format="json")]
    while open_ones:
        node = open_ones.pop()
        open_ones += node.get("children", [])
        # What asks for true or false has no condition.
        if "split_condition" in node:
            at = names.index(node["split"]) if node["split"] in names else int(node["split"][1:])
            found.setdefault(at, set()).add(float(np.float32(node["split_condition"])))
    return {at: np.array(sorted(values)) for at, values in found.items()}
