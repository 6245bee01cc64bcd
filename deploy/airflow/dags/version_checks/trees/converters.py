"""Converts estimators whose answers come from trees: on their own, and as parts of what skl2onnx converts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from version_checks.fields import NotConvertible
from version_checks.trees import of_lightgbm, of_sklearn, of_xgboost
from version_checks.trees.ensemble import Ensemble, evaluate
from version_checks.trees.nodes import Nodes

FLOAT, DOUBLE = int(TensorProto.FLOAT), int(TensorProto.DOUBLE)


def sums(model: Any) -> Ensemble | None:  # noqa: ANN401  # any estimator
    """The trees of a fitted estimator; None if it is none of those that this module knows."""
    library, name = type(model).__module__.partition(".")[0], type(model).__name__
    if library == "lightgbm":
        return of_lightgbm.read(booster_of(model))[0]
    if library == "xgboost":
        return of_xgboost.read(booster_of(model))[0]
    found = SKLEARN.get(name) if library == "sklearn" else None
    # What others are made of may be there unfitted.
    fitted = any(hasattr(model, name) for name in ("tree_", "estimators_"))
    return found(model) if found and fitted else None


def booster_of(model: Any) -> Any:  # noqa: ANN401
    """The booster in an estimator of LightGBM's or XGBoost's, as far as it predicts."""
    if type(model).__name__ == "Booster":
        return model
    if hasattr(model, "booster_"):
        return model.booster_
    booster = model.get_booster()
    try:
        best = int(model.best_iteration)
    except AttributeError:
        return booster
    return booster[: best + 1]


def raw_lightgbm(nodes: Nodes, booster: Any, matrix: str, width: int) -> str:  # noqa: ANN401
    """What a booster of LightGBM predicts for a matrix of 64 bits, [N, targets].

    Raises:
        NotConvertible: its objective has no converter.
    """
    ensemble, objective, averaged = of_lightgbm.read(booster)
    raw = evaluate(nodes, ensemble, matrix, width)
    if averaged:
        rounds = np.array(float(max(1, len(ensemble.trees) // ensemble.targets)))
        raw = nodes.add("Div", raw, nodes.constant(rounds))
    name, options = (objective[0], dict(word.partition(":")[::2] for word in objective[1:])) if objective else ("", {})
    if name in ("binary", "multiclassova"):
        return sigmoid(nodes, raw, float(options["sigmoid"]))
    if name == "multiclass":
        return softmax(nodes, raw)
    if name == "cross_entropy":
        return sigmoid(nodes, raw)
    if name in ("poisson", "gamma", "tweedie"):
        return nodes.add("Exp", raw)
    if name == "cross_entropy_lambda":
        raise NotConvertible("LightGBM's objective cross_entropy_lambda has no converter.")
    if "sqrt" in options:
        return nodes.add("Mul", nodes.add("Mul", raw, raw), nodes.add("Sign", raw))
    return raw


def raw_xgboost(nodes: Nodes, booster: Any, matrix: str, width: int) -> tuple[str, str]:  # noqa: ANN401
    """What a booster of XGBoost predicts for a matrix of 32 bits, [N, targets], in 32 bits too, and its objective.

    Raises:
        NotConvertible: its objective has no converter.
    """
    ensemble, objective = of_xgboost.read(booster)
    raw = evaluate(nodes, ensemble, matrix, width)
    if objective in ("binary:logistic", "reg:logistic", "multi:softprob", *of_xgboost.EXPONENTIAL):
        # In 64 bits, as ONNX Runtime's functions of 32 are further from the library's than the rounding at the end.
        wide = nodes.add("Cast", raw, to=DOUBLE)
        functions: dict[str, Callable[[Nodes, str], str]] = {"multi:softprob": softmax}
        told = functions.get(objective, _exp if objective in of_xgboost.EXPONENTIAL else sigmoid)(nodes, wide)
        return nodes.add("Cast", told, to=FLOAT), objective
    if objective.startswith(("multi:", "binary:hinge", "survival:aft")):
        raise NotConvertible(f"XGBoost's objective {objective} has no converter.")
    return raw, objective


def with_gaps(nodes: Nodes, matrix: str, missing: Any) -> str:  # noqa: ANN401  # a number, or None
    """A matrix of 32 bits with NaN in place of a value that XGBoost was told to take for missing."""
    if missing is None or np.isnan(missing):
        return matrix
    gap = nodes.add("Equal", matrix, nodes.constant(np.array(missing, np.float32)))
    return nodes.add("Where", gap, nodes.constant(np.array(np.nan, np.float32)), matrix)


def sigmoid(nodes: Nodes, raw: str, scale: float = 1.0) -> str:
    """1 / (1 + exp(-x)). ONNX Runtime's own Sigmoid loses small probabilities: it takes them from one."""
    opposite = nodes.add("Neg", raw) if scale == 1 else nodes.add("Mul", raw, nodes.constant(np.array(-scale)))
    return nodes.add("Reciprocal", nodes.add("Add", nodes.add("Exp", opposite), nodes.constant(np.array(1.0))))


