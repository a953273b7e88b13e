"""Texts from outside, as every database takes them."""

import re

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """Replace what PostgreSQL has no place for: NUL, and halves of characters (lone surrogates)."""
    return _UNSTORABLE.sub("\ufffd", text)
