"""The part of the client that asks models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, overload
from uuid import uuid4

import grpc

from ml_platform import rpcs
from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.aio.transport import Source, each
from ml_platform.errors import MLPlatformError
from ml_platform.records import Listing
from ml_platform.resources.batches import Rows, checked_mode, parts, read_batch, to_name
from ml_platform.resources.deployments import to_environment
from ml_platform.resources.predictions import Prediction, StreamedPrediction, read_prediction, read_streamed
from ml_platform.v1 import predictions_pb2
from ml_platform.values import build, to_flag, to_params, to_struct


class AsyncPredictions:
    """The part of the client that asks models."""

    _invoker: AsyncInvoker

    async def predict(
        self,
        model_name: str,
        inputs: Mapping[str, Any],
        environment: str = "production",
        include_features: bool = False,
        *,
        params: Mapping[str, Any] | None = None,
    ) -> Prediction:
        """Ask a deployed model for a prediction.

        Args:
            model_name: the registered model's name.
            inputs: what is known, by name: columns of the model, and join keys of the features it uses. What is not given is
                looked up in the online feature store; what is given wins over what is stored.
            environment: "production" or "staging".
            include_features: whether the reply tells every feature that was used.
            params: params of the model's signature, by name.

        Raises:
            InvalidArgument: an input is missing or does not fit, or there is no such environment.
            NotFound: there is no such model.
            FailedPrecondition: the model is not deployed there, or a feature it needs has no value.

        Example:
            >>> reply = await platform.predict("fraud", {"user_id": "user_1", "amount": 950.0}, environment="staging")
            >>> reply.prediction, reply.probability, reply.model_version
            (1, 0.87, 2)
        """
        request = build(
            predictions_pb2.PredictRequest,
            model_name=model_name,
            environment=to_environment(environment),
            inputs=to_struct(inputs, "inputs"),
            include_features=include_features,
            params=to_params(params),
        )
        return read_prediction(await self._invoker.call(rpcs.PREDICT, request))

    @overload
    async def predict_many(
        self,
        model_name: str,
        rows: Rows,
        environment: str = "production",
        include_features: bool = False,
        on_error: Literal["raise"] = "raise",
        *,
        params: Mapping[str, Any] | None = None,
    ) -> Listing[Prediction]: ...

    @overload
    async def predict_many(
        self,
        model_name: str,
        rows: Rows,
        environment: str = "production",
        include_features: bool = False,
        *,
        on_error: Literal["return"],
        params: Mapping[str, Any] | None = None,
    ) -> Listing[Prediction | MLPlatformError]: ...

    async def predict_many(
        self,
        model_name: str,
        rows: Rows,
        environment: str = "production",
        include_features: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        *,
        params: Mapping[str, Any] | None = None,
    ) -> Listing[Prediction] | Listing[Prediction | MLPlatformError]:
        """Ask a deployed model for a prediction of each row, in as few calls as their size allows.

        Args:
            model_name: the registered model's name.
            rows: the rows, each a mapping as `predict` takes it; or a DataFrame, which is sent column by column and is answered
                many times faster.
            environment: "production" or "staging".
            include_features: whether the predictions tell every feature that was used; not with a DataFrame.
            on_error: what to do about a row that cannot be predicted: "raise" its error, which tells the row, or "return" the
                error in its place.
            params: params of the model's signature, by name.

        Returns:
            One prediction a row, in the order of the rows; with on_error="return" errors among them.

        Raises:
            InvalidArgument: an input is missing or does not fit; a value cannot be sent.
            NotFound: there is no such model.
            FailedPrecondition: the model is not deployed there, or a feature it needs has no value.

        Example:
            >>> replies = await platform.predict_many("fraud", transactions[["user_id", "amount"]])
            >>> [reply.prediction for reply in replies]
            [0, 1, 0]
        """
        raising = checked_mode(on_error) == "raise"
        found: Listing[Prediction | MLPlatformError] = Listing()
        given = to_params(params)
        for request in parts(rows, include_features=to_flag(include_features, "include_features")):
            if given is not None:
                request.params.CopyFrom(given)
            request.model_name, request.environment = to_name(model_name), to_environment(environment)
            response = await self._invoker.call(rpcs.BATCH_PREDICT, request)
            found.extend(read_batch(request, response, first=len(found), raising=raising))
        return found

    async def predict_stream(
        self,
        model_name: str,
        inputs: Source,
        environment: str = "production",
        include_features: bool = False,
        *,
        params: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[StreamedPrediction]:
        """Ask a deployed model about one set of inputs after the other, over one stream; each answer comes as soon as it can.

        A request that fails gives an answer with an error, and the stream goes on. Whoever stops reading before the end should
        close the iterator. A stream that breaks is not taken up again: what was not answered is to be sent anew.

        Args:
            model_name: the registered model's name.
            inputs: the inputs, each as `predict` takes them. They are taken as the platform takes them, so there may be endlessly
                many.
            environment: "production" or "staging".
            include_features: whether the predictions tell every feature that was used.
            params: params of the model's signature, by name.

        Raises:
            InvalidArgument: inputs that cannot be sent; the answers to those before them come first.
            MLPlatformError: the stream broke.

        Example:
            >>> async for answer in platform.predict_stream("fraud", transactions):
            ...     print(answer.index, answer.prediction.prediction if answer.prediction else answer.error)
        """
        where = to_environment(environment)
        name = to_name(model_name)
        given, featured = to_params(params), to_flag(include_features, "include_features")

        def request(index: int, one: Mapping[str, Any]) -> predictions_pb2.StreamPredictRequest:
            struct = to_struct(one, f"inputs[{index}]")
            return predictions_pb2.StreamPredictRequest(
                id=str(index),
                model_name=name,
                environment=where,
                inputs=struct,
                include_features=featured,
                params=given,
            )

        call_id = uuid4().hex
        requests = each(inputs, request)
        stream = self._invoker.bidi_stream(rpcs.STREAM_PREDICT, requests, call_id=call_id)
        try:
            while (answer := await stream.read()) is not None:
                yield read_streamed(answer)
        except grpc.RpcError as error:
            raise self._invoker.translate(error, call_id) from None
        finally:
            stream.cancel()
        if requests.failure is not None:
            raise requests.failure
