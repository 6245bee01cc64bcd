"""The surface that callers rely on: names, arguments and fields, and what goes over the wire for each."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

import ml_platform
from ml_platform import InvalidArgument, MLPlatform, rpcs
from ml_platform.v1 import (
    deployments_pb2,
    errors_pb2,
    experiments_pb2,
    features_pb2,
    jobs_pb2,
    models_pb2,
    platform_pb2,
    predictions_pb2,
)
from ml_platform.v1 import training_pb2 as training
from ml_platform.values import to_struct
from ml_platform_server.errors import PlatformError
from ml_platform_server.errors import invalid as refusal
from tests.support.fake_platform import FakePlatform

FINISHED = experiments_pb2.RUN_STATUS_FINISHED
GOING = deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS
PRESENT = features_pb2.FEATURE_STATUS_PRESENT
UNHEALTHY = platform_pb2.HEALTH_STATUS_UNHEALTHY


def job(**fields: Any) -> jobs_pb2.Job:
    """A job as the server tells it."""
    made = jobs_pb2.Job(job_id="mlp-1", pipeline="dag", state=jobs_pb2.JOB_STATE_QUEUED)
    made.MergeFrom(jobs_pb2.Job(**fields))
    return made


def struct(**values: Any) -> Struct:
    """A Struct of values."""
    made = Struct()
    made.update(values)
    return made


def test_an_experiment_may_exist_already(platform: MLPlatform, fake: FakePlatform) -> None:
    """With exist_ok the experiment of that name is returned as it is; without it the error stays, in Python's words."""
    taken = PlatformError(
        errors_pb2.ERROR_REASON_EXPERIMENT_EXISTS, "There is one.", remedy="Use the one there is: GetExperiment finds it."
    )
    there = experiments_pb2.Experiment(experiment_id="7", name="exp")
    fake.answer(rpcs.CREATE_EXPERIMENT, taken)
    fake.answer(rpcs.GET_EXPERIMENT, experiments_pb2.GetExperimentResponse(experiment=there))
    experiment = platform.create_experiment(name="exp", exist_ok=True)
    assert (experiment.experiment_id, experiment.status) == ("7", "active")
    assert fake.calls(rpcs.GET_EXPERIMENT)[0].request.name == "exp"
    with pytest.raises(ml_platform.AlreadyExists) as caught:
        platform.create_experiment(name="exp")
    assert caught.value.remedy == "Use the one there is: get_experiment() finds it."


def test_an_experiment_is_found_by_a_name_that_is_given_as_its_id(platform: MLPlatform, fake: FakePlatform) -> None:
    """What is no id is looked up as a name; what looks like an id, or is given as a name, is looked up once."""
    there = experiments_pb2.GetExperimentResponse(experiment=experiments_pb2.Experiment(experiment_id="7", name="fraud"))
    missing = PlatformError(errors_pb2.ERROR_REASON_EXPERIMENT_NOT_FOUND, "There is none.", remedy="Make one.")
    fake.answer(rpcs.GET_EXPERIMENT, lambda request: there if request.name == "fraud" else missing)
    assert platform.get_experiment("fraud").experiment_id == "7"
    assert [(call.request.experiment_id, call.request.name) for call in fake.seen] == [("fraud", ""), ("", "fraud")]
    for asked in ({"experiment_id": "8"}, {"name": "other"}):
        before = len(fake.seen)
        with pytest.raises(ml_platform.NotFound):
            platform.get_experiment(**asked)
        assert len(fake.seen) == before + 1


