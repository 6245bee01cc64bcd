"""Asks BentoML over HTTP: one request a batch, on pooled connections, within the deadline of the call."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx
import structlog

from ml_platform_server.backends.bentoml.errors import failure_of, invalid_response, overloaded
from ml_platform_server.backends.bentoml.places import Places
from ml_platform_server.call import remaining, set_deadline
from ml_platform_server.errors import backend_unavailable, deadline_exceeded
from ml_platform_server.settings import BentomlSettings

_log = structlog.get_logger(__name__)

# Below this, a request would be cut off before it arrives.
SHORTEST_TIMEOUT = 0.001
_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Predicted:
    """What BentoML says of N rows: N plain values per output, and the names of the classes if it told probabilities."""

    outputs: Mapping[str, Sequence[object]]
    classes: Sequence[object] | None


class BentomlBackend:
    """The client of deploy/bentoml's service."""

    def __init__(self, *, settings: BentomlSettings) -> None:
        self._timeout = settings.timeout
        limits = httpx.Limits(max_connections=settings.connections, max_keepalive_connections=settings.connections)
        self._places = Places(most=settings.requests_per_version)
        self._http = httpx.AsyncClient(base_url=settings.url, limits=limits, trust_env=False)

    async def open(self) -> None:
        """Nothing to do: connections are made when they are needed."""

    async def close(self) -> None:
        """Close the connections."""
        await self._places.close()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Open."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def probe(self) -> None:
        """Ask whether BentoML is ready for requests.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE.
        """
        response = await self._send("GET", "/readyz")
        if not response.is_success:
            raise backend_unavailable("BentoML")

    async def load(self, model_name: str, version: int) -> None:
        """Have a version loaded, so that the first prediction does not wait for it.

        Raises:
            PlatformError: as `predict`.
        """
        await self._post("/load", {"model_name": model_name, "version": version})

    async def predict(
        self, model_name: str, version: int, columns: Mapping[str, Sequence[object]], params: Mapping[str, object] | None = None
    ) -> Predicted:
        """Predict N rows.

        Args:
            model_name: the registered model.
            version: its version.
            columns: N JSON values per column of the model's signature; NaN and infinity are numbers.
            params: params of the signature.

        Raises:
            PlatformError: MODEL_FAILED, INPUT_REJECTED, INPUT_INVALID, MODEL_ARTIFACT_MISSING, BACKEND_UNAVAILABLE, OVERLOADED,
                DEADLINE_EXCEEDED, BACKEND_FAILED.
        """
        asked = {"model_name": model_name, "version": version, "columns": columns, "params": params}
        body = await self._places.run((model_name, version), lambda: self._predict(asked))
        outputs, classes = body.get("outputs"), body.get("classes")
        if not isinstance(outputs, dict) or not outputs or not all(isinstance(values, list) for values in outputs.values()):
            raise invalid_response()
        return Predicted(outputs, classes if isinstance(classes, list) else None)

    async def _predict(self, asked: Mapping[str, object]) -> dict[str, Any]:
        # The service drops what has not begun by the deadline. What has begun is waited for, as long as a request may take: the
        # caller is not kept by that, and the place of the request is free when the run is over.
        seconds = min(remaining(self._timeout), self._timeout)
        set_deadline(None)
        return await self._post("/predict_batch", {**asked, "timeout": seconds})

    async def _post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        response = await self._send("POST", path, body)
        if not response.is_success:
            raise failure_of(response, model=f"{body['model_name']}/{body['version']}")
        try:
            parsed = response.json()
        except ValueError:
            raise invalid_response() from None
        if not isinstance(parsed, dict):
            raise invalid_response()
        return parsed

    async def _send(self, method: str, path: str, body: object = None) -> httpx.Response:
        # Python's own JSON, in which NaN and infinity are numbers.
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        left = remaining(math.inf)
        timeout = max(SHORTEST_TIMEOUT, min(self._timeout, left))
        try:
            return await self._http.request(method, path, content=content, headers=_HEADERS, timeout=timeout)
        except httpx.PoolTimeout:
            _log.warning("bentoml_pool_exhausted", path=path)
            raise overloaded() from None
        except httpx.TimeoutException:
            if left < self._timeout:
                raise deadline_exceeded("The prediction in BentoML") from None
            _log.warning("bentoml_timed_out", path=path, timeout=timeout)
            raise backend_unavailable("BentoML") from None
        except httpx.TransportError as error:
            _log.warning("bentoml_unreachable", path=path, error=repr(error))
            raise backend_unavailable("BentoML") from error
