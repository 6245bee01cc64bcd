"""Has skl2onnx convert trees with the converters of this package, wherever they stand in a pipeline."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from version_checks.fields import NotConvertible
from version_checks.trees import converters, of_sklearn
from version_checks.trees.converters import DOUBLE, FLOAT, both, labels, sigmoid, softmax
from version_checks.trees.ensemble import evaluate
from version_checks.trees.nodes import Contained

Convert = Callable[[Any, Any, Any], None]
"""As skl2onnx calls converters: with a scope, an operator and a container."""


@functools.cache
def register() -> None:
    """Make skl2onnx use these converters. Those of other estimators, and of outputs that these do not know, stay."""
    from skl2onnx.common._registration import (
        get_converter,
        get_shape_calculator,
        register_converter,
        register_shape_calculator,
    )

    for name in converters.SKLEARN:
        alias = f"Sklearn{name}"
        before = get_converter(alias)
        convert = _named(functools.partial(_of_sklearn, before))
        register_converter(alias, convert, overwrite=True, options=before.get_allowed_options())
        register_shape_calculator(alias, functools.partial(_shapes, get_shape_calculator(alias)), overwrite=True)
    for alias, exact in (
        ("SklearnKBinsDiscretizer", bins),
        ("SklearnBinarizer", above),
        ("SklearnSimpleImputer", filled),
        ("SklearnAdaBoostClassifier", voted),
        ("SklearnBaggingClassifier", bagged),
        ("SklearnBaggingRegressor", bagged),
    ):
        before = get_converter(alias)
        convert = _named(functools.partial(exact, before))
        register_converter(alias, convert, overwrite=True, options=before.get_allowed_options())
        register_shape_calculator(alias, functools.partial(_shapes, get_shape_calculator(alias)), overwrite=True)
    for module, names in (
        ("lightgbm", ("LGBMClassifier", "LGBMRegressor")),
        ("xgboost", ("XGBClassifier", "XGBRFClassifier", "XGBRegressor", "XGBRFRegressor")),
    ):
        _register_library(module, names)


def _register_library(module: str, names: tuple[str, ...]) -> None:
    import importlib

    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    try:
        library = importlib.import_module(module)
    except ImportError:
        return
    convert = {"lightgbm": of_lightgbm, "xgboost": of_xgboost}[module]
    for name in names:
        if name.endswith("Classifier"):
            shapes = shape_calculator.calculate_linear_classifier_output_shapes
            options: dict[str, Any] = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        else:
            shapes, options = shape_calculator.calculate_linear_regressor_output_shapes, {}
        update_registered_converter(getattr(library, name), f"{module}{name}", shapes, convert, options=options)


def _shapes(before: Callable[[Any], None], operator: Any) -> None:  # noqa: ANN401
    """The shapes of the outputs, which are as precise as the input."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    before(operator)
    for output in operator.outputs:
        if isinstance(operator.inputs[0].type, DoubleTensorType) and isinstance(output.type, FloatTensorType):
            output.type = DoubleTensorType(output.type.shape)


