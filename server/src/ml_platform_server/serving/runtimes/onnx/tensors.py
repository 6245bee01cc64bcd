"""How a model's columns become the input tensors of its ONNX graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.serving.runtimes.onnx.column_tensors import stacked, tensor

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
Rows = Sequence[Sequence[object]]

# Below so many rows, plain Python is quicker than NumPy's ways for many.
FEW = 8

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
# Which kinds of column (numpy's letters: float, int, bool, text) fit into which kind of tensor. Text never becomes a number.
_FITS = {"f": "fib", "i": "ib", "u": "ib", "b": "b", "O": "O"}


class SignatureMismatchError(ValueError):
    """The graph's inputs and the signature's columns do not go together."""


class GraphInput(Protocol):
    """What ONNX Runtime tells of an input (onnxruntime.NodeArg)."""

    name: str
    type: str
    shape: list[object]


class InputBuilder(Protocol):
    """Builds the input tensors for N rows."""

    def feeds(self, rows: Rows) -> Feeds:
        """The tensors by name."""
        ...

    def column_feeds(self, columns: Sequence[Values], rows: int) -> Feeds:
        """The tensors by name, from whole columns."""
        ...

    def nullable(self, column: int) -> bool:
        """Whether the graph can be given a null for a column: only floating-point tensors can, as NaN."""
        ...

    def dtype(self, column: int) -> np.dtype[Any]:
        """The type of a column's tensor."""
        ...


def feeder(inputs: Sequence[GraphInput], columns: Sequence[Column]) -> InputBuilder:
    """Find out how to feed a graph.

    A graph whose inputs are called like columns gets one tensor a column. A graph with a single matrix gets all columns side by
    side, in the signature's order.

    Raises:
        SignatureMismatchError: neither is possible; the text says why.
    """
    places = {column.name: at for at, column in enumerate(columns)}
    if len(inputs) == len(columns) == 1:
        return _PerColumn([(inputs[0], 0)], columns)
    if all(each.name in places for each in inputs):
        return _PerColumn([(each, places[each.name]) for each in inputs], columns)
    if len(inputs) == 1:
        return MatrixInput(inputs[0], columns)
    unknown = ", ".join(each.name for each in inputs if each.name not in places)
    raise SignatureMismatchError(f"its graph wants {unknown}, which the signature does not have")


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: type[np.generic]
    tail: tuple[int, ...]  # the dimensions after the first, -1 where they vary

    @classmethod
    def of(cls, given: GraphInput) -> _Tensor:
        if given.type not in _DTYPES:
            raise SignatureMismatchError(f"its graph's input {given.name} is a {given.type}, which no column can be")
        tail = tuple(size if isinstance(size, int) else -1 for size in given.shape[1:])
        return cls(given.name, _DTYPES[given.type], tail)

    def accept(self, column: Column) -> None:
        if _kind(column) not in _FITS[np.dtype(self.dtype).kind]:
            raise SignatureMismatchError(f"its column {column.name} ({column.type}) does not fit the graph's input {self.name}")

    @property
    def nullable(self) -> bool:
        return np.dtype(self.dtype).kind == "f"


class MatrixInput:
    """Feeds a graph that takes all columns side by side in one matrix."""

    def __init__(self, given: GraphInput, columns: Sequence[Column]) -> None:
        self._tensor = _Tensor.of(given)
        width = self._tensor.tail[0] if len(self._tensor.tail) == 1 else 0
        if width not in (-1, len(columns)) or any(column.shape not in ((), (1,)) for column in columns):
            raise SignatureMismatchError(
                f"its graph's input {given.name} does not hold the signature's {len(columns)} columns side by side"
            )
        for column in columns:
            self._tensor.accept(column)
        self._flat = any(column.shape for column in columns)

    def feeds(self, rows: Rows) -> Feeds:
        """See InputBuilder."""
        if self._flat:
            rows = [[value[0] if isinstance(value, list) else value for value in row] for row in rows]
        return {self._tensor.name: np.array(rows, self._tensor.dtype)}

    def column_feeds(self, columns: Sequence[Values], rows: int) -> Feeds:
        """See InputBuilder."""
        return {self._tensor.name: stacked(columns, self._tensor.dtype, rows)}

    def nullable(self, column: int) -> bool:  # noqa: ARG002  # one tensor holds them all
        """See InputBuilder."""
        return self._tensor.nullable

    def dtype(self, column: int) -> np.dtype[Any]:  # noqa: ARG002  # the same
        """See InputBuilder."""
        return np.dtype(self._tensor.dtype)


