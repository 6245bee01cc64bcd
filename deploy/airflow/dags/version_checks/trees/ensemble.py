"""Trees whatever library they come from, and the nodes that evaluate them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from version_checks.trees.nodes import ML, Nodes

Array = npt.NDArray[Any]

LEQ, LT, EQ = 0, 1, 4
"""Modes of ai.onnx.ml's TreeEnsemble: a row goes left if its value is at most, less than, or equal to the threshold."""

_NAMES = {LEQ: "BRANCH_LEQ", LT: "BRANCH_LT", EQ: "BRANCH_EQ"}


@dataclass(frozen=True)
class Tree:
    """One tree, an entry a node, the root first. A node without children is a leaf: `left` is negative there.

    `values` has a row for each node, with a number for each target that the tree adds to; `target` is the first of them.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    nan_left: Array
    values: Array
    target: int = 0
    mode: Array | None = None

    @property
    def modes(self) -> Array:
        """Each node's mode."""
        return np.full(len(self.feature), LEQ) if self.mode is None else self.mode


@dataclass(frozen=True)
class Ensemble:
    """A sum of trees, for each of some targets.

    `dtype` is the type that the library compares and adds in. `categories` are features of which the whole part is compared for
    equality; in `zeros_missing`, zero counts as missing.
    """

    trees: Sequence[Tree]
    targets: int
    dtype: type[np.floating[Any]] = np.float64
    categories: frozenset[int] = frozenset()
    zeros_missing: frozenset[int] = frozenset()
    base: Sequence[float] = field(default=())
    """What the sum begins with, for each target; nothing stands for zero."""

    def splits(self) -> list[tuple[int, Array]]:
        """The thresholds of every feature that is compared by size, each once, sorted."""
        found: dict[int, list[Array]] = {}
        for tree in self.trees:
            inner = (tree.left >= 0) & (tree.modes != EQ)
            for feature in np.unique(tree.feature[inner]).tolist():
                found.setdefault(feature, []).append(tree.threshold[inner & (tree.feature == feature)])
        return [(feature, np.unique(np.concatenate(parts))) for feature, parts in sorted(found.items())]


def evaluate(nodes: Nodes, ensemble: Ensemble, matrix: str, width: int) -> str:
    """Add the nodes that sum the trees up for a matrix of the ensemble's type with so many columns; give the sums' name.

    The sums are of the ensemble's type, [N, targets].
    """
    matrix = _prepared(nodes, ensemble, matrix, width)
    # The base comes first, as in the libraries: another order would round otherwise.
    bases = [_constant(value, at, ensemble.dtype) for at, value in enumerate(ensemble.base) if value]
    trees = [*bases, *ensemble.trees]
    if nodes.trees_version < 5:  # noqa: PLR2004  # the version of ai.onnx.ml
        return _cast(nodes, _regressor(nodes, trees, ensemble, matrix), ensemble.dtype)
    return _ensemble(nodes, [single for tree in trees for single in _singles(tree)], ensemble, matrix)


def _constant(value: float, target: int, dtype: type[np.floating[Any]]) -> Tree:
    none, no = np.array([-1]), np.array([False])
    return Tree(np.array([0]), np.array([0.0]), none, none, no, np.array([[value]], dtype), target)


def _singles(tree: Tree) -> list[Tree]:
    """A tree for each target: leaves of TreeEnsemble add to one only."""
    return [
        Tree(
            tree.feature, tree.threshold, tree.left, tree.right, tree.nan_left, tree.values[:, [at]], tree.target + at, tree.mode
        )
        for at in range(tree.values.shape[1])
    ]


def _prepared(nodes: Nodes, ensemble: Ensemble, matrix: str, width: int) -> str:
    if ensemble.categories:
        whole = nodes.add("Mul", nodes.add("Sign", matrix), nodes.add("Floor", nodes.add("Abs", matrix)))
        matrix = nodes.add("Where", nodes.constant(_mask(ensemble.categories, width)), whole, matrix)
    if ensemble.zeros_missing:
        least = nodes.constant(np.array(float(np.float32(1e-35)), ensemble.dtype))
        zero = nodes.add("LessOrEqual", nodes.add("Abs", matrix), least)
        zero = nodes.add("And", zero, nodes.constant(_mask(ensemble.zeros_missing, width)))
        matrix = nodes.add("Where", zero, nodes.constant(np.array(np.nan, ensemble.dtype)), matrix)
    return matrix


def _mask(features: frozenset[int], width: int) -> Array:
    return np.array([[at in features for at in range(width)]])


