"""Tokens for Airflow's API, which its official client knows nothing of: fetched once, renewed early."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import httpx

from ml_platform_server.backends.airflow.errors import AirflowUnavailableError, refusal
from ml_platform_server.call import remaining
from ml_platform_server.settings import AirflowSettings

RENEW_BEFORE = 60.0
"""Seconds before its end at which a token counts as old."""

UNREADABLE_LIFETIME = 300.0
"""Seconds for which a token is used whose end cannot be read."""


class Tokens:
    """One token, shared by every call to Airflow."""

    def __init__(self, *, settings: AirflowSettings) -> None:
        self._settings = settings
        self._http = httpx.AsyncClient(base_url=settings.api_url)
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def current(self) -> str:
        """A token that will still be good when it arrives.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE when Airflow does not answer, BACKEND_FAILED when it refuses the credentials.
        """
        async with self._lock:
            if time.time() >= self._renew_at:
                await self._fetch()
            return self._token

    def forget(self, token: str) -> None:
        """Have the next call fetch a new token, unless somebody else has by now replaced this one."""
        if token == self._token:
            self._renew_at = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _fetch(self) -> None:
        password = self._settings.password.get_secret_value()
        timeout = remaining(self._settings.timeout)
        try:
            if password:
                credentials = {"username": self._settings.username, "password": password}
                answer = await self._http.post("/auth/token", json=credentials, timeout=timeout)
            else:
                answer = await self._http.get("/auth/token", timeout=timeout)
        except httpx.HTTPError:
            # A token that was made and got lost does no harm: nothing else has been asked of Airflow yet.
            raise AirflowUnavailableError(may_have_arrived=False) from None
        if not answer.is_success:
            raise refusal(answer.status_code, answer.text)
        self._token = str(answer.json()["access_token"])
        self._renew_at = _end_of(self._token) - RENEW_BEFORE


def _end_of(token: str) -> float:
    """When a JWT ends, in seconds since the epoch. Airflow checks the signature, not we."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return time.time() + UNREADABLE_LIFETIME
