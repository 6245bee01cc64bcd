"""Graphs that answered otherwise than their models, each the smallest of its kind, in the platform's server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from model_runner.models import LoadedModel
from version_checks import attempt
from version_checks.comparison import Comparer
from version_checks.estimators import Estimator
from version_checks.fields import Field
from version_checks.onnx_conversion import CONVERTED
from version_checks.sampling import Sampler
from version_checks.splits import jumps

from tests.conversion_search.candidates import Candidate
from tests.conversion_search.judging import Served, borders, differing, original
from tests.conversion_search.special import wrong_specials
from tests.conversion_search.worlds import World
from tests.support.serving import save_onnx

NOWHERE = World({}, {}, {})


def normal(random: Any, rows: int) -> pd.DataFrame:
    return pd.DataFrame(random.normal(size=(rows, 3)), columns=list("abc"))


def day(random: Any, rows: int) -> pd.DataFrame:
    """Seconds of one day, which 32 bits do not hold, and a number."""
    return pd.DataFrame({"t": 1_700_000_000 + random.integers(0, 86400, rows), "a": random.normal(size=rows)})


def odd_minutes(table: pd.DataFrame) -> Any:
    return (((table["t"] // 600) % 2 == 0) ^ (table["a"] > 1)).astype(int)


def lightgbm(**options: Any) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(verbose=-1, n_jobs=1, **options)


def xgboost(**options: Any) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_jobs=1, **options)


def forest(trees: int, **options: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(trees, random_state=0, **options)


def boosted() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=20)


def scaled(last: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), last)


def bins() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer

    edges = KBinsDiscretizer(8, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    return make_pipeline(edges, LogisticRegression())


def made(draw: Callable[[Any, int], pd.DataFrame], model: Any, target: Callable[[pd.DataFrame], Any]) -> Candidate:
    random = np.random.default_rng(0)
    table, fresh = draw(random, 2000), draw(random, 5000)
    flavor = type(model).__module__.partition(".")[0]
    return Candidate("", flavor, model.fit(table, target(table)), NOWHERE, table, fresh, "binary")


def examined(candidate: Candidate, folder: Path) -> Any:
    options: dict[str, Any] = {"serialization_format": "cloudpickle"} if candidate.flavor == "sklearn" else {}
    signature = mlflow.models.infer_signature(candidate.table)
    save = getattr(mlflow, candidate.flavor).save_model
    save(candidate.model, str(folder / "version"), signature=signature, pip_requirements=[], **options)
    version = mlflow.pyfunc.load_model(str(folder / "version"))
    return attempt.examine(version, candidate.table.head(5))


def positive(table: pd.DataFrame) -> Any:
    return (table["a"] + table["b"] > 0).astype(int)


def noisy(table: pd.DataFrame) -> Any:
    return (table["a"] + table["b"] + np.random.default_rng(1).normal(size=len(table)) > 0).astype(int)


CASES: dict[str, Callable[[], Candidate]] = {
    "LightGBM beyond 24 bits": lambda: made(day, lightgbm(n_estimators=200, num_leaves=63, min_child_samples=2), odd_minutes),
    "LightGBM behind a scaler": lambda: made(day, scaled(lightgbm(n_estimators=50)), odd_minutes),
    "XGBoost beyond 24 bits": lambda: made(day, xgboost(n_estimators=50), odd_minutes),
    "a forest beyond 24 bits": lambda: made(day, forest(20), odd_minutes),
    "boosting behind a scaler": lambda: made(day, scaled(boosted()), odd_minutes),
    "edges of bins": lambda: made(
        lambda random, rows: pd.DataFrame({"t": 1_000_000_000 + random.integers(0, 5000, rows)}),
        bins(),
        lambda table: (table["t"] // 1000) % 2,
    ),
    "sums of shares": lambda: made(normal, forest(10), positive),
    "missing in a forest": lambda: made(normal, forest(11, max_depth=4), lambda table: (table["a"] > 0.8).astype(int)),
    "ties": lambda: made(normal, forest(20), noisy),
    "small probabilities": lambda: made(normal, lightgbm(n_estimators=400, min_child_samples=1), positive),
    "refusals": lambda: made(normal, boosted(), positive),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_the_server_answers_from_a_graph_what_the_model_answers(case: Callable[[], Candidate], tmp_path: Path) -> None:
    """On rows that it never saw, on both sides of every split, and for NaN and infinities, what the model refuses included."""
    model = case()
    outcome, graph = await asyncio.to_thread(examined, model, tmp_path)
    assert (outcome.state, outcome.message) == (CONVERTED, outcome.message)

    async with Served(save_onnx(tmp_path / "graph", graph), model.table) as served:
        assert differing(original(model, model.fresh), await served.answer(model.fresh)) == {}
        beside = borders(model)
        assert beside is not None
        assert differing(original(model, beside), await served.answer(beside)) == {}
        assert await wrong_specials(model, served) == {}


@pytest.mark.parametrize("bag", [True, False])
async def test_the_shares_of_both_classes_are_added_up(bag: bool, tmp_path: Path) -> None:
    """To the last bit, each as the model does it: one taken from the other makes a tie of what is none, or none of a tie."""
    from sklearn.ensemble import BaggingClassifier
    from sklearn.tree import DecisionTreeClassifier

    trees = BaggingClassifier(DecisionTreeClassifier(max_depth=4), 10, random_state=0) if bag else forest(10, max_depth=4)
    model = made(normal, trees, noisy)
    outcome, graph = await asyncio.to_thread(examined, model, tmp_path)
    assert (outcome.state, outcome.message) == (CONVERTED, outcome.message)
    async with Served(save_onnx(tmp_path / "graph", graph), model.table) as served:
        _, probabilities, _, _ = await served.answer(model.fresh)
    assert np.array_equal(probabilities, model.model.predict_proba(model.fresh))


def test_small_probabilities_of_the_case_are_small(tmp_path: Path) -> None:
    """Without those, the comparison above would prove nothing of them."""
    candidate = CASES["small probabilities"]()
    assert original(candidate, candidate.fresh)[1].min() < 1e-7


async def test_numbers_that_add_up_to_one_by_chance_are_no_probabilities(tmp_path: Path) -> None:
    """A booster that tells each class from all others has one probability for no row, converted or not, rather than for a few."""
    random = np.random.default_rng(2)
    booster = lightgbm(objective="multiclassova", n_estimators=10)
    candidate = made(normal, booster, lambda table: np.digitize(table["a"] + random.normal(size=len(table)), [-0.5, 0.5]))
    shares = candidate.model.predict_proba(candidate.fresh)
    by_chance = np.abs(shares.sum(axis=1) - 1) < 1e-3
    assert 0 < by_chance.sum() < 100
    outcome, graph = await asyncio.to_thread(examined, candidate, tmp_path)
    assert (outcome.state, outcome.message) == (CONVERTED, outcome.message)
    async with Served(save_onnx(tmp_path / "graph", graph), candidate.table) as served:
        _, outputs, told, _ = await served.answer(candidate.fresh)
    assert told is None
    assert np.allclose(outputs, shares, atol=1e-6)

    version = mlflow.pyfunc.load_model(str(tmp_path / "version"))
    loaded = LoadedModel(version, created=1, folder=TemporaryDirectory())
    answer = loaded.predict({name: candidate.fresh[name].head(20).tolist() for name in "abc"})
    assert answer["outputs"]["probability"] == shares[:20].tolist()
    assert "classes" not in answer


RANGES: dict[str, Callable[[Any, int], Any]] = {
    "seconds of one day": lambda random, rows: 1_700_000_000.0 + random.integers(0, 86400, rows),
    "years": lambda random, rows: random.integers(1990, 2026, rows).astype(float),
    "latitudes": lambda random, rows: random.uniform(47, 55, rows),
    "standard normal": lambda random, rows: random.normal(size=rows),
}


@pytest.mark.parametrize("draw", RANGES.values(), ids=RANGES.keys())
def test_half_of_the_made_up_rows_lie_within_the_range_of_the_example(draw: Callable[[Any, int], Any]) -> None:
    """A comparison far from where the data lies says nothing about the model."""
    values = draw(np.random.default_rng(0), 20)
    sampler = Sampler([Field("x", "double")], [[value] for value in values.tolist()], {}, {})
    rows = sampler.made_up()
    assert sampler.within(rows) == sum(values.min() <= row[0] <= values.max() for row in rows) >= len(rows) / 2
    assert sampler.within(rows) < len(rows)


@pytest.fixture
def rounding() -> tuple[Any, Callable[[float], Any]]:
    """A model of one column with a threshold, asked through anything that rounds what it is given."""

    def ask(rows: Any, shift: float = 0.0) -> list[dict[str, Any]]:
        return [{"prediction": int(row[0] > 1_700_000_000.5 + shift)} for row in rows]

    return ask, lambda shift: lambda rows: ask(rows, shift)


def comparer(ask: Any, values: Any) -> Comparer:
    class Model:
        classes_ = np.array([0, 1])

    rows = [[1_700_000_000 + at * 1000] for at in range(5)]
    estimator = Estimator("sklearn", "predict", Model())
    return Comparer(ask, estimator, [Field("t", "long")], rows, known={}, jumps={0: np.array(values)})


def test_a_split_that_is_off_by_one_is_found(rounding: Any) -> None:
    """Whole numbers on both sides of every split are among the rows that are compared."""
    ask, shifted = rounding
    found = comparer(ask, [1_700_000_000.5])
    assert found.compare(shifted(0.0)).fault == ""
    assert "rows differ" in found.compare(shifted(0.7)).fault
    assert "rows differ" in found.compare(shifted(-0.7)).fault


def test_jumps_are_followed_through_a_scaler() -> None:
    """The values beside a threshold behind a scaler are neighbours in 64 bits."""
    candidate = made(normal, scaled(boosted()), positive)
    fields = [Field(name, "double") for name in "abc"]
    found = jumps(candidate.model, fields, candidate.table.head(5).to_numpy().tolist())
    values = found[0]
    assert len(values) > 10
    for low, high in zip(values[::2].tolist(), values[1::2].tolist(), strict=True):
        assert high == math.nextafter(low, math.inf)


def test_more_ties_than_a_few_are_a_difference() -> None:
    """Where two classes are equally likely, rounding may take the other one once, but not for three rows of a hundred."""

    class Model:
        classes_ = np.array([0, 1])

        def predict_proba(self, _: Any) -> Any:
            """Makes it a classifier with probabilities."""

    def ask(rows: Any, share: float = 0.0) -> list[dict[str, Any]]:
        return [{"prediction": int(row[0] % 1 < share), "probability": [0.5, 0.5]} for row in rows]

    estimator = Estimator("sklearn", "predict", Model())
    found = Comparer(ask, estimator, [Field("x", "double")], [[float(at)] for at in range(5)], known={}, jumps={})
    assert found.compare(ask).fault == ""
    assert "two classes are equally likely, and the graph takes the other one" in found.compare(lambda rows: ask(rows, 0.5)).fault
