"""How much of large requests is in memory at once."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from ml_platform.v1 import features_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.interceptors.validation.interceptor import Validation
from ml_platform_server.interceptors.validation.large_in_flight import LargeInFlight
from ml_platform_server.method import methods_of

METHODS = {method.name: method for method in methods_of(features_pb2.DESCRIPTOR.services_by_name["FeatureService"])}
CALL = Call("/a.Service/Method", None)  # type: ignore[arg-type]  # nothing asks for the context


class Push:
    """PushFeatures behind the validation: answers when it may."""

    def __init__(self, *, largest: int, most_bytes: int) -> None:
        self.go_on, self.begun = asyncio.Event(), asyncio.Event()
        self.handle = Validation(largest=largest, most_bytes=most_bytes).wrap(METHODS["PushFeatures"], self._answer)

    async def _answer(self, message, call):
        self.begun.set()
        await self.go_on.wait()
        return message


def request() -> bytes:
    """A request of 200 KB that keeps all rules."""
    row = features_pb2.FeatureRow()
    row.values.update({"x": "x" * 200_000})
    return features_pb2.PushFeaturesRequest(feature_view="v", rows=[row], request_id="r").SerializeToString()


def test_requests_are_counted_while_they_are_in_flight():
    """What fits is taken, what does not is refused, and one request is always taken, however large."""
    in_flight = LargeInFlight(most_bytes=100)
    with in_flight.of(1000):
        with pytest.raises(PlatformError) as refused, in_flight.of(1):
            pass
        assert (refused.value.reason_name, refused.value.retry_after) == ("OVERLOADED", 1.0)
    with in_flight.of(60), in_flight.of(40):
        pass


@pytest.mark.parametrize(("compress", "most_bytes"), [(bytes, 300_000), (gzip.compress, 1_100_000)], ids=["plain", "compressed"])
async def test_large_requests_are_refused_until_others_are_answered(compress, most_bytes):
    """While one is answered another is refused; a compressed one counts as large as it may become until it is inflated."""
    push, data = Push(largest=1_000_000, most_bytes=most_bytes), compress(request())
    first = asyncio.ensure_future(push.handle(data, CALL))
    await push.begun.wait()
    with pytest.raises(PlatformError) as refused:
        await push.handle(data, CALL)
    assert refused.value.reason_name == "OVERLOADED"
    push.go_on.set()
    assert await first == await push.handle(data, CALL)
