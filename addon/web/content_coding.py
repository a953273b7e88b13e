"""The start of a compressed body: never more than is asked for, and of a body that was cut as far as it goes.

mitmproxy decodes a whole body at once: a small one can become huge, and one in Brotli that was cut is refused.
"""

from mitmproxy import http

from addon.content_coding import ContentDecoder


def decoded_start(message: http.Message, limit: int) -> bytes:
    """Return at most `limit` bytes of a message's decoded body. Raises ValueError if it cannot be decoded."""
    decoder = ContentDecoder(message.headers.get("content-encoding", "identity"))
    start = bytearray()
    for piece in decoder.feed(message.raw_content or b""):
        start += piece
        if len(start) >= limit:
            break
    return bytes(start[:limit])
