"""ONNX Runtime, inside this process. It reads ONNX graphs and nothing else: no pickle is ever opened here."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import yaml

from ml_platform.v1 import errors_pb2
from ml_platform.v1.errors_pb2 import ErrorReason
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.errors import PlatformError, Violation, sentence
from ml_platform_server.serving.inputs import refusals
from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.inputs.rows import unsuitable
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.serving.outputs.columns import ColumnPredictions, Outputs, joined
from ml_platform_server.serving.outputs.encoded_block import EncodedBatch, Shapes, Template
from ml_platform_server.serving.outputs.encoded_rows import SmallBatchEncoder
from ml_platform_server.serving.outputs.prediction import Prediction, to_predictions
from ml_platform_server.serving.runtimes.latency import LatencyEstimator
from ml_platform_server.serving.runtimes.onnx.outputs import OutputReader, RowCountError, described
from ml_platform_server.serving.runtimes.onnx.tensors import FEW, InputBuilder, MatrixInput, Rows, SignatureMismatchError, feeder

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_log = structlog.get_logger(__name__)

# What may run on the event loop itself: handing a shorter run to a thread costs more than it saves.
INLINE_SECONDS = 0.001


class OnnxRuntime:
    """One ONNX model. Short runs happen on the event loop, longer ones in the pool; which is which is measured as it runs."""

    def __init__(self, *, session: InferenceSession, columns: Sequence[Column], pool: BlockingPool) -> None:
        inputs = session.get_inputs()
        # ONNX Runtime's Python class looks at every tensor of every run before it hands it over: a fifth of what a lone row
        # costs. What is behind it takes the same, and the feeder has made the tensors.
        self._execute = getattr(session, "_sess", session).run
        self._wanted = [output.name for output in session.get_outputs()]
        self.platform = "onnx"
        self._feeder: InputBuilder = feeder(inputs, columns)
        self._columns = columns
        self.matrix = inputs[0].name if isinstance(self._feeder, MatrixInput) else ""
        metadata = session.get_modelmeta().custom_metadata_map
        self._outputs = OutputReader(session.get_outputs(), metadata)
        self.outputs = [described(output) for output in session.get_outputs()]
        self._refused = refusals.read(metadata)
        self._pool = pool
        # Some graphs were exported for exactly one row; they are run row by row.
        self._one_at_a_time = any(given.shape[:1] == [1] for given in inputs)
        self._times = LatencyEstimator()
        self._templates = _Templates(self._outputs.integers)
        self._few = SmallBatchEncoder(self._wanted, self._outputs.probabilities, self._templates.__getitem__)

    def restricted(self, column: Column, at: int) -> Column:
        """The column at this position, without nulls that its tensor cannot hold and without numbers that the model refuses."""
        if not self._feeder.nullable(at):
            column = dataclasses.replace(column, required=True)
        refusal = self._refused.get(column.name)
        return column if refusal is None else refusals.refusing(column, refusal)

    async def predict(self, rows: Rows) -> list[Prediction]:
        """Answer N rows.

        Raises:
            PlatformError: INPUT_REJECTED when the graph fails on these rows; MODEL_FAILED; OVERLOADED and DEADLINE_EXCEEDED of
                the pool.
        """
        if self._times.expected(len(rows)) < INLINE_SECONDS:
            return self._predict(rows)
        return await self._pool.run(self._predict, rows)

    async def predict_columns(self, columns: Sequence[Values], rows: int) -> ColumnPredictions:
        """Answer N rows that come as columns, in the signature's order.

        Raises:
            PlatformError: as `predict`.
        """
        expected = self._times.expected(rows)
        if expected < INLINE_SECONDS:
            return self._predict_columns(columns, rows)
        if expected < 2 * INLINE_SECONDS and rows > 1 and not self._one_at_a_time:
            # Two short runs with a turn for everybody else between them cost less than handing one to a thread.
            return await self._in_halves(columns, rows)
        return await self._pool.run(self._predict_columns, columns, rows)

    async def _in_halves(self, columns: Sequence[Values], rows: int) -> ColumnPredictions:
        whole, seconds = Outputs(rows), 0.0
        for start, stop in ((0, rows // 2), (rows // 2, rows)):
            if start:
                await asyncio.sleep(0)
            started = time.thread_time()
            to_predictions = self._predict_columns([column[start:stop] for column in columns], stop - start)
            seconds += time.thread_time() - started
            whole.add(np.arange(start, stop), to_predictions)
        self._times.took(rows, seconds)
        return whole.answers()

    def _predict_columns(self, columns: Sequence[Values], rows: int) -> ColumnPredictions:
        if self._one_at_a_time and rows > 1:
            parts = [self._predict_columns([column[at : at + 1] for column in columns], 1) for at in range(rows)]
            return joined(parts)
        started = time.thread_time()
        try:
            found = self._execute(self._wanted, self._feeder.column_feeds(columns, rows), None)
            to_predictions = self._outputs.read_columns(found, rows)
        except OverflowError as error:
            raise self._overflowing(columns) from error
        except RowCountError as error:
            self._take_one_at_a_time(error, rows)
            return self._predict_columns(columns, rows)
        except Exception as error:  # ONNX Runtime's errors and NumPy's have no common class
            raise _raised(error) from error
        self._times.took(rows, time.thread_time() - started)
        return to_predictions

    def _predict(self, rows: Rows) -> list[Prediction]:
        started = time.thread_time()
        try:
            found = [self._run([row]) for row in rows] if self._one_at_a_time else [self._run(rows)]
        except OverflowError as error:
            raise self._overflowing([*zip(*rows, strict=True)]) from error
        except RowCountError as error:
            self._take_one_at_a_time(error, 1 if self._one_at_a_time else len(rows))
            return self._predict(rows)
        except Exception as error:  # ONNX Runtime's errors and NumPy's have no common class
            raise _raised(error) from error
        self._times.took(len(rows), time.thread_time() - started)
        return found[0] if len(found) == 1 else [answer for batch in found for answer in batch]

    def _overflowing(self, columns: Sequence[Sequence[object] | Values]) -> PlatformError:
        """The error for integers that the signature takes and the graph's narrower tensors do not."""
        violations = []
        for at, (column, values) in enumerate(zip(self._columns, columns, strict=True)):
            dtype = self._feeder.dtype(at)
            if dtype.kind in "iu" and not _within(values, np.iinfo(dtype)):
                problem = f"expected a whole number of {dtype.itemsize * 8} bits, as the model's graph takes it"
                violations.append(Violation(f"inputs.{column.name}", problem))
        return unsuitable(violations)

    def _take_one_at_a_time(self, error: RowCountError, rows: int) -> None:
        """Run the graph row by row from now on: it runs on many rows, and does not give one entry for each of them.

        Raises:
            PlatformError: MODEL_FAILED for a single row already.
        """
        if rows == 1:
            raise failed("The model does not answer with one entry per row.") from error
        _log.warning("graph_runs_row_by_row", error=str(error))
        self._one_at_a_time = True

    def _run(self, rows: Rows) -> list[Prediction]:
        found = self._execute(self._wanted, self._feeder.feeds(rows), None)
        if len(rows) < FEW:
            if (few := self._few.of(found, len(rows))) is not None:
                return [*few]
        elif (block := EncodedBatch.of(self._outputs.read_columns(found, len(rows)))) is not None:
            return [*block.answers(self._templates[block.shapes])]
        return [*to_predictions(*self._outputs.read(found, len(rows)))]


