"""The operator's own prices: for a model, a family of models or all of them, of a project or of all projects."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from store import wildcards
from store.ledger.quote import BESIDE_TOKENS, Cover, Quote, is_whole, listed_units
from store.ledger.usage import Units

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

ANY = ""
"""Stands for all projects, or all models."""

_TOKEN_RATES: Mapping[str, str] = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "output": "output_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
}
"""Rates of an own price in USD for a million tokens, and their names in genai-prices."""

_PIECE_RATES: Mapping[str, Sequence[str]] = {
    "per_request": ("requests",),
    "per_search": ("web_searches",),
    "per_file_search": ("storage_searches",),
    "per_image": ("output_images",),
    "per_second": ("audio_seconds", "video_seconds"),
}
"""Rates of an own price in USD for one of a unit, and the units."""

RATES = (*_TOKEN_RATES, *_PIECE_RATES)
"""The rates that an own price may have."""

_ALWAYS_KNOWN = {"per_request", "per_search", "per_file_search"}
"""Rates of units whose number is known of every usage: that of one which does not name them is 1 or 0."""

_ANY_TIME = datetime.fromtimestamp(0, UTC)

_log = logging.getLogger(__name__)

_MOST_FOUND = 1024
"""Models whose own prices are remembered."""


class OwnPrices:
    """The operator's own prices, by project and model. A model with `*` is a family, whose longest name comes first."""

    def __init__(self, prices: Mapping[tuple[str, str], Quote]) -> None:
        self._prices = prices
        families = [place for place in prices if wildcards.ANY in place[1]]
        self._families = sorted(families, key=lambda place: -len(place[1]))
        self._found: dict[tuple[str, str | None, str | None], Quote | None] = {}

    def find(self, project_id: str, answered: str | None, asked: str | None) -> Quote | None:
        """Return the most specific price for a project and a model, by its names in the response and the request.

        It is the project's for the model, for its family, or for all; then that of all projects, likewise.
        """
        if not self._prices:
            return None
        key = (project_id, answered, asked)
        if key not in self._found:
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            self._found[key] = self._search(*key)
        return self._found[key]

    def _search(self, project_id: str, *names: str | None) -> Quote | None:
        models = [model for model in names if model]
        places = [place for scope in (project_id, ANY) for place in self._places(scope, models)]
        return next((self._prices[place] for place in places if place in self._prices), None)

    def _places(self, scope: str, models: Sequence[str]) -> Iterator[tuple[str, str]]:
        yield from ((scope, model) for model in models)
        for place in self._families:
            if place[0] == scope and any(wildcards.matches(place[1], model) for model in models):
                yield place
        yield (scope, ANY)


def quote_of(rates: str) -> Quote | None:
    """Return an own price, or None if the row is damaged, or written by a newer version.

    Without a rate input and output cost nothing. Cached audio costs as much as other cached input.
    """
    from genai_prices.types import ModelPrice  # noqa: PLC0415 - it takes a moment, and 20 MB: only where something has a price

    try:
        read = {name: Decimal(rate) for name, rate in json.loads(rates).items()}
        per_piece = {name: rate for name, rate in read.items() if name in _PIECE_RATES}
        named = {_TOKEN_RATES[name]: rate for name, rate in read.items() if name not in per_piece}
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
        _log.error("an own price cannot be read and is ignored: set it again")
        return None
    if {"cache_read_mtok", "input_audio_mtok"} <= named.keys():
        named["cache_audio_read_mtok"] = named["cache_read_mtok"]
    price = ModelPrice(**{"input_mtok": Decimal(0), "output_mtok": Decimal(0), **named})
    own = _Own(price, per_piece, has_tokens=bool(named))
    return Quote.of(own, _ANY_TIME)


class _Own(NamedTuple):
    """A price of the operator's, for all times and conditions."""

    always: "ModelPrice"
    per_piece: Mapping[str, Decimal]
    has_tokens: bool
    """True if it has rates for tokens."""

    @property
    def origin(self) -> str:
        return "own price"

    @property
    def is_plain(self) -> bool:
        return not self.per_piece

    def cover(self, units: Units, _price: "ModelPrice") -> Cover:
        counted = [name for name in self.per_piece if name not in _ALWAYS_KNOWN]
        is_known = all(any(unit in units for unit in _PIECE_RATES[name]) for name in counted)
        if not is_known or (self.has_tokens and not is_whole(units)):
            return Cover.NOTHING
        paid = {unit for name in self.per_piece for unit in _PIECE_RATES[name]}
        lacks = self.has_tokens and any(unit not in paid for unit in BESIDE_TOKENS if units.get(unit))
        return Cover.PART if lacks else Cover.WHOLE

    def price(self, _moment: datetime) -> "ModelPrice":
        return self.always

    def total(self, units: Units, _moment: datetime) -> Decimal:
        from genai_prices import Usage  # noqa: PLC0415 - it takes a moment, and 20 MB: only where something has a price

        counts = {"requests": 1, **units}
        pieces = [rate * counts.get(unit, 0) for name, rate in self.per_piece.items() for unit in _PIECE_RATES[name]]
        tokens = self.always.calc_price(Usage(**listed_units(units)))["total_price"]
        return tokens + sum(pieces, Decimal(0))
