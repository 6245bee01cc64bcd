"""What a model raises, as the platform's server is told of it."""

from __future__ import annotations

import pytest
from model_runner.failures import raised


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("unknown category"), "INPUT_REJECTED"),
        (KeyError("Atlantis"), "INPUT_REJECTED"),
        (TypeError("NoneType"), "INPUT_REJECTED"),
        (ZeroDivisionError(), "INPUT_REJECTED"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), "INPUT_REJECTED"),
        (MemoryError(), "MODEL_FAILED"),
        (FileNotFoundError("vocabulary.txt"), "MODEL_FAILED"),
        (ModuleNotFoundError("torch"), "MODEL_FAILED"),
        (RuntimeError("CUDA error"), "MODEL_FAILED"),
    ],
)
def test_the_row_is_to_blame_for_what_is_about_values(error: Exception, reason: str) -> None:
    """Everything else would have happened with any row, and is the model's."""
    failure = raised(error)
    assert (failure.reason, failure.details["stage"], failure.details["cause"]) == (reason, "predict", type(error).__name__)
