"""How far one prediction travels: the files and functions of the server that a Predict enters, as a reader would."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import ml_platform_server
from ml_platform.v1 import predictions_pb2
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, struct

ROOT = Path(ml_platform_server.__file__).parent
# The features of this house come from a stand-in: Feast's plan, reader, layout, decoder and connection are five files more.
MOST_FILES = 31
MOST_FUNCTIONS = 80


async def traced(house: House, request: predictions_pb2.PredictRequest) -> set[tuple[str, str]]:
    """The functions of the server, each with its file, that are entered until the prediction is there."""
    functions: set[tuple[str, str]] = set()

    def enter(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            functions.add((str(path.relative_to(ROOT)), frame.f_code.co_qualname))

    sys.setprofile(enter)
    try:
        await house.stub.Predict(request, metadata=house.frame.metadata)
    finally:
        sys.setprofile(None)
    return functions


async def test_a_prediction_enters_few_files(tmp_path):
    """What a prediction with one feature passes, once everything is warm; a change that adds a room to its way says so here."""
    async with running(House(tmp_path)) as house:
        house.deploy()
        request = predictions_pb2.PredictRequest(
            model_name="m", environment=PRODUCTION, inputs=struct({"amount": 1.0, "user_id": "u1"})
        )
        for _ in range(50):
            await house.stub.Predict(request, metadata=house.frame.metadata)
        traces = [await traced(house, request) for _ in range(30)]
    # What runs in the background now and then is in some of them: on a busy machine in many, and not in all of so many.
    functions = set.intersection(*traces)
    files = {path for path, _ in functions}
    assert "serving/engine.py" in files
    assert len(files) <= MOST_FILES, sorted(files)
    assert len(functions) <= MOST_FUNCTIONS, sorted(functions)
