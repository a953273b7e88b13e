"""Quotes: a price, as it holds at a moment, and the cost of a usage by it. All kinds of prices make them.

Money is exact: Decimals while it is calculated, whole `COST_UNIT`s when it is stored.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from store.ledger.flat_price import FlatPrice, shown
from store.ledger.usage import COST_UNIT, MAX_COST, Consumption, Units
from store.money import decimal_text

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

BESIDE_TOKENS: Mapping[str, str] = {
    "web_searches": "web_searches_kcount",
    "storage_searches": "storage_searches_kcount",
    "code_containers": "",
    "tool_calls": "",
    "output_images": "",
}
"""Units that are paid in addition to tokens, and their rates in genai-prices; the empty text where it has none."""

INSTEAD_OF_TOKENS: Mapping[str, str] = {
    "audio_seconds": "audio_hours",
    "video_seconds": "",
    "input_characters": "input_mchars",
    "input_document_pages": "input_document_kpages",
}
"""Units that may be told beside tokens, and are paid by these then; and their rates."""

IMAGE_RATES = ("input_image_mtok", "output_image_mtok")
"""Rates of models whose images are paid by their tokens."""

_UNLISTED = {"requests", *(unit for unit, rate in {**BESIDE_TOKENS, **INSTEAD_OF_TOKENS}.items() if not rate)}


class Charge(NamedTuple):
    """A cost in COST_UNITs, and for each model the price that it comes from.

    A price is in JSON: rates in USD, under genai-prices' names, and `from`: the origin of the price. The cost is a
    lower bound where something that costs has no rate.
    """

    cost: int
    prices: Mapping[str, str]
    is_minimum: bool = False


class Cover(IntEnum):
    """The part of what a usage costs that a price covers."""

    NOTHING = 0
    PART = 1
    """The cost is a lower bound."""
    WHOLE = 2


class Terms(Protocol):
    """A price, and where it comes from."""

    @property
    def origin(self) -> str:
        """The source of the price, as a charge names it."""

    @property
    def per_piece(self) -> Mapping[str, Decimal]:
        """The rates of an own price for one of a unit, by their names in the API."""

    @property
    def is_plain(self) -> bool:
        """True if the price of text tokens alone holds for them, and covers them as a whole."""

    def cover(self, units: Units, price: "ModelPrice") -> Cover:
        """Tell whether all that costs something is known of a usage, and has a rate in this price."""

    def price(self, moment: datetime) -> "ModelPrice":
        """Return the price at a moment."""

    def total(self, units: Units, moment: datetime) -> Decimal:
        """Return the cost of units, in USD. Raises ValueError, ArithmeticError."""


class Quote(NamedTuple):
    """A price at a moment, prepared for any number of charges. `named` is how they name it, if it is flat.

    `pays_images` tells whether the tokens of images have rates of their own. `of_text` is the cost of a token of input
    and of one of output, where all is text; None where that is not as simple: it takes `charge` then.
    """

    terms: Terms
    moment: datetime
    price: "ModelPrice"
    flat: FlatPrice | None
    named: str
    pays_images: bool
    of_text: tuple[int, int] | None

    @classmethod
    def of(cls, terms: Terms, moment: datetime) -> Self:
        """Prepare a price for a moment."""
        price = terms.price(moment)
        flat = FlatPrice.of(price) if terms.is_plain else None
        named = "" if flat is None else _named(terms, flat.shown)
        pays_images = any(rate_of(price, name) is not None for name in IMAGE_RATES)
        return cls(terms, moment, price, flat, named, pays_images, None if pays_images else _of_text(flat))

    def charge(self, used: Consumption, model: str) -> Charge | None:
        """Return the cost of a usage of a model; None where the price does not cover it.

        Raises ValueError, ArithmeticError for units that contradict each other.
        """
        total = self.flat.cost(used.units) if self.flat is not None and is_whole(used.units) else None
        named, cover = self.named, Cover.WHOLE
        if total is None:
            cover = self.terms.cover(used.units, self.price)
            if cover is Cover.NOTHING:
                return None
            named = _named(self.terms, _shown_rates(self.price, used.units))
            total = self.terms.total(used.units, self.moment) * COST_UNIT
        cost = round(total)
        return Charge(cost, {model: named}, cover is Cover.PART) if 0 <= cost <= MAX_COST else None


def is_whole(units: Units) -> bool:
    """Tell whether the tokens of a usage are complete: input costs too, so output alone has no price."""
    return "input_tokens" in units or (bool(units) and not any(unit.endswith("_tokens") for unit in units))


def listed_units(units: Units) -> Units:
    """Return the units that genai-prices knows."""
    return {unit: count for unit, count in units.items() if unit not in _UNLISTED}


def rate_of(price: "ModelPrice", name: str) -> object:
    """Return a rate of a price by its name; None where it has none, or where the name is empty."""
    return getattr(price, name, None) if name else None


def _of_text(flat: FlatPrice | None) -> tuple[int, int] | None:
    if flat is None or isinstance(flat.input, Decimal) or isinstance(flat.output, Decimal):
        return None
    return flat.input, flat.output


def _named(terms: Terms, rates: Mapping[str, str]) -> str:
    pieces = {name: decimal_text(rate) for name, rate in terms.per_piece.items()}
    return json.dumps({"from": terms.origin, **rates, **pieces})


def _shown_rates(price: "ModelPrice", units: Units) -> Mapping[str, str]:
    """Return the rates of a price that apply to these units, as they are displayed."""
    rates = _rates(price, units)
    searches = {rate: rates[rate] for unit, rate in BESIDE_TOKENS.items() if units.get(unit) and rate in rates}
    return {**shown(rates), **{name: decimal_text(rate) for name, rate in searches.items()}}


def _rates(price: "ModelPrice", units: Units) -> dict[str, Decimal]:
    """Return the rates that apply to these units."""
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - it takes a moment, and 20 MB

    rates = {}
    for name, rate in vars(price).items():
        if isinstance(rate, TieredPrices):
            reached = [tier.price for tier in rate.tiers if units.get("input_tokens", 0) > tier.start]
            rates[name] = reached[-1] if reached else rate.base
        elif rate is not None:
            rates[name] = rate
    return rates
