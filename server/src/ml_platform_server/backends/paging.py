"""What paged lists have in common: the size of a page, and the tokens, each bound to its list."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable

from google.protobuf.message import Message

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, Violation

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
# Bytes of a page's entries. A reply of more than 4 MiB is refused by gRPC, on both sides.
LARGEST_BYTES = 3 * 1024 * 1024
LONGEST_TOKEN = 8192


def page_length(asked: int, *, default: int = DEFAULT_PAGE, largest: int = LARGEST_PAGE) -> int:
    """How many entries a page holds at most: 0 asks for the default, too many are capped."""
    return min(asked, largest) if asked > 0 else default


def fitting(entries: Iterable[Message]) -> int:
    """How many of the entries, from the first, fit into one reply; the first always counts as fitting."""
    total = count = 0
    for entry in entries:
        total += entry.ByteSize()
        if total > LARGEST_BYTES and count:
            break
        count += 1
    return count


def token_after(position: str, *list_: str) -> str:
    """The token of the page that begins after this position of a list.

    `list_` identifies the list: its name, its parent, its filter and its order. The token is valid for that list alone.
    """
    payload = json.dumps([_digest(list_), position], ensure_ascii=False)
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def position_of(token: str, *list_: str) -> str:
    """The position that a token holds; empty for the first page.

    Raises:
        PlatformError: PAGE_TOKEN_INVALID if this list did not issue the token, or issued it under another filter or order.
    """
    if not token:
        return ""
    if len(token) > LONGEST_TOKEN:
        raise page_token_invalid()
    try:
        digest, position = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise page_token_invalid() from None
    if digest != _digest(list_) or not isinstance(position, str):
        raise page_token_invalid()
    return position


def _digest(list_: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(list_).encode()).hexdigest()[:16]


def page_token_invalid() -> PlatformError:
    """The error for a page token that another list issued, or none."""
    return PlatformError(
        errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
        "The page token is not one that this list gave, with this filter and this order.",
        remedy="Pass the next_page_token of the page before, unchanged, with the same filter and order, or nothing.",
        violations=[Violation("page_token", "is not a token of this list")],
    )
