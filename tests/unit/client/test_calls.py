"""How calls behave: deadlines, retries, request ids, and errors that are the client's own."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import grpc
import pytest

import ml_platform
from ml_platform import MLPlatform, MLPlatformError, rpcs
from ml_platform.v1 import errors_pb2, experiments_pb2, platform_pb2
from ml_platform_server.errors import CODES, PlatformError, Violation
from tests.support.fake_platform import CORRELATION_ID, Bare, FakePlatform, Hang

CREATED = experiments_pb2.CreateExperimentResponse(experiment=experiments_pb2.Experiment(experiment_id="7"))
DOWN = PlatformError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, "MLflow does not answer.", remedy="Wait.", retry_after=0.01)


def test_every_call_brings_key_deadline_and_id(platform: MLPlatform, fake: FakePlatform) -> None:
    """A call carries the API key, a deadline, a correlation id and a user agent, without being told to."""
    fake.answer(rpcs.WHO_AM_I, platform_pb2.WhoAmIResponse())
    platform.whoami()
    (call,) = fake.seen
    assert call.metadata["authorization"] == "Bearer mlp_test_key"
    assert len(call.metadata["x-request-id"]) == 32
    assert call.metadata["user-agent"].startswith("ml-platform-sdk/")
    assert call.time_remaining is not None
    # gRPC rounds the timeout up when it writes it into the header.
    assert 25 < call.time_remaining < 31


def test_a_mutating_call_is_repeated_with_the_same_request_id(platform: MLPlatform, fake: FakePlatform) -> None:
    """Attempts of one call share their request id, and two calls do not."""
    fake.answer(rpcs.CREATE_EXPERIMENT, Bare(grpc.StatusCode.UNAVAILABLE), DOWN, CREATED)
    assert platform.create_experiment("exp").experiment_id == "7"
    platform.create_experiment("exp")
    ids = [call.request.request_id for call in fake.seen]
    assert len(ids) == 4
    assert len(set(ids[:3])) == 1
    assert ids[3] != ids[0]
    assert len({call.metadata["x-request-id"] for call in fake.seen[:3]}) == 1


def test_the_caller_may_give_the_request_id(platform: MLPlatform, fake: FakePlatform) -> None:
    """A request id that the caller gives is the one that is sent."""
    fake.answer(rpcs.CREATE_EXPERIMENT, CREATED)
    platform.create_experiment("exp", request_id="mine")
    assert fake.seen[0].request.request_id == "mine"


def test_a_call_that_still_runs_is_asked_for_again(platform: MLPlatform, fake: FakePlatform) -> None:
    """ABORTED with a time to come back is a wait, not a failure."""
    running = PlatformError(errors_pb2.ERROR_REASON_REQUEST_IN_PROGRESS, "It runs.", remedy="Wait.", retry_after=0.01)
    fake.answer(rpcs.CREATE_EXPERIMENT, running, CREATED)
    assert platform.create_experiment("exp").experiment_id == "7"


def test_retries_are_bounded(platform: MLPlatform, fake: FakePlatform) -> None:
    """A platform that stays away is given up after the configured number of retries."""
    fake.answer(rpcs.WHO_AM_I, DOWN)
    with pytest.raises(ml_platform.Unavailable):
        platform.whoami()
    assert len(fake.seen) == 4
    with pytest.raises(ml_platform.Unavailable):
        platform.with_options(retries=0).whoami()
    assert len(fake.seen) == 5


def test_a_pause_that_would_pass_the_deadline_is_not_made(platform: MLPlatform, fake: FakePlatform) -> None:
    """When the server asks for more patience than the deadline leaves, the error comes at once."""
    late = PlatformError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, "Down.", remedy="Wait.", retry_after=60)
    fake.answer(rpcs.WHO_AM_I, late)
    started = time.monotonic()
    with pytest.raises(ml_platform.Unavailable) as caught:
        platform.whoami()
    assert time.monotonic() - started < 5
    assert caught.value.retry_after == 60
    assert len(fake.seen) == 1


def test_other_failures_are_not_repeated(platform: MLPlatform, fake: FakePlatform) -> None:
    """A call that failed for a reason is made once."""
    fake.answer(rpcs.WHO_AM_I, PlatformError(errors_pb2.ERROR_REASON_INTERNAL, "Oh.", remedy="Ask."))
    with pytest.raises(ml_platform.Internal):
        platform.whoami()
    assert len(fake.seen) == 1


def test_a_slow_platform_runs_into_the_deadline(platform: MLPlatform, fake: FakePlatform) -> None:
    """A call ends at its deadline with DeadlineExceeded, which is a TimeoutError too, and the server hears of it."""
    fake.answer(rpcs.WHO_AM_I, Hang())
    with pytest.raises(TimeoutError, match="deadline") as caught:
        platform.with_options(timeout=0.2).whoami()
    assert isinstance(caught.value, ml_platform.DeadlineExceeded)
    assert caught.value.correlation_id
    assert fake.seen[0].gone.wait(timeout=10)


def test_an_error_carries_everything_the_server_told(platform: MLPlatform, fake: FakePlatform) -> None:
    """Everything the server tells about a failure survives the wire, and pickling, and the text shows what helps."""
    told = PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        "The request breaks a rule.",
        remedy="Correct it.",
        violations=[Violation("name", "must not be empty")],
        resource=("experiment", "exp"),
        retry_after=1.5,
        metadata={"more": "facts"},
    )
    fake.answer(rpcs.CREATE_EXPERIMENT, told)
    with pytest.raises(ml_platform.InvalidArgument) as caught:
        platform.create_experiment("exp")
    error = caught.value
    assert (error.code, error.reason, error.message) == ("INVALID_ARGUMENT", "INVALID_FIELDS", "The request breaks a rule.")
    assert (error.remedy, error.correlation_id, error.retry_after) == ("Correct it.", CORRELATION_ID, 1.5)
    assert error.violations == (ml_platform.Violation("name", "must not be empty"),)
    assert (error.resource, error.metadata) == (("experiment", "exp"), {"more": "facts"})
    assert str(error) == (
        "The request breaks a rule. name: must not be empty Correct it. (INVALID_FIELDS, correlation id request-of-the-fake)"
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error)) == str(error)


@pytest.mark.parametrize("reason", CODES, ids=[errors_pb2.ErrorReason.Name(reason) for reason in CODES])
def test_every_reason_of_the_server_becomes_an_error_of_its_code(fake: FakePlatform, reason: Any) -> None:
    """Whatever reason the server gives, the client raises the class of its code and keeps the reason."""
    fake.answer(rpcs.WHO_AM_I, PlatformError(reason, "It failed.", remedy="Do something."))
    with MLPlatform(fake.url, "k", retries=0) as platform, pytest.raises(MLPlatformError) as caught:
        platform.whoami()
    assert caught.value.code == CODES[reason].name
    assert f"ERROR_REASON_{caught.value.reason}" == errors_pb2.ErrorReason.Name(reason)
    assert type(caught.value).default_code == CODES[reason].name


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_no_grpc_error_escapes(platform: MLPlatform, fake: FakePlatform, code: grpc.StatusCode) -> None:
    """Any status, also one without details, is raised as an error of the client with the code, an id and a text."""
    fake.answer(rpcs.WHO_AM_I, Bare(code))
    with pytest.raises(MLPlatformError) as caught:
        platform.with_options(retries=0).whoami()
    assert caught.value.code == code.name
    assert caught.value.correlation_id == fake.seen[0].metadata["x-request-id"]
    assert not isinstance(caught.value, grpc.RpcError)
    assert caught.value.message


def test_a_platform_that_is_not_there_is_named(platform: MLPlatform, fake: FakePlatform) -> None:
    """When nobody listens, the error names the address and what to check."""
    fake.stop()
    with pytest.raises(ml_platform.Unavailable, match=f"Nothing listens at 127.0.0.1:{fake.port}") as caught:
        platform.whoami()
    assert "make up" in caught.value.remedy


def test_a_closed_client_says_so(platform: MLPlatform) -> None:
    """A call on a closed client is a ConfigurationError, not something of gRPC's."""
    platform.close()
    with pytest.raises(ml_platform.ConfigurationError, match="closed"):
        platform.whoami()
    with pytest.raises(ml_platform.ConfigurationError, match="closed"):
        list(platform.watch_training_job("mlp-1"))


def test_an_argument_of_the_wrong_type_is_named(platform: MLPlatform, fake: FakePlatform) -> None:
    """A value that its field cannot hold is an InvalidArgument that names the field, and nothing is sent."""
    with pytest.raises(ml_platform.InvalidArgument, match="name: 5"):
        platform.create_experiment(name=5)  # type: ignore[arg-type]
    with pytest.raises(ml_platform.InvalidArgument, match="tags"):
        platform.create_experiment(name="exp", tags={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(ml_platform.InvalidArgument, match="version"):
        platform.get_model_version("m", 0)
    assert fake.seen == []