class _PerColumn:
    def __init__(self, places: Sequence[tuple[GraphInput, int]], columns: Sequence[Column]) -> None:
        self._tensors = [(_Tensor.of(given), at) for given, at in places]
        for each, at in self._tensors:
            each.accept(columns[at])
        plain = [(each, at) for each, at in self._tensors if each.tail in {(), (1,)} and not columns[at].shape]
        self._blocks = _blocks(plain)
        together = {each.name for block in self._blocks for each in block.tensors}
        self._singles = [(each, at) for each, at in self._tensors if each.name not in together]
        # Rows of other shapes than single values have none.
        self._kept = _KeptByRows() if len(plain) == len(self._tensors) else None

    def feeds(self, rows: Rows) -> Feeds:
        if len(rows) < FEW and self._kept is not None:
            return self._few(rows, self._kept)
        feeds = {each.name: _shaped(each, [row[at] for row in rows]) for each, at in self._singles}
        for block in self._blocks:
            block.add_to(feeds, rows)
        return feeds

    def _few(self, rows: Rows, kept: _KeptByRows) -> Feeds:
        made = kept.by_rows.get(len(rows))
        if made is None:
            made = kept.by_rows[len(rows)] = _Kept.of(len(rows), self._blocks, self._singles)
        for place, row in enumerate(rows):
            for values, pick in made.blocks:
                values[place] = pick(row)
            for one, at in made.singles:
                one[place] = row[at]
        return made.feeds

    def column_feeds(self, columns: Sequence[Values], rows: int) -> Feeds:  # noqa: ARG002  # columns know their lengths
        return {each.name: tensor(columns[at], each.dtype, each.tail) for each, at in self._tensors}

    def nullable(self, column: int) -> bool:
        return all(tensor.nullable for tensor, at in self._tensors if at == column)

    def dtype(self, column: int) -> np.dtype[Any]:
        return next((np.dtype(tensor.dtype) for tensor, at in self._tensors if at == column), np.dtype(np.object_))


@dataclass(frozen=True, slots=True)
class _Kept:
    """The tensors of so many rows, and the arrays behind them: a row's values for each block, and for each other column."""

    blocks: list[tuple[Array, Callable[[Sequence[object]], tuple[object, ...]]]]
    singles: list[tuple[Array, int]]
    feeds: Feeds

    @classmethod
    def of(cls, rows: int, blocks: Sequence[_Block], singles: Sequence[tuple[_Tensor, int]]) -> _Kept:
        feeds: Feeds = {}
        kept_blocks, kept_singles = [], []
        for block in blocks:
            # A column lies in one piece, as ONNX Runtime wants it.
            by_column = np.empty((len(block.tensors), rows), block.dtype)
            kept_blocks.append((by_column.T, block.pick))
            feeds |= {each.name: column.reshape(rows, *each.tail) for each, column in zip(block.tensors, by_column, strict=True)}
        for each, at in singles:
            one = np.empty(rows, each.dtype)
            kept_singles.append((one, at))
            feeds[each.name] = one.reshape(rows, *each.tail)
        return cls(kept_blocks, kept_singles, feeds)


class _KeptByRows(threading.local):
    """The tensors of a few rows, by their number, used again and again; every thread has its own."""

    def __init__(self) -> None:
        self.by_rows: dict[int, _Kept] = {}


@dataclass(frozen=True, slots=True)
class _Block:
    """Columns of single numbers of one type: making one array of all of them costs a fraction of making an array of each."""

    tensors: Sequence[_Tensor]
    dtype: type[np.generic]
    pick: Callable[[Sequence[object]], tuple[object, ...]]

    def add_to(self, feeds: Feeds, rows: Rows) -> None:
        block = np.array([self.pick(row) for row in rows], self.dtype)
        for each, values in zip(self.tensors, np.ascontiguousarray(block.T), strict=True):
            feeds[each.name] = values.reshape(len(rows), 1) if each.tail else values


def _blocks(places: Sequence[tuple[_Tensor, int]]) -> list[_Block]:
    kinds: dict[type[np.generic], list[tuple[_Tensor, int]]] = {}
    for each, at in places:
        if np.dtype(each.dtype).kind in "fib":
            kinds.setdefault(each.dtype, []).append((each, at))
    return [
        _Block([each for each, _ in found], dtype, itemgetter(*(at for _, at in found)))
        for dtype, found in kinds.items()
        if len(found) > 1
    ]


def _shaped(tensor: _Tensor, values: list[object]) -> Array:
    array: Array = np.array(values, tensor.dtype)
    # A column of N values goes into a graph that wants [N, 1], as converters make them for tables; and the other way round.
    if array.ndim != len(tensor.tail) + 1 and all(size in (1, -1) for size in tensor.tail):
        return array.reshape((len(values), *(1 for _ in tensor.tail)))
    return array


def _kind(column: Column) -> str:
    name = column.type.removeprefix("tensor(").removesuffix(")")
    if name.startswith(("float", "double")):
        return "f"
    if name.startswith(("long", "int", "uint")):
        return "i"
    if name.startswith("bool"):
        return "b"
    return "O" if name.startswith(("str", "object", "<U", "U")) else "?"
