"""Reads XGBoost's trees. It compares, adds and transforms in 32 bits."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from version_checks.fields import NotConvertible
from version_checks.trees.ensemble import LT, Ensemble, Tree

LOGISTIC = ("binary:logistic", "reg:logistic", "binary:logitraw")
EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")


def read(booster: Any) -> tuple[Ensemble, str]:  # noqa: ANN401  # a Booster of XGBoost
    """The trees, and the objective.

    Raises:
        NotConvertible: it has no trees, or trees of a kind that has no converter.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    about, objective = learner["learner_model_param"], learner["objective"]["name"]
    boosted = learner["gradient_booster"]
    if boosted["name"] not in ("gbtree", "dart"):
        raise NotConvertible(f"XGBoost's booster {boosted['name']} has no converter.")
    drops = boosted.get("weight_drop")
    model = boosted["gbtree"]["model"] if "gbtree" in boosted else boosted["model"]
    if int(about.get("num_target") or 1) > 1 or any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in model["trees"]):
        raise NotConvertible("XGBoost's models of several targets have no converter.")
    if any(tree["categories_nodes"] for tree in model["trees"]):
        raise NotConvertible("XGBoost's trees that split categories have no converter.")
    targets = max(1, int(about["num_class"]))
    weights = [1.0] * len(model["trees"]) if drops is None else drops
    trees = [_tree(tree, *about_it) for tree, *about_it in zip(model["trees"], model["tree_info"], weights, strict=True)]
    return Ensemble(trees, targets, np.float32, base=_base(about["base_score"], objective, targets)), objective


def _tree(tree: dict[str, Any], target: int, weight: float) -> Tree:
    conditions = np.array(tree["split_conditions"], np.float32)
    left = np.array(tree["left_children"])
    return Tree(
        np.array(tree["split_indices"]),
        conditions.astype(np.float64),
        left,
        np.array(tree["right_children"]),
        np.array(tree["default_left"], bool),
        (conditions * np.float32(weight)).reshape(-1, 1),
        target,
        np.full(len(left), LT),
    )


def _base(text: str, objective: str, targets: int) -> list[float]:
    """What the sums begin with. XGBoost keeps it as it comes out of the objective's own transformation."""
    with np.errstate(divide="ignore"):
        scores = np.array([float(score) for score in text.strip("[]").split(",")], np.float32)
        if objective in LOGISTIC:
            scores = -np.log(np.float32(1) / scores - np.float32(1))
        elif objective in EXPONENTIAL:
            scores = np.log(scores)
    return [float(score) for score in np.broadcast_to(scores, targets)]