def _named(convert: Callable[..., None]) -> Convert:
    """skl2onnx looks at the names of a converter's arguments."""

    def converter(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
        convert(scope, operator, container)

    return converter


def _of_sklearn(before: Any, scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    model = operator.raw_operator
    options = container.get_options(model, dict.fromkeys(_others(before), False))
    boosting = type(model).__name__.startswith("GradientBoosting")
    if any(options[name] for name in _others(before)) or (boosting and not converters.begins_alike(model)):
        before(scope, operator, container)
        return
    nodes = Contained(scope, container)
    if isinstance(getattr(model, "classes_", None), list):
        _of_several_labels(nodes, operator)
        return
    if not boosting:
        _of_forest(nodes, operator)
        return
    ensemble = converters.SKLEARN[type(model).__name__](model)
    raw = evaluate(nodes, ensemble, _matrix(nodes, operator, DOUBLE), int(model.n_features_in_))
    if not hasattr(model, "classes_"):
        _output(nodes, operator, raw)
    elif ensemble.targets > 1:
        _classified(nodes, operator, softmax(nodes, raw), by=raw)
    else:
        scale = 2.0 if type(model._loss).__name__ == "ExponentialLoss" else 1.0  # there is no other way to know
        at_least = nodes.add("GreaterOrEqual", raw, nodes.constant(np.array(0.0)))
        place = nodes.add("Squeeze", nodes.add("Cast", at_least, to=TensorProto.INT64), nodes.constant(np.array([1])))
        _classified(nodes, operator, both(nodes, sigmoid(nodes, raw, scale), np.array(1.0)), place=place)


def _of_forest(nodes: Contained, operator: Any) -> None:  # noqa: ANN401
    """A tree, a forest, or bagged trees: the mean over the trees, added up one after the other as scikit-learn does."""
    model = operator.raw_operator
    ensemble = converters.forest(model)
    mean = evaluate(nodes, ensemble, _matrix(nodes, operator, DOUBLE), int(model.n_features_in_))
    if hasattr(model, "estimators_"):
        mean = nodes.add("Div", mean, nodes.constant(np.array(float(len(model.estimators_)))))
    if not hasattr(model, "classes_"):
        _output(nodes, operator, mean)
        return
    _classified(nodes, operator, both(nodes, mean, np.array(1.0)) if ensemble.targets < len(model.classes_) else mean)


def _of_several_labels(nodes: Contained, operator: Any) -> None:  # noqa: ANN401
    """A tree or a forest that predicts several labels at once: beside those, the probabilities of each, filled up with zeros."""
    model = operator.raw_operator
    matrix, width = _matrix(nodes, operator, DOUBLE), int(model.n_features_in_)
    trees = [tree.tree_ for tree in getattr(model, "estimators_", [model])]
    most = max(map(len, model.classes_))
    places, layers = [], []
    for at, classes in enumerate(model.classes_):
        columns = slice(at * most, at * most + len(classes))
        raw = evaluate(nodes, of_sklearn.read(trees, targets=len(classes), columns=columns), matrix, width)
        name = nodes.add("ArgMax", raw, axis=1, keepdims=1)
        kept = np.asarray(classes).astype(str if np.asarray(classes).dtype.kind in "OU" else np.int64)
        places.append(nodes.add("Gather", nodes.constant(kept), name))
        shares = nodes.add("Div", raw, nodes.constant(np.array(float(len(trees)))))
        if len(classes) < most:
            shares = nodes.add("Pad", shares, nodes.constant(np.array([0, 0, 0, most - len(classes)])), mode="constant")
        layers.append(nodes.add("Unsqueeze", shares, nodes.constant(np.array([0]))))
    nodes.add("Concat", *places, axis=1, out=operator.outputs[0].full_name)
    _output(nodes, operator, nodes.add("Concat", *layers, axis=0), 1)


def _others(before: Any) -> set[str]:  # noqa: ANN401
    """The options that ask for other outputs."""
    return {"raw_scores", "decision_path", "decision_leaf"} & {*(before.get_allowed_options() or ())}


def of_lightgbm(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """LGBMClassifier and LGBMRegressor."""
    model, nodes = operator.raw_operator, Contained(scope, container)
    matrix = _matrix(nodes, operator, DOUBLE)
    told = converters.raw_lightgbm(nodes, model.booster_, matrix, int(model.n_features_in_))
    if not hasattr(model, "classes_"):
        _output(nodes, operator, told)
        return
    _classified(nodes, operator, told if len(model.classes_) > 2 else both(nodes, told, np.array(1.0)))  # noqa: PLR2004


def of_xgboost(scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """XGBClassifier, XGBRegressor and their forests."""
    model, nodes = operator.raw_operator, Contained(scope, container)
    matrix = converters.with_gaps(nodes, _matrix(nodes, operator, FLOAT), model.missing)
    told, objective = converters.raw_xgboost(nodes, converters.booster_of(model), matrix, int(model.n_features_in_))
    if not hasattr(model, "classes_"):
        _output(nodes, operator, told)
        return
    if objective not in ("binary:logistic", "multi:softprob"):
        raise NotConvertible(f"XGBoost's classifiers with the objective {objective} have no converter.")
    _classified(nodes, operator, told if objective == "multi:softprob" else both(nodes, told, np.array(1.0, np.float32)))


def voted(before: Convert, scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """AdaBoostClassifier of trees. Of anything else, skl2onnx's own."""
    model = operator.raw_operator
    parts = [*model.estimators_]
    if not all(hasattr(part, "tree_") and np.array_equal(part.classes_, model.classes_) for part in parts):
        before(scope, operator, container)
        return
    nodes, classes = Contained(scope, container), len(model.classes_)
    ensemble = of_sklearn.votes([part.tree_ for part in parts], model.estimator_weights_[: len(parts)].tolist(), classes)
    raw = evaluate(nodes, ensemble, _matrix(nodes, operator, DOUBLE), int(model.n_features_in_))
    decision = nodes.add("Div", raw, nodes.constant(np.array(float(model.estimator_weights_.sum()))))
    if classes > 2:  # noqa: PLR2004
        share = nodes.add("Div", decision, nodes.constant(np.array(classes - 1.0)))
        _classified(nodes, operator, softmax(nodes, share), by=decision)
        return
    more = nodes.add("Greater", raw, nodes.constant(np.array(0.0)))
    place = nodes.add("Squeeze", nodes.add("Cast", more, to=TensorProto.INT64), nodes.constant(np.array([1])))
    _classified(nodes, operator, both(nodes, sigmoid(nodes, decision, 2.0), np.array(1.0)), place=place)


def bagged(before: Convert, scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """BaggingClassifier and BaggingRegressor of trees that see every column. Of anything else, skl2onnx's own."""
    model = operator.raw_operator
    classes, every = np.arange(len(getattr(model, "classes_", [0]))), np.arange(model.n_features_in_)
    parts, columns = model.estimators_, model.estimators_features_
    whole = all(hasattr(part, "tree_") and np.array_equal(getattr(part, "classes_", [0]), classes) for part in parts)
    if whole and all(np.array_equal(seen, every) for seen in columns):
        _of_forest(Contained(scope, container), operator)
    else:
        before(scope, operator, container)


def bins(_before: Convert, scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """KBinsDiscretizer, with its edges in 64 bits: they are values of the data. A bin begins with its lower edge.

    Raises:
        NotConvertible: it gives sparse tables, which ONNX does not know.
    """
    model, nodes = operator.raw_operator, Contained(scope, container)
    matrix, columns = _matrix(nodes, operator, DOUBLE), []
    for at, edges in enumerate(model.bin_edges_):
        column = nodes.add("Gather", matrix, nodes.constant(np.array([at])), axis=1)
        reached = nodes.add("GreaterOrEqual", column, nodes.constant(np.asarray(edges[1:-1], float).reshape(1, -1)))
        place = nodes.add("Cast", reached, to=DOUBLE)
        place = nodes.add("ReduceSum", place, nodes.constant(np.array([1])), keepdims=1)
        if model.encode != "ordinal":
            numbers = nodes.constant(np.arange(int(model.n_bins_[at]), dtype=float).reshape(1, -1))
            place = nodes.add("Cast", nodes.add("Equal", place, numbers), to=DOUBLE)
        columns.append(place)
    _output(nodes, operator, nodes.add("Concat", *columns, axis=1))


def above(_before: Convert, scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """Binarizer, with its threshold in 64 bits."""
    nodes = Contained(scope, container)
    threshold = nodes.constant(np.array(float(operator.raw_operator.threshold)))
    _output(nodes, operator, nodes.add("Greater", _matrix(nodes, operator, DOUBLE), threshold))


def filled(before: Convert, scope: Any, operator: Any, container: Any) -> None:  # noqa: ANN401
    """SimpleImputer of numbers, in 64 bits too. Of anything else, skl2onnx's own."""
    model = operator.raw_operator
    statistics = np.asarray(model.statistics_)
    numbers = statistics.dtype.kind == "f" and np.isfinite(statistics).all() and isinstance(model.missing_values, float | int)
    if not numbers or model.add_indicator or len(operator.inputs) > 1:
        before(scope, operator, container)
        return
    nodes = Contained(scope, container)
    matrix = _matrix(nodes, operator, DOUBLE)
    missing = float(model.missing_values)
    gap = nodes.add("IsNaN", matrix) if np.isnan(missing) else nodes.add("Equal", matrix, nodes.constant(np.array(missing)))
    _output(nodes, operator, nodes.add("Where", gap, nodes.constant(statistics.reshape(1, -1)), matrix))


def _matrix(nodes: Contained, operator: Any, kind: int) -> str:  # noqa: ANN401
    """The operator's input in a type."""
    from skl2onnx.common.data_types import guess_proto_type

    (given,) = operator.inputs
    name = str(given.full_name)
    return name if guess_proto_type(given.type) == kind and _exactly(given.type, kind) else nodes.add("Cast", name, to=kind)


def _exactly(given: Any, kind: int) -> bool:  # noqa: ANN401
    """Whether a type is this one: skl2onnx takes whole numbers for floats."""
    return type(given).__name__ == {FLOAT: "FloatTensorType", DOUBLE: "DoubleTensorType"}[kind]


def _output(nodes: Contained, operator: Any, name: str, at: int = 0) -> None:  # noqa: ANN401
    from skl2onnx.common.data_types import guess_proto_type

    output = operator.outputs[at]
    nodes.add("Cast", name, to=guess_proto_type(output.type), out=output.full_name)


def _classified(nodes: Contained, operator: Any, probabilities: str, *, by: str = "", place: str = "") -> None:  # noqa: ANN401
    """A classifier's label and probabilities. The label is the likeliest class, the first of them, unless its place is given."""
    place = place or nodes.add("ArgMax", by or probabilities, axis=1, keepdims=0)
    labels(nodes, place, np.asarray(operator.raw_operator.classes_), operator.outputs[0].full_name)
    _output(nodes, operator, probabilities, 1)
