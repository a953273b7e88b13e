"""Request ids: UUIDs that sort by time, so that rows written together are near each other in an index."""

import secrets
import time

_VERSION, _VARIANT = 7 << 76, 2 << 62


def new_request_id() -> str:
    """Return a new UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random ones."""
    random = secrets.randbits(74)
    milliseconds = time.time_ns() // 1_000_000
    text = f"{milliseconds << 80 | _VERSION | (random >> 62) << 64 | _VARIANT | random & (1 << 62) - 1:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
