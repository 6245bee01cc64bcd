"""The two that every figure compares: a call of Predict with everything on, and the echo of the same bytes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from benchmarks import model, payloads
from benchmarks.bench_stack import BenchStack
from benchmarks.deployments import PRODUCTION
from benchmarks.driver import Call
from benchmarks.load import Target
from deploy.local.config import HOST
from ml_platform.v1 import predictions_pb2, predictions_pb2_grpc

ANSWER_PATIENCE = 60.0
PREDICT = "/ml_platform.v1.PredictionService/Predict"


@dataclass(frozen=True)
class Pair:
    """Both, as ghz and as the driver call them, and the processes behind them."""

    echo: Target
    echo_call: Call
    echo_server: list[psutil.Process]
    predict: Target
    predict_call: Call
    server: list[psutil.Process]


def start(stack: BenchStack) -> Pair:
    """Start the server with the model deployed, and an echo that gives the bytes of its first answer."""
    stack.deploy(model.ONNX_MODEL, stack.facts.versions[model.ONNX_MODEL][0])
    stack.start("server")
    folder = stack.state.folder("load")
    requests = predict_requests(stack, model.ONNX_MODEL)
    reply = folder / "reply.bin"
    reply.write_bytes(first_answer(stack, requests[0]).SerializeToString())
    sent = payloads.write(folder / "predict.bin", requests)
    echo_host = start_echo(stack, str(reply))
    return Pair(
        echo=Target("echo", "echo", echo_host, sent),
        echo_call=Call("echo", echo_host, "/bench.Echo/Echo", sent),
        echo_server=stack.tree("echo"),
        predict=predict_target(stack, "predict", requests),
        predict_call=Call("predict", stack.target, PREDICT, sent, metadata(stack)),
        server=stack.tree("server"),
    )


def predict_target(stack: BenchStack, name: str, requests: list[predictions_pb2.PredictRequest]) -> Target:
    """Calls of Predict with these requests."""
    folder = stack.state.folder("load")
    descriptors = payloads.write_descriptors(folder / "platform.protoset", predictions_pb2.DESCRIPTOR)
    options = ("--metadata-file", str(metadata(stack)), "--protoset", str(descriptors))
    return Target(name, "predict", stack.target, payloads.write(folder / f"{name}.bin", requests), options)


def metadata(stack: BenchStack) -> Path:
    """The file with the key that every call brings."""
    return payloads.write_metadata(stack.state.folder("load") / "metadata.json", {"authorization": f"Bearer {stack.api_key}"})


def predict_requests(stack: BenchStack, name: str) -> list[predictions_pb2.PredictRequest]:
    """One request for each sample row, as a caller sends it: without the features."""
    made = []
    for inputs in stack.facts.requests():
        request = predictions_pb2.PredictRequest(model_name=name, environment=PRODUCTION)
        request.inputs.update(inputs)
        made.append(request)
    return made


def first_answer(stack: BenchStack, request: predictions_pb2.PredictRequest) -> predictions_pb2.PredictResponse:
    """Ask until there is an answer: models load in the background."""
    until = time.monotonic() + ANSWER_PATIENCE
    with grpc.insecure_channel(stack.target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = predictions_pb2_grpc.PredictionServiceStub(channel)
        while True:
            try:
                key = (("authorization", f"Bearer {stack.api_key}"),)
                return stub.Predict(request, metadata=key, timeout=ANSWER_PATIENCE)
            except grpc.RpcError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


def start_echo(stack: BenchStack, reply: str, name: str = "echo", *words: str) -> str:
    """Start an echo; gives where it listens."""
    stack.state.log(name).unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.echo_server", reply, *words]
    stack.run(name, command, lambda: None if _printed(stack, name) else "is silent")
    return f"{HOST}:{_printed(stack, name)}"


def _printed(stack: BenchStack, name: str) -> str:
    log = stack.state.log(name)
    return log.read_text().strip() if log.exists() else ""