def _within(values: Sequence[object] | Values, limits: np.iinfo[Any]) -> bool:
    return all(limits.min <= value <= limits.max for value in np.asarray(values, np.object_).ravel())


class _Templates(dict[Shapes, Template]):
    """One for each shape that the graph's answers come in. Vectors longer than a few numbers get none, so there are few.

    An object of its own: a method of the runtime would be a reference cycle, which keeps a replaced version in memory.
    """

    def __init__(self, integers: frozenset[str]) -> None:
        super().__init__()
        self._integers = integers

    def __missing__(self, shapes: Shapes) -> Template:
        template = self[shapes] = Template(shapes, self._integers)
        return template


async def load_onnx(folder: Path, columns: Sequence[Column], pool: BlockingPool) -> OnnxRuntime:
    """Load the ONNX graph of an MLflow model folder.

    Raises:
        PlatformError: MODEL_ARTIFACT_MISSING when the folder does not hold what it should; MODEL_FAILED when ONNX Runtime cannot
            load the graph or the graph does not take the signature's columns.
    """
    session = await pool.run(_session, folder)
    try:
        return OnnxRuntime(session=session, columns=columns, pool=pool)
    except SignatureMismatchError as error:
        raise failed(sentence(f"The model cannot be served: {error}")) from error


def failed(message: str, reason: ErrorReason.ValueType = errors_pb2.ERROR_REASON_MODEL_FAILED) -> PlatformError:
    """The error for a model that does not do what it should."""
    return PlatformError(
        reason,
        message,
        remedy="Check the inputs against the model's signature and training data; the server's log has the model's own words.",
    )


def _raised(error: Exception) -> PlatformError:
    """The error for what a run has raised. A graph that is loaded fails on the values of its rows, or for lack of memory."""
    reason = errors_pb2.ERROR_REASON_MODEL_FAILED if isinstance(error, MemoryError) else errors_pb2.ERROR_REASON_INPUT_REJECTED
    return failed(f"The model failed on these inputs: {type(error).__name__} in ONNX Runtime.", reason)


def _session(folder: Path) -> InferenceSession:
    import onnxruntime  # noqa: PLC0415  # takes 0.4 s

    graph = _graph(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        _log.warning("onnx_load_failed", error=repr(error)[:500], graph=str(graph))
        raise failed("ONNX Runtime cannot load the model.") from error


def _graph(folder: Path) -> Path:
    try:
        described: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        graph = (folder / str(described["flavors"]["onnx"]["data"])).resolve()
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise _artifact_missing() from error
    if not graph.is_relative_to(folder.resolve()) or not graph.is_file():
        raise _artifact_missing()
    return graph


def _artifact_missing() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
        "The files of the model version hold no ONNX graph.",
        remedy="Train and register the model again.",
    )
