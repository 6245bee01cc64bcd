"""Reads LightGBM's trees. It compares, adds and transforms in 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from version_checks.fields import NotConvertible
from version_checks.trees.ensemble import EQ, LEQ, Array, Ensemble, Tree

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_AT = 2
_ZERO = 1
"""What LightGBM's decision types say where zero counts as missing."""
_LEAST = float(np.float32(1e-35))


def read(booster: Any) -> tuple[Ensemble, list[str], bool]:  # noqa: ANN401  # a Booster of LightGBM
    """The trees that predict, the words of the objective, and whether the sum of the trees is to be averaged.

    Raises:
        NotConvertible: its leaves are linear models.
    """
    head, *parts = booster.model_to_string().partition("end of trees")[0].split("\nTree=")
    about = _entries(head)
    targets = int(about["num_tree_per_iteration"])
    zeros: set[int] = set()
    categories: set[int] = set()
    trees = [_tree(_entries(part), at % targets, zeros, categories) for at, part in enumerate(parts)]
    ensemble = Ensemble(trees, targets, categories=frozenset(categories), zeros_missing=frozenset(zeros))
    return ensemble, about.get("objective", "").split(), "average_output" in head.split("\n")


def _entries(text: str) -> dict[str, str]:
    return {name: value for name, found, value in (line.partition("=") for line in text.split("\n")) if found}


def _tree(entries: dict[str, str], target: int, zeros: set[int], categories: set[int]) -> Tree:
    if entries.get("is_linear", "0") != "0":
        raise NotConvertible("LightGBM's linear trees have no converter.")
    leaf_values = _numbers(entries, "leaf_value")
    if int(entries["num_leaves"]) == 1:
        none, no = np.array([-1]), np.array([False])
        return Tree(np.array([0]), np.array([0.0]), none, none, no, leaf_values[:1].reshape(1, 1), target)
    feature, threshold = _whole(entries, "split_feature"), _numbers(entries, "threshold")
    threshold = _past_zero(threshold)
    decision = _whole(entries, "decision_type")
    categorical = (decision & _CATEGORICAL) > 0
    missing = decision >> _MISSING_AT & 3
    # Where nothing counts as missing, NaN is compared as zero.
    nan_left = np.where(missing == 0, threshold >= 0, (decision & _DEFAULT_LEFT) > 0) & ~categorical
    zeros.update(feature[(missing == _ZERO) & ~categorical].tolist())
    categories.update(feature[categorical].tolist())
    inner = len(feature)
    # Negative children are leaves, from -1 on; here they come behind the inner nodes.
    left, right = (
        (np.where(side < 0, inner - 1 - side, side)) for side in (_whole(entries, "left_child"), _whole(entries, "right_child"))
    )
    ends = len(leaf_values)
    tree = Tree(
        _padded(feature, ends),
        _padded(threshold, ends),
        _padded(left, ends, -1),
        _padded(right, ends, -1),
        _padded(nan_left, ends),
        np.concatenate([np.zeros(inner), leaf_values]).reshape(-1, 1),
        target,
    )
    return _spelt_out(tree, np.flatnonzero(categorical), entries) if categorical.any() else tree


def _past_zero(threshold: Array) -> Array:
    """The thresholds, with those next to zero moved: LightGBM takes every number as small as `_LEAST` for zero."""
    threshold = np.where((threshold >= 0) & (threshold < _LEAST), _LEAST, threshold)
    return np.where((threshold < 0) & (threshold >= -_LEAST), np.nextafter(-_LEAST, -np.inf), threshold)


def _spelt_out(tree: Tree, categorical: Array, entries: dict[str, str]) -> Tree:
    """The tree with a chain of nodes, one a category, for each node that asks whether a category is in a set."""
    bounds, bits = _whole(entries, "cat_boundaries"), _whole(entries, "cat_threshold")
    feature, left, right, nan_left = (array.tolist() for array in (tree.feature, tree.left, tree.right, tree.nan_left))
    threshold, mode = tree.threshold.tolist(), [LEQ] * len(feature)
    for node in categorical.tolist():
        at = int(threshold[node])
        words = bits[bounds[at] : bounds[at + 1]].tolist()
        members = [32 * place + bit for place, word in enumerate(words) for bit in range(32) if word >> bit & 1]
        end, here = right[node], node
        for number, member in enumerate(members):
            if number:
                right[here] = here = len(feature)
                feature.append(feature[node])
                left.append(left[node])
                right.append(end)
                nan_left.append(False)
                threshold.append(0.0)
                mode.append(EQ)
            threshold[here], mode[here], right[here] = float(member), EQ, end
    values = np.concatenate([tree.values, np.zeros((len(feature) - len(tree.feature), 1))])
    return Tree(
        np.array(feature),
        np.array(threshold),
        np.array(left),
        np.array(right),
        np.array(nan_left),
        values,
        tree.target,
        np.array(mode),
    )


def _padded(array: Array, ends: int, value: int = 0) -> Array:
    return np.concatenate([array, np.full(ends, value, array.dtype)])


def _numbers(entries: dict[str, str], name: str) -> Array:
    return np.array([float(word) for word in entries[name].split()])


def _whole(entries: dict[str, str], name: str) -> Array:
    return np.array([int(word) for word in entries.get(name, "").split()], np.int64)
