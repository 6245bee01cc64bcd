"""What is inside a version: the estimator that a converter can look into, and what that knows of its columns."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from version_checks.fields import Field, NotConvertible

LIBRARIES = {"sklearn": "scikit-learn", "lightgbm": "LightGBM", "xgboost": "XGBoost"}
"""MLflow's flavours that can be converted, and whose they are."""

FUNCTIONS = ("predict", "predict_proba")
"""What MLflow may have been told to call, if it is to be converted."""

TREES = ("sklearn.ensemble", "sklearn.tree", "lightgbm", "xgboost")
"""Where estimators live that compare numbers of 32 bits: with more, a graph would answer otherwise than they do."""


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
    def of_trees(self) -> bool:
        """Whether trees give the answer."""
        return type(self.last).__module__.startswith(TREES)


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


def without_names(model: Any) -> Any:  # noqa: ANN401  # any estimator
    """A copy whose XGBoost parts call their columns by number, as their converter wants them."""
    changed = copy.deepcopy(model)
    for part in _parts(changed):
        if type(part).__module__.startswith("xgboost"):
            booster = part if type(part).__name__ == "Booster" else part.get_booster()
            booster.feature_names = None
    return changed


def splits_on_gaps(model: Any) -> bool:  # noqa: ANN401  # any estimator
    """Whether a tree of scikit-learn's asks whether a value is missing: skl2onnx never comes to an end with such a tree."""
    trees = (part.tree_ for part in _parts(model) if hasattr(part, "tree_"))
    return any(math.isinf(threshold) for tree in trees for threshold in getattr(tree, "threshold", ()))


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


def _names(chosen: Any, columns: list[str]) -> list[str]:  # noqa: ANN401  # as scikit-learn lets columns be chosen
    if isinstance(chosen, slice):
        return columns[chosen] if not isinstance(chosen.start, str) else []
    if isinstance(chosen, str | int):
        chosen = [chosen]
    if all(isinstance(each, bool) for each in chosen):
        return [name for name, taken in zip(columns, chosen, strict=True) if taken]
    return [columns[each] if isinstance(each, int) else str(each) for each in chosen]


def _parts(model: Any) -> Iterator[Any]:  # noqa: ANN401
    """A model and all models in it."""
    yield model
    inside = [part for name in ("steps", "transformer_list") for _, part in getattr(model, name, None) or ()]
    inside += [part for _, part, _ in getattr(model, "transformers_", None) or ()]
    inside += [getattr(model, name) for name in ("best_estimator_", "estimator_", "regressor_") if hasattr(model, name)]
    several = getattr(model, "estimators_", None)
    if several is not None:
        inside += list(getattr(several, "flat", several))
    for part in inside:
        if part is not None and not isinstance(part, str):
            yield from _parts(part)


def _listed(words: Any) -> str:  # noqa: ANN401  # any iterable of words
    *others, last = words
    return f"{', '.join(others)} and {last}"
