"""The start of a compressed body: never more than is asked for, and of a body that was cut as far as it goes.

mitmproxy decodes a whole body at once: a small one can become huge, and one in Brotli that was cut is refused.
"""

import zlib

import brotli
import zstandard
from mitmproxy import http

_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_MAX_WINDOW = 8 * 1024 * 1024
"""Bytes; what a decoder of zstd has to take (RFC 9659)."""


def decoded_start(message: http.Message, limit: int) -> bytes:
    """Return at most `limit` bytes of a message's decoded body. Raises ValueError if it cannot be decoded."""
    data = message.raw_content or b""
    coding = message.headers.get("content-encoding", "identity").strip().lower()
    try:
        return _decoded_start(data, coding, limit)[:limit]
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise ValueError(f"no {coding}: {error}") from error


def _decoded_start(data: bytes, coding: str, limit: int) -> bytes:
    decoded: bytes
    match coding:
        case "identity":
            return data
        case "gzip" | "deflate":
            return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(data, limit)
        case "br":
            decoded = brotli.Decompressor().process(data, output_buffer_limit=limit)
        case "zstd":
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
            decoded = decompressor.stream_reader(data, read_across_frames=True).read(limit)
        case _:
            raise ValueError(f"unknown content coding {coding}")
    return decoded
