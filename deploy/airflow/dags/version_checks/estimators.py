"""What is inside a version: the estimator that a converter can look into, and what that knows of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from version_checks.fields import Field, NotConvertible
from version_checks.trees.of_sklearn import leaves_of_one_class

LIBRARIES = {"sklearn": "scikit-learn", "lightgbm": "LightGBM", "xgboost": "XGBoost"}
"""MLflow's flavours that can be converted, and whose they are."""

FUNCTIONS = ("predict", "predict_proba")
"""What MLflow may have been told to call, if it is to be converted."""


MOST_COPIES = 16
"""Of a forest's trees: one for each class."""


@dataclass(frozen=True)
class Estimator:
    """An estimator of one of the libraries."""

    library: str
    function: str
    model: Any

    @property
    def name(self) -> str:
        """Its class, for a person."""
        return f"{LIBRARIES[self.library]}'s {type(self.last).__name__}"

    @property
    def last(self) -> Any:  # noqa: ANN401  # any estimator
        """The step that gives the answer."""
        model = self.model
        while True:
            if hasattr(model, "best_estimator_"):
                model = model.best_estimator_
            elif getattr(model, "steps", None):
                model = model.steps[-1][1]
            else:
                return model

    @property
    def steps(self) -> Any:  # noqa: ANN401  # scikit-learn's Pipeline, which is a list of steps; None if there is only one
        """The steps on the way to the answer."""
        model = getattr(self.model, "best_estimator_", self.model)
        return model if len(getattr(model, "steps", None) or ()) > 1 else None

    @property
    def booster(self) -> bool:
        """Whether it is a bare booster, which gives numbers where an estimator would give labels."""
        return type(self.model).__name__ == "Booster"

    @property
    def classes(self) -> Any:  # noqa: ANN401  # an array, or a list of arrays for several outputs
        """The classes that it tells apart; None if it does not."""
        return None if self.booster else getattr(self.model, "classes_", None)

    @property
    def tells_probabilities(self) -> bool:
        """Whether the serving side would tell each class's probability beside the prediction."""
        several = isinstance(self.classes, list)
        return self.classes is not None and not several and callable(getattr(self.model, "predict_proba", None))

    @property
    def one_against_all(self) -> bool:
        """Whether it tells each class apart from all others, so that its numbers for a row do not add up to one."""
        params: dict[str, Any] = getattr(self.last, "get_params", dict)()
        return str(params.get("objective")).lower() in ("multiclassova", "multiclass_ova", "ova", "ovr")

    @property
    def shared_leaves(self) -> bool:
        """Whether leaves with a number for each class stand for the model: if of several classes each leaf has one alone.

        ONNX Runtime adds such leaves up in 32 bits, which is exact for counts and not for shares. Beyond `MOST_COPIES` classes
        they are taken all the same.
        """
        last = self.last
        if not type(last).__module__.startswith(("sklearn.tree", "sklearn.ensemble._forest", "sklearn.ensemble._bagging")):
            return False
        parts = [getattr(part, "tree_", None) for part in getattr(last, "estimators_", [last])]
        classes = len(getattr(last, "classes_", ()))
        return classes > 2 and (classes > MOST_COPIES or (None not in parts and leaves_of_one_class(parts)))  # noqa: PLR2004


def estimator_of(model: Any, flavors: dict[str, Any]) -> Estimator:  # noqa: ANN401  # an MLflow pyfunc model
    """The estimator in a version.

    Raises:
        NotConvertible: it is of another kind.
    """
    library = next((name for name in LIBRARIES if name in flavors), None)
    if library is None:
        kinds = ", ".join(sorted(set(flavors) - {"python_function"})) or "python_function"
        raise NotConvertible(f"Models of the flavour {kinds} have no converter; {_listed(LIBRARIES.values())} have one.")
    function = str(flavors.get("python_function", {}).get("predict_fn") or "predict")
    if function not in FUNCTIONS:
        raise NotConvertible(f"It was logged to answer with {function}, and only {_listed(FUNCTIONS)} can be converted.")
    return Estimator(library, function, model.get_raw_model())


def takes_columns(model: Any) -> bool:  # noqa: ANN401  # any estimator
    """Whether it picks columns out of a table before it does anything else."""
    if hasattr(model, "best_estimator_"):
        return takes_columns(model.best_estimator_)
    if getattr(model, "steps", None):
        steps = [step for _, step in model.steps if step not in (None, "passthrough")]
        return bool(steps) and takes_columns(steps[0])
    if hasattr(model, "transformer_list"):
        return any(takes_columns(part) for _, part in model.transformer_list)
    return hasattr(model, "transformers_")


