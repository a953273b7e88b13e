"""Checks names that clients and upstreams choose before they go into the ledger."""

import re

MAX_MODEL = 128
"""Characters of a model's name."""

_TIER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_USUAL_TIERS = {"default", "auto"}


def model_name(value: object) -> str | None:
    """Return a model's name without surrounding blanks; None for no text, or one that is too long or not printable."""
    if not isinstance(value, str) or len(value) > MAX_MODEL or not value.isprintable():
        return None
    return value.strip() or None


def tier_name(value: object) -> str | None:
    """Return a service tier that has its own prices, or None."""
    if not isinstance(value, str) or value in _USUAL_TIERS or not _TIER.fullmatch(value):
        return None
    return value
