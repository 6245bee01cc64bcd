"""Random models of the libraries that are converted, fitted in a random world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tests.conversion_search.worlds import Random, World, world

OBJECTIVES = ("binary", "multiclass", "regression")
FRESH = 5000
WORDS = 0.2
GAPS = 0.15

Make = Callable[[Random, str], Any]


@dataclass(frozen=True)
class Candidate:
    """A fitted model, what it was fitted on, and rows that it never saw."""

    name: str
    flavor: str
    model: Any
    world: World
    table: pd.DataFrame
    fresh: pd.DataFrame
    objective: str


def candidate(number: int) -> Candidate:
    """The candidate of a number, which is always the same."""
    random = np.random.default_rng([20260101, number])
    objective = str(random.choice(OBJECTIVES))
    families = [name for name, (_, objectives) in FAMILIES.items() if objective in objectives]
    family = str(random.choice(families))
    piped = family not in BARE and random.random() < 0.5  # half of them
    here = world(random, words=piped and random.random() < WORDS / 0.5)
    table, fresh = here.table(random, int(random.integers(300, 2001))), here.table(random, FRESH)
    score = here.score(table, random)
    if family in TAKE_GAPS and not piped and random.random() < GAPS:
        name = next((name for name, kind in here.kinds.items() if kind in ("normal", "latitudes")), None)
        if name:
            table, fresh = (each.assign(**{name: each[name].mask(random.random(len(each)) < 0.1)}) for each in (table, fresh))
    make, _ = FAMILIES[family]
    model = make(random, objective)
    if getattr(model, "random_state", 0) is None:
        model.random_state = 0  # Else it would be another model each time.
    steps = _steps(random, here, table) if piped or "words" in here.kinds.values() else []
    target = _target(random, objective, score)
    if steps:
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(*steps, model)
    model.fit(table, target)
    fitted = getattr(model, "booster", model) if family in BARE else model
    flavor = "sklearn" if steps else FLAVORS.get(family.partition(" ")[0], "sklearn")
    name = " + ".join([*(type(step).__name__ for step in steps), family])
    return Candidate(name, flavor, fitted, here, table, fresh, objective)


def _target(random: Random, objective: str, score: Any) -> Any:
    if objective == "binary":
        return (score > np.quantile(score, random.uniform(0.2, 0.8))).astype(int)
    if objective == "multiclass":
        return np.digitize(score, np.quantile(score, [0.3, 0.7]))
    return score * float(random.choice([1, 1000, 0.01])) + float(random.choice([0, 5000]))


def _steps(random: Random, here: World, table: pd.DataFrame) -> list[Any]:
    from sklearn import preprocessing
    from sklearn.compose import make_column_transformer

    scalers = (
        preprocessing.StandardScaler,
        preprocessing.MinMaxScaler,
        preprocessing.RobustScaler,
        preprocessing.MaxAbsScaler,
        lambda: preprocessing.KBinsDiscretizer(
            int(random.integers(3, 9)), encode="onehot-dense", quantile_method="averaged_inverted_cdf"
        ),
    )
    scaler = scalers[int(random.integers(len(scalers)))]()
    words = [name for name, kind in here.kinds.items() if kind == "words"]
    if not words:
        return [scaler]
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    others = [name for name in table.columns if name not in words]
    return [make_column_transformer((encoder, words), (scaler, others))] if others else [encoder]


def _forests(name: str) -> Make:
    def make(random: Random, objective: str) -> Any:
        from sklearn import ensemble

        depth = [None, 4, 8][int(random.integers(3))]
        kind = "Regressor" if objective == "regression" else "Classifier"
        trees = int(random.choice([5, 10, 11, 20, 50]))
        return getattr(ensemble, name + kind)(trees, max_depth=depth, random_state=0)

    return make


def _sklearn(module: str, name: str, **options: Any) -> Make:
    def make(random: Random, objective: str) -> Any:
        import importlib

        kind = name.replace("*", "Regressor" if objective == "regression" else "Classifier")
        return getattr(importlib.import_module(f"sklearn.{module}"), kind)(**options)

    return make


def _lightgbm(random: Random, objective: str) -> Any:
    import lightgbm

    kind = lightgbm.LGBMRegressor if objective == "regression" else lightgbm.LGBMClassifier
    boosting = str(random.choice(["gbdt", "dart"], p=[0.8, 0.2]))
    trees, leaves = int(random.choice([20, 100, 200])), int(random.choice([7, 31, 63]))
    least = int(random.choice([1, 2, 20]))
    return kind(n_estimators=trees, num_leaves=leaves, min_child_samples=least, boosting_type=boosting, n_jobs=1, verbose=-1)


def _xgboost(random: Random, objective: str) -> Any:
    import xgboost

    kind = xgboost.XGBRegressor if objective == "regression" else xgboost.XGBClassifier
    return kind(n_estimators=int(random.choice([20, 100])), max_depth=int(random.choice([3, 6])), n_jobs=1)


class _Booster:
    """A bare booster, made where an estimator would be fitted."""

    def __init__(self, library: str, options: dict[str, Any], rounds: int) -> None:
        self._library, self._options, self._rounds = library, options, rounds

    def fit(self, table: Any, target: Any) -> None:
        if self._library == "lightgbm":
            import lightgbm

            self.booster: Any = lightgbm.train(self._options, lightgbm.Dataset(table, target), self._rounds)
        else:
            import xgboost

            self.booster = xgboost.train(self._options, xgboost.DMatrix(table, target), self._rounds)


def _bare(library: str) -> Make:
    objectives = {
        "lightgbm": {"binary": "binary", "multiclass": "multiclass", "regression": "regression"},
        "xgboost": {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"},
    }[library]

    def make(random: Random, objective: str) -> Any:
        options: dict[str, Any] = {"objective": objectives[objective]}
        options |= {"num_class": 3} if objective == "multiclass" else {}
        options |= {"verbose": -1, "num_threads": 1} if library == "lightgbm" else {"nthread": 1}
        return _Booster(library, options, int(random.choice([20, 100])))

    return make


_CLASSES, _ANY = OBJECTIVES[:2], OBJECTIVES
FAMILIES: dict[str, tuple[Make, tuple[str, ...]]] = {
    "LightGBM": (_lightgbm, _ANY),
    "XGBoost": (_xgboost, _ANY),
    "LightGBM booster": (_bare("lightgbm"), _ANY),
    "XGBoost booster": (_bare("xgboost"), _ANY),
    "RandomForest": (_forests("RandomForest"), _ANY),
    "ExtraTrees": (_forests("ExtraTrees"), _ANY),
    "GradientBoosting": (_sklearn("ensemble", "GradientBoosting*", n_estimators=50), _ANY),
    "DecisionTree": (_sklearn("tree", "DecisionTree*", max_depth=8), _ANY),
    "Bagging": (_sklearn("ensemble", "Bagging*"), _ANY),
    "AdaBoost": (_sklearn("ensemble", "AdaBoost*", n_estimators=10), _ANY),
    "HistGradientBoosting": (_sklearn("ensemble", "HistGradientBoosting*", max_iter=20), _ANY),
    "LogisticRegression": (_sklearn("linear_model", "LogisticRegression", max_iter=200), _CLASSES),
    "LinearRegression": (_sklearn("linear_model", "LinearRegression"), ("regression",)),
    "Ridge": (_sklearn("linear_model", "Ridge"), ("regression",)),
    "GaussianNB": (_sklearn("naive_bayes", "GaussianNB"), _CLASSES),
    "MLP": (_sklearn("neural_network", "MLP*", max_iter=20), _ANY),
    "SVC": (_sklearn("svm", "SVC"), _CLASSES),
    "KNeighbors": (_sklearn("neighbors", "KNeighbors*"), _ANY),
}
BARE = ("LightGBM booster", "XGBoost booster")
TAKE_GAPS = ("LightGBM", "XGBoost", "RandomForest", "DecisionTree", *BARE)
FLAVORS = {"LightGBM": "lightgbm", "XGBoost": "xgboost"}