def categories_of(model: Any, fields: Sequence[Field]) -> dict[str, list[Any]]:  # noqa: ANN401  # any estimator
    """The values that its encoders know, by column."""
    found: dict[str, list[Any]] = {}
    _gather(model, [field.name for field in fields], found)
    return found


def _gather(model: Any, columns: list[str], found: dict[str, list[Any]]) -> None:  # noqa: ANN401
    """Follow the columns through the steps, as long as these keep one column for each."""
    if hasattr(model, "best_estimator_"):
        _gather(model.best_estimator_, columns, found)
    for _, step in getattr(model, "steps", None) or ():
        _gather(step, columns, found)
    for _, part in getattr(model, "transformer_list", None) or ():
        _gather(part, columns, found)
    for _, part, chosen in getattr(model, "transformers_", None) or ():
        _gather(part, _names(chosen, columns), found)
    known = getattr(model, "categories_", None)
    if known is not None and len(known) == len(columns):
        for name, values in zip(columns, known, strict=True):
            found.setdefault(name, [value for value in values.tolist() if value is not None and value == value])  # noqa: PLR0124  # NaN


def columns_at(chosen: Any, columns: list[str]) -> list[int]:  # noqa: ANN401
    """The positions of the columns that a step of a ColumnTransformer chose."""
    names = _names(chosen, columns)
    return [columns.index(name) for name in names if name in columns]


def _names(chosen: Any, columns: list[str]) -> list[str]:  # noqa: ANN401  # as scikit-learn lets columns be chosen
    if isinstance(chosen, slice):
        return columns[chosen] if not isinstance(chosen.start, str) else []
    if isinstance(chosen, str | int):
        chosen = [chosen]
    if all(isinstance(each, bool) for each in chosen):
        return [name for name, taken in zip(columns, chosen, strict=True) if taken]
    return [columns[each] if isinstance(each, int) else str(each) for each in chosen]


def inside(model: Any) -> list[Any]:  # noqa: ANN401
    """The models that a model is made of."""
    found = [part for name in ("steps", "transformer_list") for _, part in getattr(model, name, None) or ()]
    found += [part for _, part, _ in getattr(model, "transformers_", None) or ()]
    # CalibratedClassifierCV keeps its fitted models under the name that others have for what they are made of.
    calibrated = ("estimator",) if type(model).__name__ == "_CalibratedClassifier" else ()
    names = ("best_estimator_", "estimator_", "regressor_", *calibrated)
    found += [getattr(model, name) for name in names if hasattr(model, name)]
    for name in ("estimators_", "calibrated_classifiers_"):
        several = getattr(model, name, None)
        if several is not None:
            found += list(getattr(several, "flat", several))
    return [part for part in found if part is not None and not isinstance(part, str)]


def looks_at_neighbours(model: Any) -> bool:  # noqa: ANN401
    """Whether something in it takes the nearest rows: which of several that are as near is up to the library."""
    if type(model).__module__.startswith("sklearn.neighbors") or type(model).__name__ == "KNNImputer":
        return True
    last = getattr(model, "final_estimator_", None)
    return any(looks_at_neighbours(part) for part in (*inside(model), *([] if last is None else [last])))


def rounding_of_votes(model: Any) -> float:  # noqa: ANN401
    """How far off what a support vector machine decides by may be in 32 bits, in which ONNX Runtime adds it up."""
    coefficients = getattr(model, "dual_coef_", None) if type(model).__name__ in ("SVC", "NuSVC") else None
    own = 0.0 if coefficients is None else float(abs(coefficients).sum(axis=1).max()) * 2.0**-24
    return max([own, *map(rounding_of_votes, inside(model))])


def rounding_of_sums(model: Any) -> float:  # noqa: ANN401
    """How far off a linear model's sum may be in 64 bits, when terms as large as its intercept cancel out.

    The library itself is as far off, in its own way: one row alone and the same row among others need not give the same.
    """
    intercept = getattr(model, "intercept_", None) if hasattr(model, "coef_") else None
    sizes = np.abs(np.ravel(np.asarray(0.0 if intercept is None else intercept, float)))
    return max([float(sizes.max(initial=0.0)) * 2.0**-52, *map(rounding_of_sums, inside(model))])


def _listed(words: Any) -> str:  # noqa: ANN401  # any iterable of words
    *others, last = words
    return f"{', '.join(others)} and {last}"
