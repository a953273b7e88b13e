"""The usage of a request in the ledger: the columns of its row, and the amounts that it adds to the sums."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from store.database import Row
from store.database.sql import storable
from store.ledger.pricing import Pricing
from store.ledger.quote import Charge
from store.ledger.usage import BESIDE_TOKENS, COLUMNS, Consumption, Metered, Source
from store.request import Amounts, Opened
from store.runtime.redaction import mask_secrets

BOOKED: Mapping[str, str] = {
    **dict.fromkeys(("usage_source", "model_asked", "model"), "TEXT"),
    **dict.fromkeys((*COLUMNS, "cost", "told_cost"), "BIGINT"),
    "cost_is_minimum": "BOOLEAN",
    "price": "TEXT",
    "budget_beyond": "BIGINT",
    "tokens_beyond": "BIGINT",
}
"""The columns of a row that say what was used, with their types."""

RARE = ("input_audio_tokens", "output_audio_tokens", *BESIDE_TOKENS, "told_cost", "budget_beyond", "tokens_beyond")
"""The columns among them that few rows have. Statements leave them out where no row does: they cost CPU."""

_UNITS = (*COLUMNS.values(),)
_TOKEN_PLACES = [_UNITS.index(unit) for unit in ("input_tokens", "output_tokens")]
_SUCCESS = range(200, 300)
_TOLD = json.dumps({"from": "told by the upstream"})


class Booking(NamedTuple):
    """The usage of a request and its cost (in COST_UNITs), as they are written."""

    source: str
    model_asked: str | None
    model: str | None
    counts: Sequence[int | None]
    """The numbers of the units in COLUMNS."""
    cost: int | None
    told_cost: int | None
    is_minimum: bool | None
    price: str | None
    usd_beyond: int | None = None
    """The amount that it counts against budgets beyond its cost; None for none."""
    tokens_beyond: int | None = None
    """The tokens that it counts in windows beyond those that it used; None for none."""

    @classmethod
    def of_row(cls, row: Row) -> Self:
        """Read the columns BOOKED of a row; SQLite has no booleans."""
        source, asked, model, *others = row
        *counts, cost, told, is_minimum, price, usd_beyond, tokens_beyond = others
        is_minimum = None if is_minimum is None else bool(is_minimum)
        return cls(source, asked, model, counts, cost, told, is_minimum, price, usd_beyond, tokens_beyond)

    @property
    def counted(self) -> Amounts:
        """The amounts that it counts against limits of tokens and of money."""
        return Amounts(self._tokens + (self.tokens_beyond or 0), (self.cost or 0) + (self.usd_beyond or 0))

    @property
    def _tokens(self) -> int:
        """The tokens of input and of output."""
        return sum([self.counts[place] or 0 for place in _TOKEN_PLACES])

    @property
    def columns(self) -> Sequence[object]:
        """The values of BOOKED."""
        return (
            self.source,
            self.model_asked,
            self.model,
            *self.counts,
            self.cost,
            self.told_cost,
            self.is_minimum,
            self.price,
            self.usd_beyond,
            self.tokens_beyond,
        )

    def counting(self, amounts: Amounts) -> Self:
        """Return it with the amounts that it is to count against limits, at least what was used."""
        usd, tokens = amounts.usd - (self.cost or 0) or None, amounts.tokens - self._tokens or None
        if usd == self.usd_beyond and tokens == self.tokens_beyond:  # as most count what they used
            return self
        return self._replace(usd_beyond=usd, tokens_beyond=tokens)

    def amounts(self, request_bytes: int | None, response_bytes: int | None) -> Sequence[int]:
        """Return what the request adds to the sums, in the order of `rollups.AMOUNTS`."""
        cost, told = self.cost, self.told_cost
        return (
            1,
            self.source == Source.OBSERVED,
            self.source == Source.ESTIMATED,
            cost is None and self.source != Source.UNKNOWN,
            bool(self.is_minimum),
            request_bytes or 0,
            response_bytes or 0,
            *[count or 0 for count in self.counts],
            cost or 0,
            told or 0,
            0 if told is None else cost or 0,
            self.usd_beyond or 0,
        )


def is_priced(status: int | None, metered: Metered) -> bool:
    """Tell whether a request may have a cost."""
    return bool(_paid(status, metered))


def book(pricing: Pricing, opened: Opened, upstream: str | None, status: int | None, metered: Metered) -> Booking:
    """Return the usage of a request, and its cost at the prices of an upstream (its origin) when it began."""
    asked, answered = _name(metered.model_asked), _name(metered.model)
    units = metered.units
    paid = _paid(status, metered)
    charges = [
        pricing.charge(opened.project_id, upstream, used, _asked_of(used, metered), opened.started_at)
        for used in (paid if len(paid) <= 1 else _each_once(paid))
    ]
    told = _told(paid, metered.model_asked)
    charge = charges[0] if len(charges) == 1 and told is None else _together(charges, told)
    return Booking(
        str(metered.source),
        asked,
        answered or (asked if metered.consumptions else None),
        [units.get(unit) for unit in _UNITS],
        None if charge is None else charge.cost,
        None if told is None else told.cost,
        None if charge is None else charge.is_minimum or metered.is_minimum,
        None if charge is None else _written(charge.prices),
    )


def amounts_of(opened: Opened, metered: Metered, cost: int | None, *, may_cost: bool) -> Amounts:
    """Return what a request counts against limits of tokens and of money.

    That is what it used. What it reserved counts only where it stays unknown how it ended, or what that cost. A request
    that never went upstream, and one that failed without a usage, count nothing.
    """
    if metered.consumptions:
        units = metered.units
        tokens = units.get("input_tokens", 0) + units.get("output_tokens", 0)
        return Amounts(tokens, opened.reserved.usd if cost is None else cost)
    if not may_cost:
        return Amounts(usd=cost or 0)
    return opened.reserved if cost is None else Amounts(opened.reserved.tokens, cost)


def _paid(status: int | None, metered: Metered) -> Sequence[Consumption]:
    """Return what a request is paid for. Of an unknown usage that may be the request itself, if it succeeded."""
    has_succeeded = status is not None and status in _SUCCESS
    if metered.consumptions or not has_succeeded or not (metered.model or metered.model_asked):
        return metered.consumptions
    return (Consumption(metered.model, {}),)


def _each_once(paid: Sequence[Consumption]) -> Sequence[Consumption]:
    """Have the first of several models pay for the request itself, where that has a price."""
    return [*paid[:1], *[used._replace(units={**used.units, "requests": 0}) for used in paid[1:]]]


def _asked_of(used: Consumption, metered: Metered) -> str | None:
    """Return the model that was asked for; None for a second model, which has no own price by that name."""
    if used.model == metered.model:
        return metered.model_asked
    is_second = any(each.model == metered.model for each in metered.consumptions)
    return None if is_second else metered.model_asked


def _told(paid: Sequence[Consumption], model_asked: str | None) -> Charge | None:
    """Return the cost that the upstream told of all that is paid; None if it did not tell all of it."""
    told = [used.told_cost for used in paid if used.told_cost is not None]
    if not told or len(told) < len(paid):
        return None
    return Charge(sum(told), {used.model or model_asked or "": _TOLD for used in paid})


def _together(charges: Sequence[Charge | None], told: Charge | None) -> Charge | None:
    """Add up charges. Where one is unknown or a lower bound, the cost that the upstream told holds, if it did."""
    known = [charge for charge in charges if charge is not None]
    is_whole = bool(known) and len(known) == len(charges)
    is_minimum = any(charge.is_minimum for charge in known)
    if told is not None and (is_minimum or not is_whole):
        return told
    if not is_whole:
        return None
    prices = {model: price for charge in known for model, price in charge.prices.items()}
    return Charge(sum([charge.cost for charge in known]), prices, is_minimum)


def _written(prices: Mapping[str, str]) -> str:
    listed = ", ".join([f"{_quoted(model)}: {price}" for model, price in prices.items()])
    return f"{{{listed}}}"


@functools.lru_cache(maxsize=1024)
def _name(model: str | None) -> str | None:
    return model and mask_secrets(storable(model))


@functools.lru_cache(maxsize=1024)
def _quoted(model: str) -> str:
    return json.dumps(mask_secrets(model))
