"""Triton's client, exactly as it comes, against the Open Inference Protocol of this server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from onnx import TensorProto

from tests.support.inference import deploy, echo_graph
from tests.support.predictions import House, running
from tests.support.serving import column

UV = Path(sys.executable).with_name("uv")
USER = Path(__file__).with_name("user_of_triton.py")


async def run(*command: str | Path) -> bytes:
    """The output of a command; its errors fail the test."""
    # A path that another program set must not lead into this environment.
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    piped = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=piped, stderr=piped, env=clean, cwd=USER.parent)
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output


async def test_tritons_client_works_unchanged(tmp_path: Path) -> None:
    """In an environment of its own, with the protobuf it wants, it finds the server and the model, infers, and reads errors."""
    python = tmp_path / "environment" / "bin" / "python"
    await run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "environment")
    await run(UV, "pip", "install", "--quiet", "--python", python, "tritonclient[grpc]")
    async with running(House(tmp_path)) as house:
        types = {"amount": TensorProto.DOUBLE, "total": TensorProto.DOUBLE}
        deploy(house, echo_graph(types, word="fixed"), [column("amount"), column("total")], ["users:total"])
        told = json.loads(await run(python, USER, f"127.0.0.1:{house.frame.server.port}", house.frame.key))
    assert int(told.pop("protobuf").split(".")[0]) < 7
    metadata = told.pop("metadata")
    assert metadata["platform"] == "onnx"
    assert metadata["inputs"][0] == {"name": "amount", "datatype": "FP64", "shape": ["-1", "1"]}
    assert told == {
        "live": True,
        "ready": True,
        "models": [True, False],
        "server": "ml-platform",
        "raw": {"amount_out": [1.0, 2.0], "total_out": [10.0, 10.0], "word_out": ["fixed", "fixed"]},
        "id": "mine",
        "deployment": "dep-1",
        "wanted": [[5.0, 6.0], True],
        "typed": {"amount_out": [1.5], "total_out": [2.5]},
        "async": [float(at) for at in range(10)],
        "refused": {
            "keyless": "StatusCode.UNAUTHENTICATED",
            "unknown": "StatusCode.NOT_FOUND",
            "version": "StatusCode.FAILED_PRECONDITION",
            "input": "StatusCode.INVALID_ARGUMENT",
            "missing": "StatusCode.INVALID_ARGUMENT",
            "shape": "StatusCode.INVALID_ARGUMENT",
        },
    }
