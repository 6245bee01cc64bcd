"""The contract's rules, as the validation enforces them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.message_factory import GetMessageClass

from ml_platform.v1 import (
    deployments_pb2,
    experiments_pb2,
    features_pb2,
    jobs_pb2,
    models_pb2,
    platform_pb2,
    predictions_pb2,
    training_pb2,
    validation_pb2,
)
from ml_platform_server.errors import MOST_VIOLATIONS, Violation
from ml_platform_server.interceptors.validation.rules import Rules
from ml_platform_server.method import ContractError

NEVER = timestamp_pb2.Timestamp(seconds=10**15)
EVERY_FILE = (deployments_pb2, experiments_pb2, features_pb2, jobs_pb2, models_pb2, platform_pb2, predictions_pb2, training_pb2)


def violations(message):
    """Field and text of everything that is wrong with a message."""
    check = Rules().check_for(type(message))
    found: list[Violation] = []
    if check:
        check(message, "", found)
    return [(violation.field, violation.description) for violation in found]


def fields(message):
    """The fields that are wrong in a message."""
    return [field for field, _ in violations(message)]


def time(year):
    moment = timestamp_pb2.Timestamp()
    moment.FromDatetime(datetime(year, 1, 1, tzinfo=UTC))
    return moment


def view(**changes):
    """A request for a feature view that keeps every rule, but for the changes."""
    definition = {
        "name": "users",
        "entities": [features_pb2.Entity(name="user")],
        "features": [features_pb2.Feature(name="age", value_type=features_pb2.VALUE_TYPE_INT64)],
        "source": features_pb2.FileSource(path="users.parquet", timestamp_field="time"),
    }
    return features_pb2.RegisterFeatureViewRequest(feature_view=features_pb2.FeatureView(**{**definition, **changes}))


def test_a_request_that_keeps_the_rules_has_no_violation():
    """Nothing is wrong with a request that is right."""
    assert violations(view(tags={"team": "risk"}, ttl=duration_pb2.Duration(seconds=3600))) == []


@pytest.mark.parametrize("file", EVERY_FILE, ids=lambda file: file.__name__)
def test_the_rules_of_every_message_compile(file):
    """Each message of the contract has rules that make sense."""
    for message in file.DESCRIPTOR.message_types_by_name.values():
        Rules().check_for(GetMessageClass(message))


def test_tags_are_bounded_as_mlflow_bounds_them():
    """Each key and each value has a longest length; the violation names the tag, by as much of its key as can be read."""
    longest = {"k" * 250: "v" * 5000, "t": ""}
    assert violations(experiments_pb2.CreateExperimentRequest(name="n", tags=longest)) == []
    found = violations(experiments_pb2.CreateExperimentRequest(name="n", tags={"team": "v" * 5001, "k" * 251: ""}))
    assert sorted(found) == [
        ("tags['" + "k" * 100 + "']", "has 251 characters; at most 250 are allowed"),
        ("tags['team']", "has 5001 characters; at most 5000 are allowed"),
    ]


def test_names_and_keys_of_tags_are_visible():
    """The violation names the character that nobody can see; values of tags are free."""
    request = experiments_pb2.CreateExperimentRequest(
        name="a\u200bb", tags={"": "x", " ": "x", "a\u202e": "x", "🚀": "\u200b", "ok": ""}
    )
    assert sorted(violations(request)) == [
        ("name", "holds the character U+200B, which nobody can see"),
        ("tags[' ']", "must not be blank"),
        ("tags['']", "must not be empty"),
        ("tags['a\\u202e']", "holds the character U+202E, which nobody can see"),
    ]
    assert violations(view(tags={"\u200b": "x"})) == [
        ("feature_view.tags['\\u200b']", "holds the character U+200B, which nobody can see")
    ]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (experiments_pb2.CreateExperimentRequest(), [("name", "must be set")]),
        (deployments_pb2.DeployModelRequest(model_name="m", version=1), [("environment", "must be set")]),
        (features_pb2.RegisterFeatureViewRequest(), [("feature_view", "must be set")]),
        (view(features=[]), [("feature_view.features", "must not be empty")]),
    ],
    ids=["text", "enum", "message", "list"],
)
def test_what_is_required_must_be_set(message, expected):
    """A required text, enum, message or list that is not there is a violation."""
    assert expected == violations(message)


def test_text_is_counted_in_characters():
    """The limit counts code points, not bytes."""
    assert violations(experiments_pb2.CreateExperimentRequest(name="ü" * 250)) == []
    expected = [("name", "has 251 characters; at most 250 are allowed")]
    assert expected == violations(experiments_pb2.CreateExperimentRequest(name="ü" * 251))


def test_a_pattern_matches_the_whole_text():
    """A pattern that matches a part, or all but a newline at the end, is not kept."""
    expected = "must be letters, digits and '_', not beginning with a digit"
    assert [("feature_view.name", expected)] == violations(view(name="users; drop"))
    assert [("feature_view.name", expected)] == violations(view(name="users\n"))


def test_a_pattern_says_nothing_of_an_empty_text():
    """A field that is not required may be empty, whatever its pattern."""
    assert violations(training_pb2.SubmitTrainingJobRequest(experiment_name="e")) == []


def test_the_items_of_a_list_of_texts_keep_the_pattern():
    """Each item is checked, the empty one too, and named by its position."""
    request = features_pb2.GetOnlineFeaturesRequest(
        features=["users:age", "a:b:c", ""], entities=[features_pb2.EntityKey(entity_id="1")]
    )
    assert fields(request) == ["features[1]", "features[2]"]


def test_an_empty_item_of_a_required_list_is_a_violation():
    """A list that must not be empty is not filled by empty texts."""
    request = features_pb2.MaterializeFeaturesRequest(feature_views=[""], start_time=time(2024), end_time=time(2025))
    assert violations(request) == [("feature_views[0]", "must not be empty")]


@pytest.mark.parametrize(("version", "expected"), [(1, []), (0, ["version"]), (-1, ["version"])])
def test_a_number_keeps_its_bounds(version, expected):
    """A bound holds for a number that is not set, too, as 0 is what it then is."""
    assert expected == fields(models_pb2.GetModelVersionRequest(model_name="m", version=version))


def test_a_list_has_its_limit():
    """A list or a map that is too long says how long it is."""
    request = experiments_pb2.CreateExperimentRequest(name="e", tags={str(number): "" for number in range(101)})
    assert violations(request) == [("tags", "has 101 items; at most 100 are allowed")]


def test_the_items_of_a_list_that_is_too_long_are_not_looked_at():
    """Three million empty messages fit into a request, and a look at each would hold up every other call."""
    request = features_pb2.GetOnlineFeaturesRequest(features=[""] * 1001, entities=[features_pb2.EntityKey(entity_id="user_1")])
    assert violations(request) == [("features", "has 1001 items; at most 1000 are allowed")]


def test_every_violation_is_told_with_its_path():
    """All that is wrong is told at once, each with the path of its field."""
    wrong = features_pb2.Feature(name="1st", value_type=features_pb2.VALUE_TYPE_INT64)
    request = view(name="", features=[wrong, features_pb2.Feature(name="age")], source=features_pb2.FileSource(path="p"))
    expected = [
        "feature_view.name",
        "feature_view.features[0].name",
        "feature_view.features[1].value_type",
        "feature_view.source.timestamp_field",
    ]
    assert expected == fields(request)


def test_a_flood_of_violations_is_cut_off():
    """A request with a million mistakes does not make a million violations."""
    request = view(features=[features_pb2.Feature() for _ in range(1000)])
    assert len(violations(request)) == MOST_VIOLATIONS


def test_an_enum_value_that_the_contract_does_not_know_is_a_violation():
    """The violation names the values that there are; for an optional field and for a required one."""
    request = jobs_pb2.ListJobsRequest()
    request.kind = 7  # type: ignore[assignment]  # what a newer client might send
    expected = "is 7, which is no JobKind; there are JOB_KIND_TRAINING, JOB_KIND_DEPLOYMENT, JOB_KIND_MATERIALIZATION"
    assert [("kind", expected)] == violations(request)
    required = view()
    required.feature_view.features[0].value_type = 99
    assert fields(required) == ["feature_view.features[0].value_type"]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2024-01-01", "2024-01-01", []),
        ("2024-01-02", "2024-01-01", [("data_end_date", "must not be before data_start_date")]),
        ("2024-01-02", "", []),
        ("2024-02-30", "2024-03-01", [("data_start_date", "is '2024-02-30', a day that does not exist")]),
        ("2024-1-1", "2024-03-01", [("data_start_date", "must be a date written as YYYY-MM-DD")]),
        ("0000-01-01", "", [("data_start_date", "is '0000-01-01', a day that does not exist")]),
    ],
)
def test_dates_are_real_and_in_order(start, end, expected):
    """Days exist, and the first is not after the last; the same day twice is a range of one day."""
    request = training_pb2.SubmitTrainingJobRequest(experiment_name="e", data_start_date=start, data_end_date=end)
    assert expected == violations(request)


@pytest.mark.parametrize(("start", "end", "expected"), [(2024, 2025, []), (2024, 2024, ["end_time"]), (2025, 2024, ["end_time"])])
def test_times_are_in_order(start, end, expected):
    """A window whose end is not after its start is empty, which its rule forbids."""
    request = features_pb2.MaterializeFeaturesRequest(feature_views=["v"], start_time=time(start), end_time=time(end))
    assert expected == fields(request)


def test_a_time_that_does_not_exist_is_a_violation():
    """A Timestamp or Duration out of its range is told rather than left to break whoever converts it."""
    request = features_pb2.MaterializeFeaturesRequest(feature_views=["v"], start_time=time(2024), end_time=NEVER)
    assert violations(request) == [("end_time", "must be a time between the years 1 and 9999")]
    assert fields(view(ttl=duration_pb2.Duration(seconds=1, nanos=-1))) == ["feature_view.ttl"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (experiments_pb2.GetRunRequest(run_id="a\0b"), ["run_id"]),
        (experiments_pb2.CreateExperimentRequest(name="e", tags={"k": "a\0"}), ["tags['k']"]),
        (experiments_pb2.ListExperimentsRequest(page_token="\0"), ["page_token"]),
    ],
    ids=["field", "map", "field without rules"],
)
def test_a_nul_is_refused_in_any_text(request_, expected):
    """Databases refuse NUL, so no text of a request may hold it, whatever its rules."""
    assert expected == fields(request_)


def test_a_column_of_texts_is_data():
    """It may hold what a row may hold, NUL too."""
    assert violations(predictions_pb2.StringValues(values=["a", "b\0", "", "\0"])) == []


def test_free_structures_are_left_alone():
    """What a Struct holds is the model's business."""
    inputs = struct_pb2.Struct()
    inputs.update({"a": {"b": ["\0", None, float("inf")]}})
    request = predictions_pb2.PredictRequest(model_name="m", environment="staging", inputs=inputs)
    assert violations(request) == []


