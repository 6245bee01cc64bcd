"""Predictions and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_platform.errors import MLPlatformError
from ml_platform.records import Record
from ml_platform.resources.features import FeatureValue, read_values
from ml_platform.status import from_status
from ml_platform.v1 import predictions_pb2
from ml_platform.values import from_output, infinities


@dataclass(frozen=True, slots=True, repr=False)
class Prediction(Record):
    """What a deployed model says.

    `prediction` is the model's first output: a label, a number, or a list. Integers are int and other numbers float, however the
    prediction was asked for. `probability` is None unless the model is a classifier
    that gives one: of the positive class if there are two classes, else of the predicted class. `outputs` holds every output by
    name, and `features` every feature that was used, if they were asked for. `degraded_features` names the features that were
    missing or stale, as "view:feature", if the deployment's policy says to go on all the same. `unused_inputs` names the inputs
    that nothing used, perhaps because they are misspelt.
    """

    prediction: Any
    probability: float | None
    outputs: dict[str, Any]
    model_name: str
    model_version: int
    deployment_id: str
    prediction_id: str
    features: tuple[FeatureValue, ...]
    degraded_features: tuple[str, ...] = ()
    unused_inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class StreamedPrediction(Record):
    """The answer to one request of a stream.

    `index` is the request's position among those that were sent, from 0. Either `prediction` is what the model says, or `error`
    is why it says nothing.
    """

    index: int
    prediction: Prediction | None
    error: MLPlatformError | None


def read_streamed(message: predictions_pb2.StreamPredictResponse) -> StreamedPrediction:
    """Make an answer of the reply."""
    if message.HasField("error"):
        return StreamedPrediction(int(message.id), None, from_status(message.error))
    return StreamedPrediction(int(message.id), read_prediction(message.prediction), None)


def read_outputs(message: predictions_pb2.PredictResponse | predictions_pb2.RowPrediction) -> dict[str, Any]:
    """The outputs by name, each of its own type."""
    integers, infinite = frozenset(message.integer_outputs), frozenset(message.infinite_outputs)
    found = message.outputs.fields.items()
    return {name: from_output(value, integer=name in integers, numbers=infinities(name in infinite)) for name, value in found}


def read_prediction(message: predictions_pb2.PredictResponse) -> Prediction:
    """Make a prediction of the reply."""
    return Prediction(
        prediction=from_output(
            message.prediction, integer=message.integer_prediction, numbers=infinities(message.infinite_prediction)
        ),
        probability=message.probability if message.HasField("probability") else None,
        outputs=read_outputs(message),
        model_name=message.model_name,
        model_version=message.model_version,
        deployment_id=message.deployment_id,
        prediction_id=message.prediction_id,
        features=read_values(message.features),
        degraded_features=tuple(message.degraded_features),
        unused_inputs=tuple(message.unused_inputs),
    )