def _cast(nodes: Nodes, name: str, dtype: type[np.floating[Any]]) -> str:
    from onnx import helper

    return name if dtype is np.float32 else nodes.add("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _ensemble(nodes: Nodes, trees: Sequence[Tree], ensemble: Ensemble, matrix: str) -> str:
    """One TreeEnsemble. Its inner nodes and its leaves are numbered apart, over all trees."""
    roots, leaves, inner = [], 0, 0
    parts: dict[str, list[Array]] = {}

    def take(**arrays: Array) -> None:
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array)

    for each in trees:
        tree = _with_a_split(each)
        leaf = tree.left < 0
        place = np.where(leaf, np.cumsum(leaf) - 1 + leaves, np.cumsum(~leaf) - 1 + inner)
        roots.append(inner)
        left, right = tree.left[~leaf], tree.right[~leaf]
        take(
            featureids=tree.feature[~leaf],
            splits=tree.threshold[~leaf],
            modes=tree.modes[~leaf],
            nan=tree.nan_left[~leaf],
            trues=place[left],
            falses=place[right],
            true_leaf=leaf[left],
            false_leaf=leaf[right],
            target=np.full(leaf.sum(), tree.target),
            weight=tree.values[leaf, 0],
        )
        leaves, inner = leaves + int(leaf.sum()), inner + int((~leaf).sum())
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def numbers(name: str) -> list[int]:
        return whole[name].astype(np.int64).tolist()  # type: ignore[no-any-return]

    return nodes.add(
        "TreeEnsemble",
        matrix,
        domain=ML,
        n_targets=ensemble.targets,
        aggregate_function=1,
        post_transform=0,
        tree_roots=roots,
        nodes_featureids=numbers("featureids"),
        nodes_splits=numpy_helper.from_array(whole["splits"].astype(ensemble.dtype), "splits"),
        nodes_modes=numpy_helper.from_array(whole["modes"].astype(np.uint8), "modes"),
        nodes_missing_value_tracks_true=numbers("nan"),
        nodes_truenodeids=numbers("trues"),
        nodes_falsenodeids=numbers("falses"),
        nodes_trueleafs=numbers("true_leaf"),
        nodes_falseleafs=numbers("false_leaf"),
        leaf_targetids=numbers("target"),
        leaf_weights=numpy_helper.from_array(whole["weight"].astype(ensemble.dtype), "weights"),
    )


def _with_a_split(tree: Tree) -> Tree:
    """The tree; one that is a leaf alone gets a split between two of its kind, because a root cannot be a leaf."""
    if tree.left[0] >= 0:
        return tree
    three = np.zeros(3, np.int64)
    return Tree(
        three,
        np.zeros(3),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.zeros(3, bool),
        np.repeat(tree.values[:1], 3, axis=0),
        tree.target,
    )


def _regressor(nodes: Nodes, trees: Sequence[Tree], ensemble: Ensemble, matrix: str) -> str:
    """One TreeEnsembleRegressor with thresholds and sums of the ensemble's type; what it gives has 32 bits."""
    count = np.array([len(tree.feature) for tree in trees])
    leaf = [tree.left < 0 for tree in trees]
    values = np.concatenate([np.where(at_end, 0.0, tree.threshold) for tree, at_end in zip(trees, leaf, strict=True)])
    modes = [
        [("LEAF" if end else _NAMES[mode]) for mode, end in zip(tree.modes.tolist(), at_end.tolist(), strict=True)]
        for tree, at_end in zip(trees, leaf, strict=True)
    ]
    ends = [np.flatnonzero(at_end) for at_end in leaf]
    widths = [tree.values.shape[1] for tree in trees]
    weights = np.concatenate([tree.values[end].ravel() for tree, end in zip(trees, ends, strict=True)])
    targets = [
        np.tile(np.arange(tree.target, tree.target + wide), len(end)) for tree, wide, end in zip(trees, widths, ends, strict=True)
    ]

    def whole(arrays: Sequence[Array]) -> list[int]:
        return np.concatenate(arrays).astype(np.int64).tolist()  # type: ignore[no-any-return]

    double = ensemble.dtype is np.float64
    typed: dict[str, Any] = (
        {
            "nodes_values_as_tensor": numpy_helper.from_array(values.astype(np.float64), "values"),
            "target_weights_as_tensor": numpy_helper.from_array(weights.astype(np.float64), "weights"),
        }
        if double
        else {
            "nodes_values": values.astype(np.float32).tolist(),
            "target_weights": weights.astype(np.float32).tolist(),
        }
    )
    return nodes.add(
        "TreeEnsembleRegressor",
        matrix,
        domain=ML,
        n_targets=ensemble.targets,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=np.repeat(np.arange(len(trees)), count).tolist(),
        nodes_nodeids=whole([np.arange(size) for size in count]),
        nodes_featureids=whole([np.where(end, 0, tree.feature) for tree, end in zip(trees, leaf, strict=True)]),
        nodes_modes=[mode for part in modes for mode in part],
        nodes_truenodeids=whole([np.maximum(tree.left, 0) for tree in trees]),
        nodes_falsenodeids=whole([np.maximum(tree.right, 0) for tree in trees]),
        nodes_missing_value_tracks_true=whole([tree.nan_left for tree in trees]),
        target_treeids=whole([np.full(len(end) * wide, at) for at, (end, wide) in enumerate(zip(ends, widths, strict=True))]),
        target_nodeids=whole([np.repeat(end, wide) for end, wide in zip(ends, widths, strict=True)]),
        target_ids=whole(targets),
        **typed,
    )
