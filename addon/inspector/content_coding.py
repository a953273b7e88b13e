"""The start of a compressed body: never more than is asked for, and of a body that was cut as far as it goes.

mitmproxy decodes a whole body at once: a small one can become huge, and one in Brotli that was cut is refused.
"""

from mitmproxy import http

from addon.protocol import content_coding


def decoded_start(message: http.Message, limit: int) -> bytes:
    """Return at most `limit` bytes of a message's decoded body. Raises ValueError if it cannot be decoded."""
    coding = message.headers.get("content-encoding", "identity")
    return content_coding.decoded_start(message.raw_content or b"", coding, limit)
