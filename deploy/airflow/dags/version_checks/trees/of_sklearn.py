"""Reads scikit-learn's trees. They compare numbers of 32 bits with thresholds of 64, and add in 64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from version_checks.trees.ensemble import Array, Ensemble, Tree


def read(
    trees: Sequence[Any], *, targets: int, columns: slice = slice(None), scale: float = 1.0, base: Sequence[float] = ()
) -> Ensemble:
    """The sum of some trees.

    Args:
        trees: what scikit-learn calls `tree_`, of all of them, one after the other for each target if there are several.
        targets: how many numbers the sum has.
        columns: which of a leaf's numbers count. If they are fewer than the targets, tree after tree adds to the next target.
        scale: what they are multiplied with.
        base: what the sum begins with, for each target.
    """
    found = []
    for at, tree in enumerate(trees):
        values = tree.value.reshape(len(tree.feature), -1)[:, columns]
        target = 0 if values.shape[1] == targets else at % targets
        found.append(_tree(tree, values * scale, target))
    return Ensemble(found, targets, base=base)


def leaves_of_one_class(trees: Sequence[Any]) -> bool:
    """Whether each leaf holds rows of one class, so that the sums of its shares are whole numbers and never rounded."""
    return all(bool(np.isin(tree.value[tree.children_left < 0], (0.0, 1.0)).all()) for tree in trees)


def votes(trees: Sequence[Any], weights: Sequence[float], classes: int) -> Ensemble:
    """The sum of trees that each vote for their likeliest class with a weight, and against the others with a share of it.

    Of two classes, only the votes for the second are summed up: those for the first are the opposite.
    """
    found = []
    for tree, weight in zip(trees, weights, strict=True):
        likeliest = tree.value.reshape(len(tree.feature), -1).argmax(axis=1)
        values = np.where(likeliest[:, None] == np.arange(classes), weight, -1 / (classes - 1) * weight)
        found.append(_tree(tree, values[:, 1:] if classes == 2 else values, 0))  # noqa: PLR2004
    return Ensemble(found, 1 if classes == 2 else classes)  # noqa: PLR2004


def _tree(tree: Any, values: Array, target: int) -> Tree:  # noqa: ANN401  # scikit-learn comes without types
    gaps = getattr(tree, "missing_go_to_left", None)
    none = np.zeros(len(tree.feature), bool)
    nan_left = none if gaps is None else np.asarray(gaps, bool)
    return Tree(
        np.maximum(tree.feature, 0), widened(tree.threshold), tree.children_left, tree.children_right, nan_left, values, target
    )


def widened(thresholds: Array) -> Array:
    """The largest doubles that are at most the thresholds once they are rounded to 32 bits.

    A double compared with these goes the way that it goes when it is rounded first and compared then.
    """
    thresholds = np.asarray(thresholds, np.float64)
    with np.errstate(over="ignore"):
        below = thresholds.astype(np.float32)
        below = np.where(below > thresholds, np.nextafter(below, np.float32(-np.inf)), below)
        above = np.nextafter(below, np.float32(np.inf))
        # What lies halfway goes to the neighbour whose last bit is zero.
        middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
        middle = np.where(middle.astype(np.float32) == below, middle, np.nextafter(middle, -np.inf))
    return np.where(np.isfinite(thresholds) & np.isfinite(above), middle, thresholds)
