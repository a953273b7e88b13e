"""Prices of text tokens without tiers: the usual case, computed in a twentieth of the time that genai-prices takes.

genai-prices remains the reference: a test compares both for all of its models.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from store.ledger.usage import COST_UNIT, Units

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_UNITS = ("input_tokens", "cache_read_tokens", "output_tokens", "output_reasoning_tokens")
"""Twice a total and a part of it."""

_PARTS = {"cache_read_mtok": "input_mtok", "output_reasoning_mtok": "output_mtok"}
"""Rates of parts, which are meaningful only beside the rate of their total."""

_MILLION = 1_000_000
_UNITS_OF_RATE = COST_UNIT // _MILLION
_PER_REQUEST = "requests_kcount"
_NOTHING = Decimal(0)

type Rate = int | Decimal
"""The price of one token, in COST_UNITs: nearly always a whole number, which computes several times as fast."""


class FlatPrice(NamedTuple):
    """The rates of text; and all rates in USD for a million tokens, under genai-prices' names, as they are shown."""

    input: Rate
    cached: Rate
    output: Rate
    reasoning: Rate
    shown: Mapping[str, str]

    @staticmethod
    def of(price: "ModelPrice") -> "FlatPrice | None":
        """Read a price of genai-prices; None for one with tiers, or with rates of other units than tokens."""
        rates = {name: rate for name, rate in vars(price).items() if rate is not None}
        return _read(rates) if all(isinstance(rate, Decimal) for rate in rates.values()) else None

    def cost(self, units: Units) -> Rate | None:
        """Return the cost of units, in COST_UNITs; None if there are other units, or if they contradict each other.

        A part without a rate of its own costs as much as the rest of its total.
        """
        for unit, count in units.items():
            if count and unit not in _UNITS:
                return None
        whole, cached, output, reasoning = [units.get(unit, 0) for unit in _UNITS]
        if not (0 <= cached <= whole and 0 <= reasoning <= output):
            return None
        return (
            self.input * (whole - cached)
            + self.cached * cached
            + self.output * (output - reasoning)
            + self.reasoning * reasoning
        )


def _read(found: Mapping[str, Decimal]) -> FlatPrice | None:
    is_sound = all(rate.is_finite() and rate >= 0 for rate in found.values())
    lacks_total = any(part in found and total not in found for part, total in _PARTS.items())
    if _PER_REQUEST in found or not is_sound or lacks_total:
        return None
    whole, output = found.get("input_mtok", _NOTHING), found.get("output_mtok", _NOTHING)
    return FlatPrice(
        _rate(whole),
        _rate(found.get("cache_read_mtok", whole)),
        _rate(output),
        _rate(found.get("output_reasoning_mtok", output)),
        shown(found),
    )


def _rate(usd: Decimal) -> Rate:
    """Return a rate in USD for a million tokens as that of one token."""
    units = usd * _UNITS_OF_RATE
    return int(units) if units == int(units) else units


def shown(rates: Mapping[str, Decimal]) -> dict[str, str]:
    """Return rates as they are displayed, without trailing zeros and without those of other units than tokens."""
    return {name: format(rate.normalize(), "f") for name, rate in rates.items() if not name.endswith("_kcount")}
