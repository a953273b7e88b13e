"""Counts a long text once: each turn of a conversation sends its history again, and all of them a system prompt.

No text is kept, but its counts alone, by a hash with a key that this process has made up.
"""

import hashlib
import secrets

from addon.demand.texts import TextBound

LONG = 1024
"""Bytes from which a text is long: hashing it takes a tenth of counting it."""
MOST = 1024
"""Texts whose counts are kept."""

_KEY = secrets.token_bytes(32)
_found: dict[bytes, TextBound] = {}


def counted(text: bytes) -> TextBound:
    """Return the count of a text in UTF-8. It is not to be added to: other requests get the same."""
    name = hashlib.blake2b(text, digest_size=16, key=_KEY).digest()
    bound = _found.get(name)
    if bound is None:
        bound = TextBound()
        bound.feed(text)
        bound.finish()
        if len(_found) >= MOST:
            _found.clear()
        _found[name] = bound
    return bound
