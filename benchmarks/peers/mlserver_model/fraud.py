"""MLServer's runtime with the model; MLServer loads it from the folder with its settings, in MLServer's environment."""

from __future__ import annotations

from typing import Any, cast

import fraud_model
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput
from numpy.typing import NDArray


class Fraud(MLModel):  # type: ignore[misc]  # MLServer is in an environment of its own
    """The model."""

    async def load(self) -> bool:
        """Load it."""
        self.model = fraud_model.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        said = self.model.ask({each.name: _array(each) for each in payload.inputs})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", said)])


def _array(tensor: RequestInput) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        return np.array(StringCodec.decode_input(tensor), dtype=object)
    return cast("NDArray[Any]", NumpyCodec.decode_input(tensor))
