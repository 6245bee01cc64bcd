"""Ids of jobs and deployments: the same call repeated gets the same id, so that a repeat cannot start a second one."""

from __future__ import annotations

import hashlib
import secrets


def derived_id(prefix: str, *, principal: str, kind: str, request_id: str) -> str:
    """An id of 32 hex digits made of who asks for what under which request id; random when there is no request id."""
    if not request_id:
        return f"{prefix}-{secrets.token_hex(16)}"
    whose = f"{principal}\0{kind}\0{request_id}"
    return f"{prefix}-{hashlib.sha256(whose.encode()).hexdigest()[:32]}"
