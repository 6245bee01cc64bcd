"""What paged lists have in common: the size of a page, and tokens for lists that the backends do not page themselves."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from google.protobuf.message import Message

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, Violation

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000
# Bytes of a page's entries. A reply of more than 4 MiB is refused by gRPC, on both sides.
LARGEST_BYTES = 3 * 1024 * 1024


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


def token_after(key: str) -> str:
    """The token of the page that begins after this key."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def key_of(token: str) -> str:
    """The key that a token stands for; empty for the first page.

    Raises:
        PlatformError: PAGE_TOKEN_INVALID if no list gave this token.
    """
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise page_token_invalid() from None


def page_token_invalid() -> PlatformError:
    """The error for a page token that no list gave."""
    return PlatformError(
        errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID,
        "The page token is not one that this list gave.",
        remedy="Pass the next_page_token of the page before, unchanged, or nothing for the first page.",
        violations=[Violation("page_token", "is not a token of this list")],
    )
