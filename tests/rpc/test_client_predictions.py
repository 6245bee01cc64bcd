"""The client's many predictions, against the server itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_platform import AsyncMLPlatform, FailedPrecondition
from tests.support.predictions import House, running


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[AsyncMLPlatform]:
    async with running(House(tmp_path)) as house:
        house.deploy()
        async with AsyncMLPlatform(f"http://127.0.0.1:{house.frame.server.port}", house.frame.key) as client:
            yield client


@pytest.mark.parametrize("form", ["rows", "frame"])
async def test_many_rows_are_predicted_with_their_features(platform: AsyncMLPlatform, form: str) -> None:
    """Rows and a DataFrame give the same predictions and the same errors, row by row."""
    rows = [{"amount": float(at), "user_id": "nobody" if at == 7 else "u1"} for at in range(2500)]
    found: Any = await platform.predict_many("m", pd.DataFrame(rows) if form == "frame" else rows, on_error="return")
    assert [each.prediction for each in found if each is not found[7]] == [10 + at for at in range(2500) if at != 7]
    assert (found[7].reason, found[8].model_version, found[8].deployment_id) == ("FEATURE_MISSING", 1, "dep-1")
    with pytest.raises(FailedPrecondition, match="Row 7: "):
        await platform.predict_many("m", rows)


async def test_a_stream_of_many_requests_is_answered(platform: AsyncMLPlatform) -> None:
    """A thousand requests over one stream are all answered, each under its own index."""
    answers = [answer async for answer in platform.predict_stream("m", ({"amount": at, "total": 1} for at in range(1000)))]
    assert {each.index: each.prediction.prediction for each in answers if each.prediction} == {at: at + 1 for at in range(1000)}
