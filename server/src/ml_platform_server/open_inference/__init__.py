"""The messages of the Open Inference Protocol v2, in a descriptor pool of their own.

Its clients (tritonclient, kserve) bring the same names in the default pool, and one pool may not have them twice. The descriptor
is generated from protos/open_inference (`make generate`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString(Path(__file__).with_name("descriptor.binpb").read_bytes()).file:
    POOL.AddSerializedFile(_file.SerializeToString())

SERVICE: ServiceDescriptor = POOL.FindServiceByName("inference.GRPCInferenceService")


# The classes are made at run time, so no checker knows their fields.
Message = Any


def message(name: str) -> Message:
    """A message of the protocol by name."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


ServerLiveResponse = message("ServerLiveResponse")
ServerReadyResponse = message("ServerReadyResponse")
ModelReadyResponse = message("ModelReadyResponse")
ServerMetadataResponse = message("ServerMetadataResponse")
ModelMetadataResponse = message("ModelMetadataResponse")
ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
InferTensorContents = message("InferTensorContents")
