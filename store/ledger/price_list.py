"""The built-in prices, to look them up: those of genai-prices, as they hold now. `listed_prices` charges by them."""

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from store import clock
from store.money import decimal_text

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

MOST = 100
"""Prices that a search returns at most."""

INPUT, CACHED_INPUT, OUTPUT = "input_mtok", "cache_read_mtok", "output_mtok"
"""The rates that most models have: US dollars for a million tokens."""


class ListedPrice(NamedTuple):
    """The price of a provider's model: texts of rates by their names in genai-prices.

    A rate is in US dollars for so many of a unit as its name says: a million tokens, a thousand searches, an hour.
    """

    provider: str
    model: str
    context_window: int | None
    rates: Mapping[str, str]

    @property
    def others(self) -> Mapping[str, str]:
        """The rates beside those that most models have, by words such as `web searches (thousand)`."""
        return {_words(name): rate for name, rate in self.rates.items() if name not in {INPUT, CACHED_INPUT, OUTPUT}}


class Found(NamedTuple):
    """The prices that a search found, MOST at most, and the number of all that there are."""

    prices: Sequence[ListedPrice]
    number: int


def search(text: str, provider: str = "") -> Found:
    """Find prices whose model has all words of a text in its name; of one provider, or of all.

    A model of exactly that name comes first, then by length of the names.
    """
    words = text.lower().split()
    found = [
        (one, model)
        for one in _providers()
        if provider in {"", one.name}
        for model in one.models
        if all(word in model.id.lower() for word in words)
    ]
    found.sort(key=lambda each: (len(each[1].id), each[1].id, each[0].name) if words else (0, "", ""))
    now = datetime.fromtimestamp(clock.now() / clock.SECOND, UTC)
    return Found([_listed(one, model, now) for one, model in found[:MOST]], len(found))


def providers() -> Sequence[str]:
    """Return the names of all providers."""
    return sorted((provider.name for provider in _providers()), key=str.lower)


@functools.cache
def _providers() -> Sequence["Provider"]:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - it takes a moment, and 20 MB

    return get_snapshot().providers


def _listed(provider: "Provider", model: "ModelInfo", now: datetime) -> ListedPrice:
    rates = {name: _text(rate) for name, rate in vars(model.get_prices(now)).items() if rate is not None}
    return ListedPrice(provider.name, model.id, model.context_window, rates)


def _text(rate: object) -> str:
    """Return a rate; one that depends on the length of the input in words."""
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - as above

    if isinstance(rate, TieredPrices):
        tiers = [f"{decimal_text(tier.price)} above {tier.start:,} tokens" for tier in rate.tiers]
        return ", ".join([decimal_text(rate.base), *tiers])
    return decimal_text(rate)  # type: ignore[arg-type] # a Decimal


_UNITS: Mapping[str, str] = {
    "mtok": "million tokens",
    "kcount": "thousand",
    "hours": "hour",
    "kpages": "thousand",
    "mchars": "million",
}


def _words(name: str) -> str:
    counted, _, unit = name.rpartition("_")
    return f"{counted.replace('_', ' ')} ({_UNITS[unit]})" if unit in _UNITS else name.replace("_", " ")
