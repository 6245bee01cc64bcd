"""What somebody does who has Triton's client, and nothing of ours. Prints what the server told."""

import json
import queue
import sys
from typing import Any

import google.protobuf
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

url, key = sys.argv[1:]
headers = {"authorization": f"Bearer {key}"}
client = triton.InferenceServerClient(url)
told: dict[str, object] = {"protobuf": google.protobuf.__version__}

told["live"] = client.is_server_live()
told["ready"] = client.is_server_ready()
told["models"] = [client.is_model_ready(name, headers=headers) for name in ("m", "other")]
told["server"] = client.get_server_metadata(headers=headers).name
told["metadata"] = client.get_model_metadata("m", headers=headers, as_json=True)


def tensor(name, array, datatype):
    """An input with its data, sent raw as this client always does."""
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


amounts = tensor("amount", np.array([[1.0], [2.0]]), "FP64")
keys = tensor("user_id", np.array(["u1", "u1"], dtype=np.object_), "BYTES")
result = client.infer("m", [amounts, keys], request_id="mine", headers=headers)
told["raw"] = {name: result.as_numpy(name).tolist() for name in ("amount_out", "total_out", "word_out")}
told["id"] = result.get_response().id
told["deployment"] = result.get_response().parameters["deployment_id"].string_param

wanted = [triton.InferRequestedOutput("total_out")]
result = client.infer("m", [amounts, tensor("total", np.array([5.0, 6.0]), "FP64")], outputs=wanted, headers=headers)
told["wanted"] = [result.as_numpy("total_out").tolist(), result.as_numpy("amount_out") is None]

# The client sends raw data only, so the typed form goes by its own messages.
pb2 = triton.service_pb2
request = pb2.ModelInferRequest(model_name="m")
for name, values in (("amount", [1.5]), ("total", [2.5])):
    made = request.inputs.add(name=name, datatype="FP64", shape=[1])
    made.contents.fp64_contents.extend(values)
typed = client._client_stub.ModelInfer(request, metadata=list(headers.items()))
told["typed"] = {output.name: list(output.contents.fp64_contents) for output in typed.outputs if output.datatype == "FP64"}

answers: queue.Queue[Any] = queue.Queue()
for at in range(10):
    inputs = [tensor("amount", np.array([float(at)]), "FP64"), tensor("total", np.array([0.0]), "FP64")]
    client.async_infer("m", inputs, lambda result, error: answers.put((result, error)), headers=headers)
told["async"] = sorted(float(answers.get(timeout=10)[0].as_numpy("amount_out")[0]) for _ in range(10))


def refused(call):
    """The status of a call that fails."""
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    return "fine"


wrong = tensor("amount", np.array([1], np.int64), "INT64")
told["refused"] = {
    "keyless": refused(lambda: client.infer("m", [amounts, keys])),
    "unknown": refused(lambda: client.infer("other", [amounts], headers=headers)),
    "version": refused(lambda: client.infer("m", [amounts, keys], model_version="9", headers=headers)),
    "input": refused(lambda: client.infer("m", [tensor("colour", np.array([1.0]), "FP64")], headers=headers)),
    "missing": refused(lambda: client.infer("m", [amounts], headers=headers)),
    "shape": refused(lambda: client.infer("m", [amounts, wrong, tensor("total", np.zeros(3), "FP64")], headers=headers)),
}
print(json.dumps(told, default=bytes.decode))
