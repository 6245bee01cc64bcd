"""Converts estimators with skl2onnx and onnxmltools."""

from __future__ import annotations

import contextlib
import enum
import functools
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto

from version_checks import graphs
from version_checks.estimators import Estimator, splits_on_gaps, takes_columns, without_names
from version_checks.fields import Field, NotConvertible
from version_checks.graphs import Output

MATRIX = "X"
PROBABILITY = "probability"
LONGEST = 200
TARGET = {"": 18, "ai.onnx.ml": 3}
"""The operators' versions: new enough for every converter, and old enough for the runtimes of some years."""

Names = Sequence[str]
Inputs = Sequence[tuple[str, int, int]]
"""The names, types and widths of what a converter's graph takes."""


class Way(enum.Enum):
    """How precisely a graph reckons: in 32 bits, in 64, or in 64 up to the trees at its end, which compare no more than 32."""

    FLOAT = graphs.FLOAT
    DOUBLE = graphs.DOUBLE
    DOUBLE_THEN_FLOAT = "double, then float"

    @property
    def precision(self) -> int:
        """Of the numbers that go in."""
        return graphs.FLOAT if self is Way.FLOAT else graphs.DOUBLE


def ways(estimator: Estimator) -> tuple[Way, ...]:
    """The ways to try, the likeliest first."""
    if estimator.booster:
        return (Way.FLOAT,)
    if estimator.of_trees:
        return (Way.DOUBLE_THEN_FLOAT, Way.FLOAT) if estimator.steps else (Way.FLOAT, Way.DOUBLE)
    return Way.DOUBLE, Way.FLOAT


def convert(estimator: Estimator, fields: Sequence[Field], *, prediction: str, width: int, way: Way) -> onnx.ModelProto:
    """A graph that gives what MLflow gives for the version.

    Args:
        estimator: what is converted.
        fields: what it takes.
        prediction: what its answer is called.
        width: how many numbers its answer has for a row.
        way: how precisely it reckons.

    Raises:
        NotConvertible: there is no converter for it or for something in it.
    """
    if splits_on_gaps(estimator.model):
        raise NotConvertible(
            f"{estimator.name} does not convert: its trees ask whether values are missing, which no converter knows."
        )
    matrix = not takes_columns(estimator.model) and len({field.numeric for field in fields}) == 1
    precision = way.precision
    inputs = _matrix(fields, precision) if matrix else [(field.name, graphs.type_of(field, precision), 1) for field in fields]
    try:
        inner = _booster(estimator, inputs) if estimator.booster else _sklearn(estimator, inputs, way)
    except Exception as error:  # the converters raise whatever comes to their minds
        raise NotConvertible(f"{estimator.name} does not convert: {_first_line(error)}") from error
    given = [output.name for output in inner.graph.output]
    outputs = _of_booster(given, prediction, width) if estimator.booster else _of_estimator(estimator, given, prediction)
    return graphs.assemble(inner, fields, precision=precision, matrix=matrix, outputs=outputs)


def _matrix(fields: Sequence[Field], precision: int) -> Inputs:
    kind = precision if fields[0].numeric else int(TensorProto.STRING)
    return [(MATRIX, kind, sum(field.width or 1 for field in fields))]


def _sklearn(estimator: Estimator, inputs: Inputs, way: Way) -> onnx.ModelProto:
    classifies = estimator.classes is not None
    if way is not Way.DOUBLE_THEN_FLOAT:
        return _by_skl2onnx(without_names(estimator.model), inputs, classifies=classifies)
    *_, last = steps = without_names(estimator.steps)
    first = _by_skl2onnx(steps[:-1], inputs, classifies=False)
    between = [(MATRIX, graphs.FLOAT, int(estimator.last.n_features_in_))]
    return graphs.chain(first, _by_skl2onnx(last, between, classifies=classifies))


def _by_skl2onnx(model: Any, inputs: Inputs, *, classifies: bool) -> onnx.ModelProto:  # noqa: ANN401  # any estimator
    import skl2onnx
    from skl2onnx.common import data_types

    _know_others()
    kinds: dict[int, Any] = {
        TensorProto.FLOAT: data_types.FloatTensorType,
        TensorProto.DOUBLE: data_types.DoubleTensorType,
        TensorProto.INT64: data_types.Int64TensorType,
        TensorProto.BOOL: data_types.BooleanTensorType,
        TensorProto.STRING: data_types.StringTensorType,
    }
    types = [(name, kinds[kind]([None, width])) for name, kind, width in inputs]
    # Without it, probabilities come as a list of mappings, which is slow to read and has no type for double.
    options = {id(model): {"zipmap": False}} if classifies else None
    try:
        converted = skl2onnx.convert_sklearn(model, initial_types=types, options=options, target_opset=TARGET)
    except NameError:  # The converter does not know the option, so it makes no mappings either.
        converted = skl2onnx.convert_sklearn(model, initial_types=types, target_opset=TARGET)
    return converted  # type: ignore[no-any-return]


def _booster(estimator: Estimator, inputs: Inputs) -> onnx.ModelProto:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [(name, FloatTensorType([None, width])) for name, _, width in inputs]
    if estimator.library == "xgboost":
        booster = estimator.model.copy()
        booster.feature_names = None
        return onnxmltools.convert_xgboost(booster, initial_types=types)  # type: ignore[no-any-return]
    return onnxmltools.convert_lightgbm(estimator.model, initial_types=types, zipmap=False)  # type: ignore[no-any-return]


def _of_estimator(estimator: Estimator, given: Names, prediction: str) -> list[Output]:
    """The label and the probabilities of a classifier; the first output of everything else."""
    if estimator.function == "predict_proba":
        return [Output(given[1], prediction), Output(given[1], PROBABILITY)]
    kind = getattr(getattr(estimator.classes, "dtype", None), "kind", "")
    outputs = [Output(given[0], prediction, kind=int(TensorProto.BOOL) if kind == "b" else 0)]
    if estimator.tells_probabilities and len(given) > 1:
        outputs.append(Output(given[1], PROBABILITY))
    return outputs


def _of_booster(given: Names, prediction: str, width: int) -> list[Output]:
    """A bare booster gives the probability of the second of two classes, or that of each of several, or a number."""
    if len(given) == 1:
        return [Output(given[0], prediction)]
    return [Output(given[1], prediction, column=1 if width == 1 else None)]


@functools.cache
def _know_others() -> None:
    """Tell skl2onnx of the estimators of LightGBM and XGBoost, as far as they are installed."""
    with contextlib.suppress(ImportError):
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        _register(convert_lightgbm, lightgbm.LGBMClassifier, lightgbm.LGBMRegressor)
    with contextlib.suppress(ImportError):
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        _register(convert_xgboost, xgboost.XGBClassifier, xgboost.XGBRFClassifier, xgboost.XGBRegressor, xgboost.XGBRFRegressor)


def _register(converter: Any, *classes: type) -> None:  # noqa: ANN401  # as skl2onnx wants it
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    for each in classes:
        if each.__name__.endswith("Classifier"):
            shapes = shape_calculator.calculate_linear_classifier_output_shapes
            options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        else:
            shapes, options = shape_calculator.calculate_linear_regressor_output_shapes, {"split": None}
        update_registered_converter(
            each, f"{each.__module__.partition('.')[0]}{each.__name__}", shapes, converter, options=options
        )


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:LONGEST]
