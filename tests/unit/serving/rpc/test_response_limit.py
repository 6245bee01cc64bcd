"""A batch whose response is over what its client takes ends where the response is over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from ml_platform.v1.predictions_pb2 import BatchPredictRequest, ColumnValues, InputColumn, StringValues
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.rpc import batch_replies
from ml_platform_server.serving.rpc.batch_rows import Batches
from tests.support.predictions import House, opened
from tests.support.serving import PRODUCTION, struct

TEXTS = ["x" * (at % 7) for at in range(10_000)]
FORMS: dict[str, dict[str, Any]] = {
    "rows": {"rows": [struct({"amount": text, "total": 1}) for text in TEXTS]},
    "columns": {
        "columns": [
            InputColumn(name="amount", values=ColumnValues(strings=StringValues(values=TEXTS))),
            InputColumn(name="total", values=ColumnValues(strings=StringValues(values=["1"] * len(TEXTS)))),
        ]
    },
}


@pytest.mark.parametrize("form", FORMS)
async def test_rows_beyond_the_limit_are_not_worked_on(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has an error. Those of a few slices fill the response, and no more are made."""
    encoded: list[PlatformError] = []
    encode = batch_replies.RowErrors.encoded

    def counting(self: batch_replies.RowErrors, error: PlatformError) -> bytes:
        encoded.append(error)
        return encode(self, error)

    monkeypatch.setattr(batch_replies.RowErrors, "encoded", counting)
    async with opened(House(tmp_path)) as house:
        house.deploy()
        request = BatchPredictRequest(model_name="m", environment=PRODUCTION, **FORMS[form])
        call = Call(method="", correlation_id="r", context=cast("Any", None), response_limit=100_000)
        with pytest.raises(PlatformError) as caught:
            await Batches(find=house.engine.served).predict(request, call)
    assert caught.value.reason_name == "REPLY_TOO_LARGE"
    assert "more than 100,000 bytes" in caught.value.message
    assert 100 < len(encoded) < 1000
