"""Runs registered MLflow models of any flavour, in a process of its own, for the platform's server.

    BENTOML_DO_NOT_TRACK=True MLFLOW_TRACKING_URI=... bentoml serve service:ModelRunner --working-dir deploy/bentoml

`POST /predict_batch` answers many rows at once, `POST /load` has a version ready before its first row, `GET /readyz` is BentoML's
own. Requests and answers are JSON as Python has it: NaN, Infinity and -Infinity are numbers. Models may hold pickles, so whoever
may register models may run code here, and nowhere else.
"""  # noqa: INP001  # BentoML serves it from its folder

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from model_runner.failures import Failure
from model_runner.lanes import Lanes
from model_runner.models import LoadedModels

_log = logging.getLogger("bentoml.service.model_runner")

# Encoded here: BentoML's own JSON makes null of NaN and infinity.
Answer = Annotated[str, ContentType("application/json")]

# A registry that is down must cost a caller seconds, not MLflow's usual minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

MODELS = int(os.environ.get("ML_PLATFORM_RUNNER_MODELS", "16"))
THREADS = int(os.environ.get("ML_PLATFORM_RUNNER_THREADS", "8"))
# Of these, so many may work for one model: the others must not wait for one that hangs.
THREADS_PER_MODEL = int(os.environ.get("ML_PLATFORM_RUNNER_THREADS_PER_MODEL", str(max(1, THREADS * 3 // 4))))
WORKERS = int(os.environ.get("ML_PLATFORM_RUNNER_WORKERS", "1"))
TIMEOUT = int(os.environ.get("ML_PLATFORM_RUNNER_TIMEOUT", "60"))


@bentoml.service(
    name="ml_platform_model_runner",
    workers=WORKERS,
    traffic={"timeout": TIMEOUT},
    logging={"access": {"enabled": False}},
    metrics={"enabled": True},
)
class ModelRunner:
    """Holds the models used last, as many as ML_PLATFORM_RUNNER_MODELS says, and loads others when they are asked for."""

    def __init__(self) -> None:
        import mlflow.pyfunc  # noqa: F401, PLC0415  # takes seconds: here, before the service says that it is ready

        self._models = LoadedModels(limit=MODELS)
        self._lanes = Lanes(threads=THREADS, most=THREADS_PER_MODEL)

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict_batch(  # noqa: PLR0917  # BentoML passes them by name
        self,
        model_name: str,
        version: int,
        columns: dict[str, list[Any]],
        ctx: bentoml.Context,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # sent by the caller
    ) -> Answer:
        """Predict N rows.

        Args:
            model_name: the registered model.
            version: its version.
            columns: N values per input of the model's signature, as JSON can say them: times as text, bytes as base64.
            params: params of the model's signature, by name.
            ctx: given by BentoML; not sent.
            timeout: how long the caller waits, in seconds. Rows that have not begun by then are dropped.

        Returns:
            `outputs`: N values per output, called "prediction" if the model names none, and "probability" for classifiers that
            tell them; `classes`: their classes, in order. On failure `error` and `reason`, with a status of 4xx or 503; with
            INPUT_REJECTED and MODEL_FAILED `cause`, the class of the model's error and its line, and `stage`, "load" or
            "predict"; with INPUT_INVALID `column`.
        """

        def predicted() -> str:
            return json.dumps(self._models.get(model_name, version).predict(columns, params))

        return await self._done((model_name, version), predicted, ctx, timeout)

    @bentoml.api  # type: ignore[untyped-decorator]
    async def load(self, model_name: str, version: int, ctx: bentoml.Context) -> Answer:
        """Load a version ahead of its first row, again if its number stands for another version than the one held."""

        def loaded() -> str:
            self._models.renew(model_name, version)
            return json.dumps({"loaded": True})

        return await self._done((model_name, version), loaded, ctx)

    async def _done(
        self, model: tuple[str, int], work: Callable[[], str], ctx: bentoml.Context, seconds: float | None = None
    ) -> str:
        try:
            return str(await self._lanes.run(model, work, seconds))
        except Failure as failure:
            return _told(failure, ctx)


def _told(failure: Failure, ctx: bentoml.Context) -> str:
    _log.warning("%s: %s", failure.reason, failure, exc_info=failure.__cause__)
    ctx.response.status_code = failure.status
    return json.dumps({"error": str(failure), "reason": failure.reason, **failure.details})