def softmax(nodes: Nodes, raw: str) -> str:
    """Probabilities of several classes."""
    return nodes.add("Softmax", raw, axis=1)


def _exp(nodes: Nodes, raw: str) -> str:
    return nodes.add("Exp", raw)


def both(nodes: Nodes, positive: str, one: Any) -> str:  # noqa: ANN401  # a number of the right type
    """The probabilities of two classes out of that of the second."""
    return nodes.add("Concat", nodes.add("Sub", nodes.constant(one), positive), positive, axis=1)


def labels(nodes: Nodes, place: str, classes: Any, out: str) -> None:  # noqa: ANN401  # an array
    """The classes at these places."""
    if classes.dtype.kind in "iub" and np.array_equal(classes, np.arange(len(classes))):
        nodes.add("Identity", place, out=out)
        return
    if classes.dtype.kind == "f" and not np.array_equal(classes, np.rint(classes)):
        raise NotConvertible("Its classes are numbers with fractions, which no converter takes.")
    nodes.add("Gather", nodes.constant(classes.astype(str if classes.dtype.kind in "OU" else np.int64)), place, out=out)


def forest(model: Any) -> Ensemble:  # noqa: ANN401
    """The sum over a tree, a forest, or bagged trees: of their numbers, or of their shares of the classes."""
    trees = [tree.tree_ for tree in getattr(model, "estimators_", [model])]
    classes = len(model.classes_) if hasattr(model, "classes_") else 0
    if classes == 2 and (len(trees) == 1 or of_sklearn.leaves_of_one_class(trees)):  # noqa: PLR2004
        # The second one's sum gives the first one's to the last bit, so that ties stay ties.
        return of_sklearn.read(trees, targets=1, columns=slice(1, 2))
    return of_sklearn.read(trees, targets=classes or int(getattr(model, "n_outputs_", 1)))


def _boosting(model: Any) -> Ensemble:  # noqa: ANN401
    """Gradient boosting. What it begins with is the same for every row, unless it has an estimator of its own for that."""
    trees = [tree.tree_ for tree in model.estimators_.ravel()]
    targets = model.estimators_.shape[1]
    start = _start(model)
    base = np.zeros(targets) if start is None else start
    return of_sklearn.read(trees, targets=targets, scale=float(model.learning_rate), base=base.tolist())


def _start(model: Any) -> Any:  # noqa: ANN401
    if type(model.init_).__name__ not in ("DummyClassifier", "DummyRegressor", "str"):
        return None
    return model._raw_predict_init(np.zeros((1, int(model.n_features_in_)), np.float32)).ravel()  # there is no other


def begins_alike(model: Any) -> bool:  # noqa: ANN401
    """Whether gradient boosting begins with the same number for every row."""
    return _start(model) is not None


_TREES = ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
SKLEARN: dict[str, Callable[[Any], Ensemble]] = {
    f"{name}{kind}": reader
    for names, reader in ((_TREES, forest), (("GradientBoosting",), _boosting))
    for name in names
    for kind in ("Classifier", "Regressor")
}
