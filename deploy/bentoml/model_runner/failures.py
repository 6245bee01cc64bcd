"""What can go wrong, in the words that the platform's server understands."""

from __future__ import annotations

import traceback
from pathlib import PurePath


class Failure(Exception):  # noqa: N818  # it is an answer to the caller, not a fault of this program
    """A request that cannot be answered: a reason for programs, a sentence for people, a status for HTTP."""

    reason = ""
    status = 500

    @property
    def details(self) -> dict[str, str]:
        """What else the answer says, for programs."""
        return {}


class ArtifactMissing(Failure):
    """The version or its files are gone."""

    reason = "MODEL_ARTIFACT_MISSING"
    status = 404


class ModelFailed(Failure):
    """The model does not load, or fails for a reason that is not the rows.

    Args:
        error: what the model raised.
        loading: whether it was being loaded.
    """

    reason = "MODEL_FAILED"
    status = 422

    def __init__(self, text: str, error: BaseException, *, loading: bool = False) -> None:
        super().__init__(text)
        self._error = error
        self._loading = loading

    @property
    def details(self) -> dict[str, str]:
        """The class of the model's error, the line that raised it, and what the model was doing."""
        return {"cause": origin(self._error), "stage": "load" if self._loading else "predict"}


class InputRejected(ModelFailed):
    """The model raised an error on the values of these rows."""

    reason = "INPUT_REJECTED"


DATA_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What code raises on values that it cannot work with. Anything else (memory, files, imports) is not about the row."""


def raised(error: BaseException) -> ModelFailed:
    """The failure for what a model has raised on rows."""
    kind = InputRejected if isinstance(error, DATA_ERRORS) or type(error).__name__ == "MlflowException" else ModelFailed
    return kind("The model failed on these inputs.", error)


class InputInvalid(Failure):
    """A row holds a value that the model's signature does not take.

    Args:
        column: the input.
    """

    reason = "INPUT_INVALID"
    status = 422

    def __init__(self, text: str, column: str) -> None:
        super().__init__(text)
        self._column = column

    @property
    def details(self) -> dict[str, str]:
        """The input."""
        return {"column": self._column}


class Expired(Failure):
    """The caller's deadline passed before the work began."""

    reason = "DEADLINE_EXCEEDED"
    status = 504


class ArtifactUnreadable(Failure):
    """The files of the version may be there, and cannot be fetched."""

    reason = "MODEL_ARTIFACT_UNREADABLE"
    status = 503


class RegistryUnavailable(Failure):
    """MLflow does not answer."""

    reason = "REGISTRY_UNAVAILABLE"
    status = 503


def origin(error: BaseException) -> str:
    """The class of an error and the line that raised it, without its text, which may hold what nobody else may see.

    The line is the last one outside installed packages, which is the model's own code if it has any; else the last one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and "model_runner" not in frame.filename]
    name = type(error).__name__
    return f"{name} at {_place(own[-1] if own else frames[-1])}"[:200] if frames else name


def _place(frame: traceback.FrameSummary) -> str:
    return f"{'/'.join(PurePath(frame.filename).parts[-2:])}:{frame.lineno}"
