"""Presets of new tokens: texts of the form for the usual purposes, to begin with."""

from collections.abc import Mapping
from typing import NamedTuple

from manage_api.pages.forms import Texts


class Preset(NamedTuple):
    """A purpose, in words, and the texts of the form for it."""

    title: str
    texts: Texts

    @property
    def words(self) -> str:
        """The limits and the expiry, in a line."""
        most = self.texts.get("max_requests")
        parts = [self.texts.get("rate_limits"), self.texts.get("budgets"), most and f"{most} requests in all"]
        return ", ".join([*filter(None, parts), f"expires in {self.texts['expires_at']}"])


DEFAULT_EXPIRY = "30 days"

PRESETS: Mapping[str, Preset] = {
    # Without a budget, which would refuse models that have no price.
    "trying": Preset(
        "Trying it out",
        {
            "expires_at": "7 days",
            "max_requests": "1000",
            "rate_limits": "20 requests a minute",
            "max_parallel_requests": "4",
        },
    ),
    "application": Preset(
        "An application",
        {
            "expires_at": "90 days",
            "rate_limits": "600 requests a minute",
            "max_parallel_requests": "32",
            "budgets": "$100 a month",
        },
    ),
    "batch": Preset(
        "A batch job",
        {
            "expires_at": "14 days",
            "rate_limits": "2,000,000 tokens an hour",
            "max_parallel_requests": "8",
            "budgets": "$50 a day",
        },
    ),
}


def texts(name: str) -> Texts:
    """Return the texts of a new token's form with a preset; of none, an expiry alone."""
    preset = PRESETS.get(name)
    return {"expires_at": DEFAULT_EXPIRY, **(preset.texts if preset else {})}
