"""Explains a cost line by line: the units of a request, by the rates of the price that the ledger keeps with it.

The ledger keeps every rate of tokens, but some units in their totals only, such as tokens written to a cache. Where
these have rates of their own the lines do not add up: the explanation tells how much they lack.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from store.ledger import listed_prices
from store.money import usd

type Counts = Mapping[str, int | None]
"""The numbers of units, under the names of the ledger's columns; None where one is unknown."""

REQUESTS = "requests"
"""The unit of a rate for the request itself."""

_MILLION = 1_000_000

_TOKENS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "input_tokens": (
        "input_mtok",
        {"cached_input_tokens": "cache_read_mtok", "input_audio_tokens": "input_audio_mtok"},
    ),
    "output_tokens": (
        "output_mtok",
        {"reasoning_tokens": "output_reasoning_mtok", "output_audio_tokens": "output_audio_mtok"},
    ),
}
"""Totals of tokens with their rates, and their parts with theirs. A part without a rate costs what the rest does."""

_PIECES: Mapping[str, tuple[int, Sequence[str]]] = {
    "web_searches_kcount": (1000, ("web_searches",)),
    "storage_searches_kcount": (1000, ("file_searches",)),
    "audio_hours": (3600, ("audio_seconds",)),
    "per_request": (1, (REQUESTS,)),
    "per_search": (1, ("web_searches",)),
    "per_file_search": (1, ("file_searches",)),
    "per_image": (1, ("images",)),
    "per_second": (1, ("audio_seconds", "video_seconds")),
}
"""Rates of other units: the number of units that one is for, and the units."""

_PRECISION = Decimal("0.000000000001")
"""That of a cost (COST_UNIT)."""


class Line(NamedTuple):
    """A number of a unit, what `per` of it cost, and the cost, in US dollars."""

    unit: str
    number: int
    rate: Decimal
    per: int
    cost: Decimal


class Priced(NamedTuple):
    """A model, the origin of its price, and the rates in US dollars, as the ledger keeps them."""

    model: str
    origin: str
    rates: Mapping[str, Decimal]


class Explanation(NamedTuple):
    """The prices of a cost. The lines of the only one, the surcharge of a region and `rest` add up to the cost.

    A cost that several models made has no lines, as the ledger keeps their units together.
    """

    prices: Sequence[Priced]
    lines: Sequence[Line]
    surcharge: Decimal
    rest: Decimal


def explain(price: Mapping[str, object], counts: Counts, cost: int) -> Explanation:
    """Explain a cost (in COST_UNITs) by the price of a request, as its row has it, and its units."""
    prices = [_priced(model, about) for model, about in price.items() if isinstance(about, dict)]
    lines = [*_lines(prices[0].rates, counts)] if len(prices) == 1 else []
    factor = listed_prices.surcharge(prices[0].origin) if lines else Decimal(0)
    surcharge = sum((line.cost for line in lines if line.per == _MILLION), Decimal(0)) * factor
    rest = usd(cost) - surcharge - sum((line.cost for line in lines), Decimal(0))
    return Explanation(prices, lines, surcharge, rest if abs(rest) > _PRECISION else Decimal(0))


def _priced(model: str, about: Mapping[str, object]) -> Priced:
    rates = {name: _rate(text) for name, text in about.items() if name != "from"}
    return Priced(model, str(about.get("from", "")), {name: rate for name, rate in rates.items() if rate is not None})


def _rate(text: object) -> Decimal | None:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return None


def _lines(rates: Mapping[str, Decimal], counts: Counts) -> Iterator[Line]:
    for total, (rate, parts) in _TOKENS.items():
        rest = (counts.get(total) or 0) - _paid_by_time(total, rates, counts)
        for part, its_rate in parts.items():
            count = counts.get(part) or 0
            if count and its_rate in rates:
                yield _line(part, count, rates[its_rate], _MILLION)
                rest -= count
        if rest and rate in rates:
            yield _line(total, rest, rates[rate], _MILLION)
    for rate, (per, units) in _PIECES.items():
        for unit in units:
            count = 1 if unit == REQUESTS else counts.get(unit) or 0
            if count and rate in rates:
                yield _line(unit, count, rates[rate], per)


def _paid_by_time(total: str, rates: Mapping[str, Decimal], counts: Counts) -> int:
    """Return the tokens of a total that are audio which is paid by the second, as `listed_prices` has it."""
    is_so = total == "input_tokens" and "audio_hours" in rates and counts.get("audio_seconds") is not None
    return counts.get("input_audio_tokens") or 0 if is_so and "input_audio_mtok" not in rates else 0


def _line(unit: str, count: int, rate: Decimal, per: int) -> Line:
    return Line(unit, count, rate, per, count * rate / per)