def test_an_order_rule_of_texts_that_are_no_dates_refuses_to_start():
    """A rule that cannot be enforced is found when the server starts, not when a caller breaks it."""
    file = descriptor_pb2.FileDescriptorProto(name="tests/order.proto", package="tests.order", syntax="proto3")
    file.dependency.append("ml_platform/v1/validation.proto")
    message = file.message_type.add(name="Window")
    for number, name in enumerate(("first", "last"), start=1):
        message.field.add(name=name, number=number, type=9, label=1)
    message.options.Extensions[validation_pb2.message_rules].order.add(first="first", last="last")
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    with pytest.raises(ContractError, match="pattern_hint must name YYYY-MM-DD"):
        Rules().check_for(GetMessageClass(pool.FindMessageTypeByName("tests.order.Window")))


def test_a_message_that_holds_itself_is_checked_at_every_depth():
    """Rules of a recursive message hold however deep it goes."""
    file = descriptor_pb2.FileDescriptorProto(name="tests/tree.proto", package="tests.tree", syntax="proto3")
    file.dependency.append("ml_platform/v1/validation.proto")
    message = file.message_type.add(name="Node")
    message.field.add(name="name", number=1, type=9, label=1).options.Extensions[validation_pb2.rules].required = True
    message.field.add(name="child", number=2, type=11, label=1, type_name=".tests.tree.Node")
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    node = GetMessageClass(pool.FindMessageTypeByName("tests.tree.Node"))
    assert fields(node(name="a", child=node(name="b", child=node()))) == ["child.child.name"]


def test_a_watch_cannot_go_on_from_a_sequence_that_leaves_no_next_one():
    """The numbers of the new stream have to fit."""
    assert fields(jobs_pb2.WatchJobRequest(job_id="j", resume_after=2**64 - 1)) == ["resume_after"]
    assert fields(jobs_pb2.WatchJobRequest(job_id="j", resume_after=2**62)) == []
