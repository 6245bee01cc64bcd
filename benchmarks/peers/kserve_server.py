"""KServe's Python server: `python kserve_server.py grpc_port http_port`, in KServe's environment, FRAUD_MODEL set."""

from __future__ import annotations

import sys
from typing import Any

import fraud_model
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Fraud(Model):  # type: ignore[misc]  # KServe is in an environment of its own
    """The model."""

    def __init__(self) -> None:
        super().__init__("fraud")
        self.model = fraud_model.load()
        self.ready = True

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:  # noqa: ANN401, ARG002
        """Answer one request."""
        said = self.model.ask({each.name: each.as_numpy() for each in payload.inputs})
        output = InferOutput(name="probabilities", shape=list(said.shape), datatype="FP64" if said.itemsize > 4 else "FP32")
        output.set_data_from_numpy(said)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    grpc_port, http_port = sys.argv[1:]
    server = ModelServer(grpc_port=int(grpc_port), http_port=int(http_port), workers=1, enable_latency_logging=False)
    server.start([Fraud()])
