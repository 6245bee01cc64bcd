"""The ceiling for many rows: ONNX Runtime alone in one thread, asked for the same rows again and again.

Run as `python -m benchmarks.bare_onnx folder rows seconds`, with the folder that `benchmarks.model` filled; prints rows a second,
of runs of so many rows and of runs of one row each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.model import Facts
from benchmarks.tensors import arrays


def session(model: Path) -> onnxruntime.InferenceSession:
    """The model, run in one thread as the server runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def feeds(facts: Facts, rows: int) -> dict[str, Any]:
    """The arrays of that many rows, as the graph takes them."""
    return {name: array.reshape(-1, 1) for name, array in arrays(facts, rows).items()}


def probabilities(facts: Facts, rows: int) -> list[float]:
    """What the model says of the rows: the probability of fraud."""
    (found,) = session(facts.onnx_file).run(["probabilities"], feeds(facts, rows))
    return [float(each) for each in np.asarray(found)[:, 1]]


def rate(facts: Facts, rows: int, seconds: float) -> float:
    """Rows a second."""
    ready, given = session(facts.onnx_file), feeds(facts, rows)
    ready.run(None, given)
    done, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        ready.run(None, given)
        done += rows
    return done / passed


if __name__ == "__main__":
    folder, rows_text, seconds_text = sys.argv[1:]
    given, half = Facts.read(Path(folder)), float(seconds_text) / 2
    print(json.dumps({"rate": rate(given, int(rows_text), half), "alone": rate(given, 1, half)}))