def test_create_experiment(platform: MLPlatform, fake: FakePlatform) -> None:
    """An experiment is created with its tags, and answers both as an object and as a dictionary."""
    reply = experiments_pb2.Experiment(experiment_id="7", name="exp", tags={"test": "true"})
    fake.answer(rpcs.CREATE_EXPERIMENT, experiments_pb2.CreateExperimentResponse(experiment=reply))
    experiment = platform.create_experiment(name="exp", tags={"test": "true"}, description="why")
    request = fake.seen[0].request
    assert (request.name, dict(request.tags), request.description) == ("exp", {"test": "true"}, "why")
    assert (experiment.experiment_id, experiment.status) == ("7", "created")
    assert (experiment["experiment_id"], experiment.get("nothing", 0), "tags" in experiment) == ("7", 0, True)
    assert experiment.to_dict()["tags"] == {"test": "true"}


def test_list_experiments(platform: MLPlatform, fake: FakePlatform) -> None:
    """A list is whole, whatever the number of pages it came in."""
    pages = [
        experiments_pb2.ListExperimentsResponse(experiments=[experiments_pb2.Experiment(name=name)], next_page_token=token)
        for name, token in (("a", "more"), ("b", "rest"), ("c", ""))
    ]
    fake.answer(rpcs.LIST_EXPERIMENTS, *pages)
    assert [each.name for each in platform.list_experiments()] == ["a", "b", "c"]
    assert [call.request.page_token for call in fake.seen] == ["", "more", "rest"]


def test_a_limit_spares_pages(platform: MLPlatform, fake: FakePlatform) -> None:
    """A limited list asks for no page beyond its limit, and never gives more than the limit."""
    page = experiments_pb2.ListExperimentsResponse(experiments=[experiments_pb2.Experiment()] * 3, next_page_token="more")
    fake.answer(rpcs.LIST_EXPERIMENTS, page)
    assert len(platform.list_experiments(limit=2)) == 2
    assert [call.request.page_size for call in fake.seen] == [2]
    with pytest.raises(ml_platform.InvalidArgument, match="limit"):
        platform.list_experiments(limit=0)


def test_train_model(platform: MLPlatform, fake: FakePlatform) -> None:
    """A submitted job has the status "submitted"; dates may be text, dates or datetimes."""
    fake.answer(rpcs.SUBMIT_TRAINING_JOB, training.SubmitTrainingJobResponse(job=job()))
    started = platform.train_model(
        experiment_name="exp",
        data_start_date="2024-01-01",
        data_end_date=date(2024, 3, 31),
        parameters={"n_estimators": 50, "deep": {"rates": [0.1, 1]}},
        pipeline="mine",
    )
    request = fake.seen[0].request
    assert (request.data_start_date, request.data_end_date, request.pipeline) == ("2024-01-01", "2024-03-31", "mine")
    assert request.parameters == struct(n_estimators=50, deep={"rates": [0.1, 1]})
    assert (started.job_id, started.dag_id, started.status, started["status"]) == ("mlp-1", "dag", "submitted", "submitted")


@pytest.mark.parametrize("state", ["queued", "running", "success", "failed"])
def test_get_training_job_status(platform: MLPlatform, fake: FakePlatform, state: str) -> None:
    """A status is one of four words, with a sentence."""
    told = job(state=jobs_pb2.JobState.Value(f"JOB_STATE_{state.upper()}"), message="So it is.", best_run_id="r1")
    fake.answer(rpcs.GET_JOB, jobs_pb2.GetJobResponse(job=told))
    status = platform.get_training_job_status("mlp-1")
    assert (status["status"], status["message"], status.best_run_id) == (state, "So it is.", "r1")


def test_get_experiment_runs(platform: MLPlatform, fake: FakePlatform) -> None:
    """Runs come with metrics, parameters and tags."""
    run = experiments_pb2.Run(run_id="r1", metrics={"accuracy": 0.9}, params={"depth": "3"}, tags={"a": "b"}, status=FINISHED)
    run.start_time.FromJsonString("2024-01-01T00:00:00Z")
    fake.answer(rpcs.LIST_RUNS, experiments_pb2.ListRunsResponse(runs=[run]))
    runs = platform.get_experiment_runs("7", filter="metrics.accuracy > 0.5", order_by="metrics.accuracy DESC")
    assert (runs[0]["run_id"], runs[0]["metrics"]["accuracy"], runs[0].params["depth"]) == ("r1", 0.9, "3")
    assert (runs[0].status, runs[0].start_time, runs[0].end_time) == ("finished", datetime(2024, 1, 1, tzinfo=UTC), None)
    request = fake.seen[0].request
    assert (request.filter, request.order_by) == ("metrics.accuracy > 0.5", "metrics.accuracy DESC")


