"""What a version keeps of where its model comes from."""

from __future__ import annotations

from ml_platform.v1.models_pb2 import RegisterModelRequest
from ml_platform_server.backends.mlflow.lineage import Lineage, of_version, read
from tests.support.refusals import refused

RUN = {"ml_platform.job_id": "job", "feast.feature_service": "fraud", "feast.feature_refs": "user:a,user:b", "other": "x"}
CUT = "user:a,user:b,use..."


def test_a_version_takes_what_its_run_recorded() -> None:
    """The job, the feature service and the features."""
    assert of_version(RegisterModelRequest(), RUN) == Lineage("fraud", ("user:a", "user:b"), "job")
    assert of_version(RegisterModelRequest(), {}) == Lineage()


def test_what_the_request_says_of_features_wins_and_is_not_mixed() -> None:
    """The job is still the run's."""
    assert of_version(RegisterModelRequest(feature_service="other"), RUN) == Lineage("other", (), "job")
    assert of_version(RegisterModelRequest(feature_refs=["user:c"]), RUN) == Lineage("", ("user:c",), "job")


def test_a_record_that_was_cut_is_not_taken_for_the_whole() -> None:
    """The feature service makes up for it; without one the caller has to."""
    assert of_version(RegisterModelRequest(), {**RUN, "feast.feature_refs": CUT}) == Lineage("fraud", (), "job")
    with refused("INVALID_FIELDS") as error:
        of_version(RegisterModelRequest(), {"feast.feature_refs": CUT})
    assert error.value.violations[0].field == "feature_refs"
    assert of_version(RegisterModelRequest(feature_refs=["user:c"]), {"feast.feature_refs": CUT}) == Lineage("", ("user:c",))


def test_tags_hold_a_lineage_and_give_it_back() -> None:
    """And what is not known makes no tag."""
    whole = Lineage("fraud", ("user:a", "user:b"), "job")
    assert read(whole.tags()) == whole
    assert Lineage(feature_service="fraud").tags() == {"feast.feature_service": "fraud"}
    assert read(Lineage().tags()) == Lineage()
