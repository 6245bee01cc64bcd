"""Changes of the contract that buf does not look at."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from ml_platform.v1 import auth_pb2, validation_pb2
from scripts.contract import CONTRACT, SERVER
from scripts.contract_rules import tightened, unmarked

NOW = (SERVER / CONTRACT).read_bytes()


FIELD = "SubmitTrainingJobRequest.pipeline"


def changed(change):
    """The contract after a change."""
    files = FileDescriptorSet.FromString(NOW)
    (training,) = (file for file in files.file if file.name.endswith("training.proto"))
    change(training)
    return files.SerializeToString()


def rules(file, name):
    (message,) = (message for message in file.message_type if message.name == "SubmitTrainingJobRequest")
    (field,) = (field for field in message.field if field.name == name)
    return field.options.Extensions[validation_pb2.rules]


def add_field(file):
    (message,) = (message for message in file.message_type if message.name == "SubmitTrainingJobRequest")
    field = message.field.add(name="team", number=99)
    field.options.Extensions[validation_pb2.rules].required = True


def test_nothing_is_tighter_than_it_was():
    """The same contract."""
    assert tightened(NOW, NOW) == []
    assert unmarked(NOW) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda file: setattr(rules(file, "pipeline"), "required", True), FIELD + ": is required"),
        (
            lambda file: setattr(rules(file, "pipeline"), "max_len", 10),
            FIELD + ": max_len is 10, and was 250",
        ),
        (
            lambda file: setattr(rules(file, "pipeline"), "pattern", "a"),
            FIELD + ": has another pattern, a",
        ),
        (lambda file: setattr(rules(file, "pipeline"), "lte", 3), FIELD + ": is at most 3"),
        (
            lambda file: file.service[0].method[0].options.Extensions.__setitem__(auth_pb2.scope, auth_pb2.SCOPE_MODELS_WRITE),
            "TrainingService.SubmitTrainingJob: needs another scope",
        ),
        (add_field, "SubmitTrainingJobRequest.team: is new and required"),
    ],
)
def test_what_refuses_calls_that_were_accepted_is_found(change, problem):
    """Each with the field or the method at fault."""
    assert tightened(NOW, changed(change)) == [problem]


def test_a_limit_that_is_lifted_breaks_nobody():
    """Nor a rule that goes."""
    assert tightened(changed(lambda file: setattr(rules(file, "pipeline"), "max_len", 10)), NOW) == []
    assert tightened(changed(add_field), NOW) == []


def test_a_field_is_required_for_generators_too():
    """By both options or by none."""
    assert unmarked(changed(add_field)) == ["SubmitTrainingJobRequest.team"]