def test_register_model(platform: MLPlatform, fake: FakePlatform) -> None:
    """A registered version has a name, a number and the status "registered"."""
    version = models_pb2.ModelVersion(model_name="m", version=2, stage=models_pb2.MODEL_STAGE_NONE)
    fake.answer(rpcs.REGISTER_MODEL, models_pb2.RegisterModelResponse(model_version=version))
    model = platform.register_model(run_id="r1", name="m", description=None, feature_refs=["v:f"])
    assert (model.name, model.version, model.status, model.stage, model.signature) == ("m", 2, "registered", "None", None)
    assert list(fake.seen[0].request.feature_refs) == ["v:f"]


@pytest.mark.parametrize(
    ("versions", "shown"),
    [
        ({"latest_version": 3, "latest_stage": 1}, (3, "None")),
        ({"latest_version": 3, "latest_stage": 1, "active_versions": {"staging": 2}}, (2, "Staging")),
        ({"latest_version": 3, "latest_stage": 2, "active_versions": {"staging": 3, "production": 1}}, (1, "Production")),
        ({"latest_version": 3, "latest_stage": 4}, (3, "Archived")),
    ],
)
def test_list_models(platform: MLPlatform, fake: FakePlatform, versions: dict[str, Any], shown: tuple[int, str]) -> None:
    """A model shows the version that is deployed highest, else the newest, and where that version stands."""
    listed = models_pb2.RegisteredModel(name="m", **versions)
    fake.answer(rpcs.LIST_MODELS, models_pb2.ListModelsResponse(models=[listed]))
    (model,) = platform.list_models()
    assert (model.version, model.stage, model.latest_version) == (*shown, 3)


def test_deploy_model(platform: MLPlatform, fake: FakePlatform) -> None:
    """A deployment that was started has the status "deployment_initiated"; an environment may be written in any case."""
    started = deployments_pb2.Deployment(deployment_id="d1", state=GOING, environment="staging")
    fake.answer(rpcs.DEPLOY_MODEL, deployments_pb2.DeployModelResponse(deployment=started))
    deployment = platform.deploy_model(model_name="m", version=1, environment="Staging", reason="why")
    assert (deployment["status"], deployment.state, deployment.environment) == ("deployment_initiated", "in_progress", "staging")
    assert fake.seen[0].request.environment == "staging"


def test_a_deployment_has_a_feature_policy(platform: MLPlatform, fake: FakePlatform) -> None:
    """The policy is written in words; defaults alone mean that they are used, and nothing said is the usual policy."""
    policy = deployments_pb2.FeaturePolicy(missing=deployments_pb2.MISSING_FEATURES_DEFAULT, defaults=to_struct({"total": 1}, ""))
    started = deployments_pb2.Deployment(deployment_id="d1", state=GOING, feature_policy=policy)
    fake.answer(rpcs.DEPLOY_MODEL, deployments_pb2.DeployModelResponse(deployment=started))
    deployment = platform.deploy_model("m", 1, "staging", defaults={"total": 1})
    platform.deploy_model("m", 1, "staging", on_missing="Fail", on_stale="as_missing")
    platform.deploy_model("m", 1, "staging")
    assert fake.seen[0].request.feature_policy == policy
    assert deployment["feature_policy"].to_dict() == {"on_missing": "default", "on_stale": "use", "defaults": {"total": 1}}
    asked = fake.seen[1].request.feature_policy
    assert (asked.missing, asked.stale) == (deployments_pb2.MISSING_FEATURES_FAIL, deployments_pb2.STALE_FEATURES_AS_MISSING)
    assert not fake.seen[2].request.HasField("feature_policy")
    with pytest.raises(InvalidArgument, match="on_stale"):
        platform.deploy_model("m", 1, "staging", on_stale="maybe")


