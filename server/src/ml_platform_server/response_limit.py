"""How many bytes a response may have: no more than its client takes, which would refuse it after the work is done."""

from __future__ import annotations

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Metadata
from ml_platform_server.errors import PlatformError

# Clients refuse larger responses unless they are set up otherwise: gRPC's default in every language.
DEFAULT_LIMIT = 4 * 1024 * 1024
# The metadata with which a client sends how many bytes it accepts.
LIMIT_HEADER = "x-max-response-bytes"


def accepted_bytes(metadata: Metadata) -> int:
    """How many bytes the client accepts; 0 if it sends no valid number."""
    value = next((value for key, value in metadata if key == LIMIT_HEADER), "")
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20 else 0  # noqa: PLR2004


def too_large(size: int, limit: int, *, unfinished: bool = False) -> PlatformError:
    """The error for a response over its limit. An unfinished one has grown to `size` bytes and would have more."""
    size_text = f"more than {limit:,}" if unfinished else f"{size:,}"
    return PlatformError(
        errors_pb2.ERROR_REASON_REPLY_TOO_LARGE,
        f"The answer has {size_text} bytes, and this call's may have {limit:,}.",
        remedy="Ask for less at once: a smaller page_size, fewer rows, fewer features. A client that takes larger messages says "
        f"so in the metadata '{LIMIT_HEADER}'.",
        metadata={"bytes": str(size), "limit": str(limit)},
    )
