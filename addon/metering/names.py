"""Checks names that clients and upstreams choose before they go into the ledger."""

import functools
import re

MAX_MODEL = 128
"""Characters of a model's name."""

_TIER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_DOES_NOT_THINK = re.compile(
    r"(ft:)?(gpt-3\.5|gpt-35|gpt-4|chatgpt-4o|davinci|babbage|text-|claude-2|claude-3-(5-|haiku|opus|sonnet)|"
    r"gemini-(1\.|2\.0)|deepseek-chat|(meta-)?llama-?[23]|mistral-|mixtral|codestral|command-r|grok-2)",
    re.IGNORECASE,
)
"""Models that show all that they produce. Their names are those of the providers, without a router's prefix."""

_USUAL_TIERS = {"default", "auto", "standard", "on_demand"}


def model_name(value: object) -> str | None:
    """Return a model's name without surrounding blanks; None for no text, or one that is too long or not printable."""
    return _checked(value) if isinstance(value, str) and len(value) <= MAX_MODEL else None


@functools.lru_cache(maxsize=256)
def _checked(name: str) -> str | None:
    return (name.strip() or None) if name.isprintable() else None


def tier_name(value: object) -> str | None:
    """Return a service tier that has its own prices, or None."""
    if not isinstance(value, str) or value in _USUAL_TIERS or not _TIER.fullmatch(value):
        return None
    return value


def may_think(model: str | None) -> bool:
    """Tell whether a model may produce tokens that its response does not show; an unknown one may."""
    return model is None or _DOES_NOT_THINK.match(model.rpartition("/")[2]) is None
