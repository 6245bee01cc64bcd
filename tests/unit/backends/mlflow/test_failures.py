"""The one table that turns MLflow's failures into the platform's errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.mlflow.errors import ErrorMapping, says_exists, translate
from ml_platform_server.errors import PlatformError, invalid

MEANINGS = ErrorMapping(
    missing=invalid("missing", "m"),
    exists=invalid("exists", "e"),
    invalid=invalid("invalid", "i"),
    otherwise=invalid("otherwise", "o"),
)


class MlflowError(Exception):
    """Looks as MLflow's exception does."""

    def __init__(self, error_code: str, text: str = "secret vendor words") -> None:
        super().__init__(text)
        self.error_code = error_code


def wrapped(cause: Exception) -> Exception:
    """A failure that MLflow wrapped into one of its own, without saying so in its code."""
    error = MlflowError("INTERNAL_ERROR")
    error.__context__ = cause  # As raising it while the cause is handled does.
    return error


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("RESOURCE_DOES_NOT_EXIST", "missing"),
        ("NOT_FOUND", "missing"),
        ("RESOURCE_ALREADY_EXISTS", "exists"),
        ("ALREADY_EXISTS", "exists"),
        ("INVALID_PARAMETER_VALUE", "invalid"),
        ("BAD_REQUEST", "invalid"),
        ("INTERNAL_ERROR", "otherwise"),
        ("PERMISSION_DENIED", "otherwise"),
        ("", "otherwise"),
    ],
)
def test_each_code_means_what_the_caller_says(code: str, meaning: str) -> None:
    """What is missing, there already, wrong, or none of these."""
    assert translate(MlflowError(code), MEANINGS) is getattr(MEANINGS, meaning)


@pytest.mark.parametrize(
    "code", ["RESOURCE_DOES_NOT_EXIST", "ALREADY_EXISTS", "BAD_REQUEST", "INTERNAL_ERROR", "UNAUTHENTICATED"]
)
def test_what_nobody_foresaw_is_a_failure_of_the_backend(code: str) -> None:
    """And MLflow's own words stay in the log."""
    error = translate(MlflowError(code), ErrorMapping())
    assert error.reason_name == "BACKEND_FAILED"
    assert "secret" not in f"{error.message} {error.remedy} {error.metadata}"


@pytest.mark.parametrize(
    "error",
    [
        MlflowError("TEMPORARILY_UNAVAILABLE"),
        MlflowError("REQUEST_LIMIT_EXCEEDED"),
        ConnectionRefusedError(),
        TimeoutError(),
        wrapped(ConnectionResetError()),
        wrapped(type("EndpointConnectionError", (Exception,), {})()),
    ],
)
def test_a_lost_connection_is_told_as_such_however_it_is_wrapped(error: Exception) -> None:
    """Even where the caller gives every other failure a meaning."""
    assert translate(error, MEANINGS).reason_name == "BACKEND_UNAVAILABLE"


def test_a_bad_page_token_is_told_from_a_bad_filter() -> None:
    """MLflow has one code for both."""
    error = translate(MlflowError("INVALID_PARAMETER_VALUE", "Invalid page token, could not base64-decode"), MEANINGS)
    assert error.reason_name == "PAGE_TOKEN_INVALID"


def test_only_what_is_there_already_is_taken_for_it() -> None:
    """A missing thing and a failure without a code are not."""
    assert says_exists(MlflowError("RESOURCE_ALREADY_EXISTS"))
    assert not says_exists(MlflowError("RESOURCE_DOES_NOT_EXIST"))
    assert not says_exists(PlatformError(errors_pb2.ERROR_REASON_INTERNAL, "m", remedy="r"))


class HttpError(Exception):
    """Looks as the errors of requests and of some object stores do."""

    def __init__(self, status: int) -> None:
        super().__init__("secret vendor words")
        self.response = SimpleNamespace(status_code=status)


class BotoError(Exception):
    """Looks as botocore's error does."""

    def __init__(self, code: str) -> None:
        super().__init__("secret vendor words")
        self.response = {"Error": {"Code": code}}


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (FileNotFoundError("no such file"), "missing"),
        (wrapped(FileNotFoundError("no such file")), "missing"),
        (HttpError(404), "missing"),
        (BotoError("NoSuchKey"), "missing"),
        (HttpError(403), "otherwise"),
        (BotoError("AccessDenied"), "otherwise"),
        (OSError(28, "No space left on device"), "otherwise"),
        (TypeError("bad argument type for built-in operation"), "otherwise"),
    ],
    ids=repr,
)
def test_files_are_missing_only_if_something_says_so(error: Exception, meaning: str) -> None:
    """A full disk, a refusal, and what nobody foresaw are none of that."""
    assert translate(error, MEANINGS).violations[0].field == meaning
