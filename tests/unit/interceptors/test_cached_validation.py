"""What was found good once is not looked at again."""

from __future__ import annotations

from ml_platform.v1.predictions_pb2 import BatchPredictRequest, PredictRequest
from ml_platform_server.errors import Violation
from ml_platform_server.interceptors.validation import cached_validation
from ml_platform_server.interceptors.validation.rules import Rules


def counting(message_class):
    """The check of a message type around which something is remembered, and how often it looked."""
    looks = []
    check = Rules().check_for(message_class)
    assert check is not None

    def counted(message, path, violations):
        looks.append(message)
        check(message, path, violations)

    return cached_validation.remembering(counted, message_class), looks


def found(check, message):
    violations: list[Violation] = []
    check(message, "", violations)
    return [violation.field for violation in violations]


def request(model_name, environment="production", **inputs):
    made = PredictRequest(model_name=model_name, environment=environment)
    made.inputs.update(inputs)
    return made


def test_good_names_are_looked_at_once():
    """Other inputs are no reason to look again; another name is, and so is another environment."""
    check, looks = counting(PredictRequest)
    for message in (request("m", a=1), request("m", a=2), request("n"), request("m", "staging"), request("m")):
        assert found(check, message) == []
    assert len(looks) == 3


def test_what_is_wrong_is_told_every_time():
    """A bad name is never remembered as a good one, whatever was good before."""
    check, looks = counting(PredictRequest)
    assert found(check, request("m")) == []
    for _ in range(2):
        assert found(check, request("")) == ["model_name"]
        assert found(check, request("m", "x" * 64)) == ["environment"]
    assert len(looks) == 5


def test_only_so_much_is_remembered(monkeypatch):
    """When that is reached, everything is looked at anew."""
    monkeypatch.setattr(cached_validation, "MOST", 2)
    check, looks = counting(PredictRequest)
    for name in ("a", "b", "c", "a"):
        assert found(check, request(name)) == []
    assert len(looks) == 4


def test_a_message_of_many_values_is_always_looked_at():
    """Where rules are about lists, nothing is remembered."""
    check, looks = counting(BatchPredictRequest)
    for _ in range(2):
        found(check, BatchPredictRequest(model_name="m", environment="production"))
    assert len(looks) == 2