def test_a_deployment_is_waited_for(platform: MLPlatform, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `wait`, deploying returns when traffic has moved, and raises with the reason when it has not."""
    monkeypatch.setattr("ml_platform.sync.deployments.LOOK_INTERVAL", 0.001)
    monkeypatch.setattr("ml_platform.aio.deployments.LOOK_INTERVAL", 0.001)
    going, active, failed = (
        deployments_pb2.Deployment(deployment_id="d1", state=state, message="it does not answer")
        for state in (
            deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS,
            deployments_pb2.DEPLOYMENT_STATE_ACTIVE,
            deployments_pb2.DEPLOYMENT_STATE_FAILED,
        )
    )
    looks = [deployments_pb2.GetDeploymentResponse(deployment=each) for each in (going, going, active)]
    fake.answer(rpcs.DEPLOY_MODEL, deployments_pb2.DeployModelResponse(deployment=going))
    fake.answer(rpcs.GET_DEPLOYMENT, *looks)
    assert platform.deploy_model("m", 1, "production", wait=True)["status"] == "active"
    fake.answer(rpcs.GET_DEPLOYMENT, deployments_pb2.GetDeploymentResponse(deployment=failed))
    with pytest.raises(ml_platform.JobFailed, match="it does not answer"):
        platform.deploy_model("m", 1, "production", wait=True)
    fake.answer(rpcs.GET_DEPLOYMENT, looks[0])
    with pytest.raises(ml_platform.DeadlineExceeded, match="still in progress"):
        platform.deploy_model("m", 1, "production", wait=True, timeout=0.01)


@pytest.mark.parametrize("environment", ["", " ", None, 2])
def test_a_bad_environment_is_refused_before_any_call(platform: MLPlatform, fake: FakePlatform, environment: Any) -> None:
    """What is no name is an InvalidArgument (and a ValueError), and nothing is sent. The server knows which names there are."""
    with pytest.raises(ValueError, match="such as 'staging' or 'production'") as caught:
        platform.deploy_model(model_name="m", version=1, environment=environment)
    assert isinstance(caught.value, ml_platform.InvalidArgument)
    assert [violation.field for violation in caught.value.violations] == ["environment"]
    assert fake.seen == []


def test_materialize_features(platform: MLPlatform, fake: FakePlatform) -> None:
    """Materialization is waited for; a day as the end of the window counts in full."""
    done = job(state=jobs_pb2.JOB_STATE_SUCCESS, message="Loaded.")
    fake.answer(rpcs.MATERIALIZE_FEATURES, features_pb2.MaterializeFeaturesResponse(job=job()))
    fake.answer(rpcs.WATCH_JOB, [jobs_pb2.WatchJobResponse(event=jobs_pb2.WATCH_EVENT_TERMINAL, sequence=1, job=done)])
    result = platform.materialize_features(feature_view="user_features", start_date="2024-01-01", end_date="2024-01-31")
    request = fake.seen[0].request
    assert list(request.feature_views) == ["user_features"]
    assert request.start_time.ToJsonString() == "2024-01-01T00:00:00Z"
    assert request.end_time.ToJsonString() == "2024-02-01T00:00:00Z"
    assert (result["status"], result.job_id, result.message) == ("materialized", "mlp-1", "Loaded.")


def test_a_failed_materialization_raises_with_its_reason(platform: MLPlatform, fake: FakePlatform) -> None:
    """When the job fails, the error says in which task and why; without `wait` nothing is watched."""
    failed = job(state=jobs_pb2.JOB_STATE_FAILED, message="No rows.", failed_task_id="load")
    fake.answer(rpcs.MATERIALIZE_FEATURES, features_pb2.MaterializeFeaturesResponse(job=job()))
    fake.answer(rpcs.WATCH_JOB, [jobs_pb2.WatchJobResponse(event=jobs_pb2.WATCH_EVENT_TERMINAL, sequence=1, job=failed)])
    with pytest.raises(ml_platform.JobFailed, match="'load': No rows") as caught:
        platform.materialize_features("v", "2024-01-01", "2024-01-31")
    assert (caught.value.task, caught.value.job.failed_task_id if caught.value.job else "") == ("load", "load")
    assert platform.materialize_features(["v", "w"], "2024-01-01", "2024-01-31", wait=False)["status"] == "submitted"
    assert len(fake.calls(rpcs.WATCH_JOB)) == 1


def test_get_online_features(platform: MLPlatform, fake: FakePlatform) -> None:
    """Features come by name, with their status and event time; an entity's id may be any key's value."""
    value = features_pb2.FeatureValue(feature_view="user_features", name="total", value=Value(number_value=42), status=PRESENT)
    value.event_time.FromJsonString("2024-01-01T00:00:00Z")
    vector = features_pb2.FeatureVector(keys=struct(user_id="user_1"), features=[value])
    fake.answer(rpcs.GET_ONLINE_FEATURES, features_pb2.GetOnlineFeaturesResponse(vectors=[vector]))
    online = platform.get_online_features(entity_id="user_1", feature_views=["user_features:total"])
    assert online["features"] == {"total": 42}
    assert online.statuses == {"total": "present"}
    assert online.event_times == {"total": datetime(2024, 1, 1, tzinfo=UTC)}
    platform.get_online_features(entities=[{"a": 1, "b": "x"}, "user_2"], feature_service="service")
    first, second = (call.request for call in fake.seen)
    assert (list(first.features), first.entities[0].entity_id) == (["user_features:total"], "user_1")
    assert (second.feature_service, second.entities[0].keys, second.entities[1].entity_id) == (
        "service",
        struct(a=1, b="x"),
        "user_2",
    )


def numbers(*things: float | str) -> Value:
    """A list of what JSON has for numbers."""
    values = [Value(string_value=each) if isinstance(each, str) else Value(number_value=each) for each in things]
    return Value(list_value=ListValue(values=values))


@pytest.mark.parametrize(
    ("value_type", "value", "expected"),
    [
        ("INT64", Value(number_value=5), 5),
        ("INT64", Value(string_value=str(2**63 - 1)), 2**63 - 1),
        ("INT32", Value(number_value=-5), -5),
        ("INT64_LIST", numbers(1, str(2**62)), [1, 2**62]),
        ("DOUBLE", Value(number_value=5), 5.0),
        ("FLOAT", Value(string_value="-Infinity"), float("-inf")),
        ("DOUBLE_LIST", numbers(1, "Infinity"), [1.0, float("inf")]),
        ("FLOAT_LIST", numbers(1, "NaN"), [1.0, float("nan")]),
        ("STRING", Value(string_value="Infinity"), "Infinity"),
        ("STRING", Value(string_value=str(2**60)), str(2**60)),
        ("DOUBLE", Value(null_value=NULL_VALUE), None),
        ("INT64", Value(null_value=NULL_VALUE), None),
    ],
)
def test_a_feature_s_value_is_of_its_type(
    platform: MLPlatform, fake: FakePlatform, value_type: str, value: Value, expected: object
) -> None:
    """Integers are int, whatever their size, and other numbers float, whatever JSON makes of them."""
    kind = features_pb2.ValueType.Value(f"VALUE_TYPE_{value_type}")
    feature = features_pb2.FeatureValue(feature_view="v", name="f", value=value, status=PRESENT, value_type=kind)
    vector = features_pb2.FeatureVector(features=[feature])
    fake.answer(rpcs.GET_ONLINE_FEATURES, features_pb2.GetOnlineFeaturesResponse(vectors=[vector]))
    assert repr(platform.get_online_features("x", feature_views=["v"]).features["f"]) == repr(expected)


def test_keys_are_of_their_types(platform: MLPlatform, fake: FakePlatform) -> None:
    """An integer that JSON writes as text is an integer again; digits of a key that is text stay text. In every part."""
    types = {"number": features_pb2.VALUE_TYPE_INT64, "code": features_pb2.VALUE_TYPE_STRING}
    vector = features_pb2.FeatureVector(keys=struct(number=str(2**60), code=str(2**60)))
    small = features_pb2.FeatureVector(keys=struct(number=7, code="7"))
    response = features_pb2.GetOnlineFeaturesResponse(vectors=[vector, small], key_types=types)
    fake.answer(rpcs.GET_ONLINE_FEATURES, response, response)
    read = platform.get_online_features(entities=[{"number": 1, "code": "a"}] * 1001, feature_views=["v"])
    assert read.vectors[2].entity == {"number": 2**60, "code": str(2**60)}
    assert read.vectors[3].entity == {"number": 7, "code": "7"}
    assert type(read.vectors[3].entity["number"]) is int


def test_many_entities_are_read_in_parts(platform: MLPlatform, fake: FakePlatform) -> None:
    """In their order, however many; an error says from which entity on it came."""

    def vectors(request: features_pb2.GetOnlineFeaturesRequest) -> features_pb2.GetOnlineFeaturesResponse:
        found = [features_pb2.FeatureVector(keys=struct(user_id=each.entity_id)) for each in request.entities]
        return features_pb2.GetOnlineFeaturesResponse(vectors=found)

    fake.answer(rpcs.GET_ONLINE_FEATURES, vectors)
    names = [f"u{number}" for number in range(2001)]
    online = platform.get_online_features(entities=names, feature_views=["v"])
    assert [vector.entity["user_id"] for vector in online.vectors] == names
    assert [len(call.request.entities) for call in fake.seen] == [1000, 1000, 1]
    fake.answer(rpcs.GET_ONLINE_FEATURES, vectors, vectors, refusal("entities[0]", "is wrong"))
    with pytest.raises(ml_platform.InvalidArgument, match="Of the entities from 2000 on"):
        platform.get_online_features(entities=names, feature_views=["v"])


def test_features_that_share_a_name_keep_apart(platform: MLPlatform, fake: FakePlatform) -> None:
    """A name that two views share is written with its view before it."""
    values = [
        features_pb2.FeatureValue(feature_view=view, name="total", value=Value(number_value=number), status=PRESENT)
        for view, number in (("a", 1), ("b", 2))
    ]
    vector = features_pb2.FeatureVector(features=values)
    fake.answer(rpcs.GET_ONLINE_FEATURES, features_pb2.GetOnlineFeaturesResponse(vectors=[vector]))
    assert platform.get_online_features("x", feature_views=["a", "b"]).features == {"a__total": 1, "b__total": 2}


def test_register_feature_view(platform: MLPlatform, fake: FakePlatform) -> None:
    """A view is defined with plain words and comes back as it was defined."""
    fake.answer(
        rpcs.REGISTER_FEATURE_VIEW, lambda request: features_pb2.RegisterFeatureViewResponse(feature_view=request.feature_view)
    )
    view = platform.register_feature_view(
        "shop", entities={"shop_id": "int64"}, features={"sold": int, "income": "DOUBLE"}, source="/data/s.parquet", ttl=3600
    )
    assert view.entities == (ml_platform.Entity("shop_id", "shop_id", "int64"),)
    assert view.features == (ml_platform.Feature("sold", "int64"), ml_platform.Feature("income", "double"))
    assert view.source == ml_platform.FileSource("/data/s.parquet", "event_timestamp")
    assert view.ttl == timedelta(hours=1)


@pytest.mark.parametrize("source", [None, 5, ["a.parquet"]])
def test_a_source_that_is_no_path_is_refused(platform: MLPlatform, fake: FakePlatform, source: Any) -> None:
    """Before anything is asked of the platform."""
    with pytest.raises(ml_platform.InvalidArgument, match="a path or a FileSource is wanted"):
        platform.register_feature_view("shop", entities={"shop_id": "int64"}, features={"sold": int}, source=source)
    assert fake.seen == []


def test_push_features(platform: MLPlatform, fake: FakePlatform) -> None:
    """Many rows go in several calls, each with an id of its own that a repeat would use again."""
    fake.answer(rpcs.PUSH_FEATURES, lambda request: features_pb2.PushFeaturesResponse(row_count=len(request.rows)))
    rows = [{"user_id": f"u{number}", "total": float("nan"), "event_timestamp": "2024-01-01"} for number in range(1001)]
    assert platform.push_features("v", rows, request_id="mine").row_count == 1001
    assert [call.request.request_id for call in fake.seen] == ["mine", "mine.1"]
    first = fake.seen[0].request.rows[0]
    assert (first.values, first.event_time.ToJsonString()) == (struct(user_id="u0", total=None), "2024-01-01T00:00:00Z")


def test_rows_that_a_push_skipped_are_counted_over_all_calls(platform: MLPlatform, fake: FakePlatform) -> None:
    """A row's index is its place among the rows given, in whichever call it went."""

    def answer(request: features_pb2.PushFeaturesRequest) -> features_pb2.PushFeaturesResponse:
        response = features_pb2.PushFeaturesResponse(row_count=len(request.rows) - 1, skipped_count=1)
        response.skipped_rows.add(index=0).newer_time.FromJsonString("2024-01-02T00:00:00.5Z")
        return response

    fake.answer(rpcs.PUSH_FEATURES, answer)
    result = platform.push_features("v", [{"u": number} for number in range(1002)])
    newer = datetime(2024, 1, 2, microsecond=500_000, tzinfo=UTC)
    assert (result.row_count, result.skipped_count) == (1000, 2)
    assert result.skipped_rows == (ml_platform.SkippedRow(0, newer), ml_platform.SkippedRow(1000, newer))


def test_predict(platform: MLPlatform, fake: FakePlatform) -> None:
    """A prediction says what the model said, with which probability, and which version said it."""
    reply = predictions_pb2.PredictResponse(
        prediction_id="p", model_name="m", model_version=2, prediction=Value(number_value=1), probability=0.87
    )
    fake.answer(rpcs.PREDICT, reply)
    prediction = platform.predict("m", {"user_id": "user_1", "amount": 9.5}, include_features=True)
    assert (prediction.prediction, prediction.probability, prediction["model_version"]) == (1, 0.87, 2)
    request = fake.seen[0].request
    assert (request.environment, request.include_features) == ("production", True)
    assert request.inputs == struct(user_id="user_1", amount=9.5)


def test_the_platform_tells_of_itself(platform: MLPlatform, fake: FakePlatform) -> None:
    """Health, metrics and the caller's identity are typed results too."""
    backend = platform_pb2.BackendHealth(name="mlflow", status=UNHEALTHY, last_error="down")
    fake.answer(rpcs.GET_HEALTH, platform_pb2.GetHealthResponse(status=UNHEALTHY, backends=[backend]))
    fake.answer(rpcs.GET_USAGE, platform_pb2.GetUsageResponse(experiments=1, training_jobs_last_24h=4))
    fake.answer(rpcs.WHO_AM_I, platform_pb2.WhoAmIResponse(principal="ada", scopes=["models:read"]))
    health = platform.health()
    assert (health.status, health.backends[0].name, health.backends[0].last_error) == ("unhealthy", "mlflow", "down")
    assert platform.metrics()["training_jobs_last_24h"] == 4
    assert (platform.whoami().principal, platform.whoami().scopes) == ("ada", ("models:read",))
