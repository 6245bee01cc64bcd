"""Inflates messages that callers compressed, up to a limit.

gRPC could do it, but only with one limit for all methods, and for every message that arrives. So it is set to leave messages as
they are. It does not report which are compressed. A message of protobuf never begins with gzip's first byte, and one that begins
with zlib's is taken for compressed only if all of it is a valid zlib stream, checksum included.
"""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor

COMPRESSED = (b"\x1f", b"\x78")
"""The first bytes of gzip and of zlib's usual header, which gRPC calls deflate. What begins otherwise is not compressed."""

# zlib finds out by itself which of the two it is.
_EITHER = 32 + zlib.MAX_WBITS

# Threads of their own: more would leave the event loop no processor, and asyncio's serve everything else.
_threads = ThreadPoolExecutor(2, thread_name_prefix="inflate")


async def inflated_in_thread(data: bytes, most: int) -> bytes | None:
    """The same as `inflated`, without holding up the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_threads, inflated, data, most)


def inflated(data: bytes, most: int) -> bytes | None:
    """The message that was compressed, the message itself if it was not, or None if it has more bytes than `most`."""
    decompressor = zlib.decompressobj(_EITHER)
    try:
        message = decompressor.decompress(data, most + 1)
    except zlib.error:
        return data
    if len(message) > most:
        return None
    return message if decompressor.eof else data
