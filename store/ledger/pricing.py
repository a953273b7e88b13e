"""Pricing of usage: by the operator's own prices, else by those of genai-prices, which need no network.

Money is exact: Decimals while it is calculated, whole `COST_UNIT`s when it is stored. Without a price there is no cost.
"""

import functools
import importlib.metadata
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from store import clock
from store.database import Database
from store.ledger.flat_price import FlatPrice, shown
from store.ledger.money import decimal_text
from store.ledger.usage import COST_UNIT, Consumption, Units

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

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

_PIECE_RATES: Mapping[str, str] = {
    "per_request": "requests",
    "per_search": "web_searches",
    "per_second": "audio_seconds",
}
"""Rates of an own price in USD for one of a unit, and the units."""

RATES = (*_TOKEN_RATES, *_PIECE_RATES)
"""The rates that an own price may have."""

_ALWAYS_KNOWN = {"requests", "web_searches"}
"""Units whose number is known of every usage: that of one which does not name them is 1 or 0."""

_RATE_OF = {
    "audio_seconds": "audio_hours",
    "input_characters": "input_mchars",
    "input_document_pages": "input_document_kpages",
    "web_searches": "web_searches_kcount",
}
"""Units that are no tokens, and their rates in genai-prices."""

_WITH_TOKENS = {"audio_seconds", "input_characters"}
"""Units that may be told beside tokens, and are paid by these then."""

_MAX_COST = 2**53
"""About 9,000 dollars for a request: a higher cost is ignored as implausible."""
_DEFAULT_PROVIDER = "openai"
_ANY_TIME = datetime.fromtimestamp(0, UTC)

_log = logging.getLogger(__name__)


class Charge(NamedTuple):
    """A cost in COST_UNITs, and for each model the price that it comes from.

    A price is in JSON: rates in USD, under genai-prices' names, and `from`: the origin of the price.
    """

    cost: int
    prices: Mapping[str, str]


class Pricing:
    """The prices of models. Not for several threads at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._own = _OwnPrices({})
        self._own_version: object = None

    def refresh(self) -> None:
        """Read the operator's own prices again if they have changed; in a transaction."""
        ((*version,),) = self._database.execute("SELECT COUNT(*), MAX(updated_at) FROM price", ())
        if version != self._own_version:
            rows = self._database.execute("SELECT project_id, model, rates FROM price", ())
            read = {(project_id, model): _read(rates) for project_id, model, rates in rows}
            self._own = _OwnPrices({place: price for place, price in read.items() if price is not None})
            self._own_version = version

    def charge(
        self, project_id: str, upstream: str | None, used: Consumption, model_asked: str | None, at: int
    ) -> Charge | None:
        """Return the cost to a project of a usage of an upstream (its origin) at a time, or None if it is unknown."""
        model = used.model or model_asked or ""
        try:
            quote = self._own.find(project_id, used.model, model_asked)
            quote = quote or _listed_quote(model, upstream or "", used.service_tier, at // clock.SECOND)
            return None if quote is None else _charge(quote, used, model)
        except (ValueError, ArithmeticError):  # units that contradict each other
            return None
        except Exception:
            _log.exception("the cost of a usage cannot be computed")
            return None


_MOST_FOUND = 1024
"""Models whose own prices are remembered."""


class _OwnPrices:
    """The operator's own prices, by project and model. A model with `*` is a family, whose longest name comes first."""

    def __init__(self, prices: "Mapping[tuple[str, str], _Quote]") -> None:
        self._prices = prices
        self._families = sorted((place for place in prices if "*" in place[1]), key=lambda place: -len(place[1]))
        self._found: dict[tuple[str, str | None, str | None], _Quote | None] = {}

    def find(self, project_id: str, answered: str | None, asked: str | None) -> "_Quote | None":
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

    def _search(self, project_id: str, *names: str | None) -> "_Quote | None":
        models = [model for model in names if model]
        places = [place for scope in (project_id, ANY) for place in self._places(scope, models)]
        return next((self._prices[place] for place in places if place in self._prices), None)

    def _places(self, scope: str, models: Sequence[str]) -> Iterator[tuple[str, str]]:
        yield from ((scope, model) for model in models)
        for place in self._families:
            if place[0] == scope and any(_is_of_family(model, place[1]) for model in models):
                yield place
        yield (scope, ANY)


def _is_of_family(model: str, family: str) -> bool:
    """Tell whether a model's name is one of a family's, where each `*` stands for any characters."""
    first, *middle, last = family.split("*")
    if len(model) < len(first) + len(last) or not (model.startswith(first) and model.endswith(last)):
        return False
    start, end = len(first), len(model) - len(last)
    for part in middle:
        start = model.find(part, start, end)
        if start < 0:
            return False
        start += len(part)
    return True


def warm() -> None:
    """Load the prices, so that the first request that needs one does not wait for that."""
    _find(ANY, ANY)


def _is_whole(units: Units) -> bool:
    """Return whether the tokens of a usage are complete: input costs too, so output alone has no price."""
    return "input_tokens" in units or (bool(units) and not any(unit.endswith("_tokens") for unit in units))


class _Terms(Protocol):
    """A price, and where it comes from."""

    @property
    def origin(self) -> str:
        """The source of the price, as a charge names it."""

    @property
    def per_piece(self) -> Mapping[str, Decimal]:
        """The rates of an own price for one of a unit, by _PIECE_RATES."""

    def cover(self, units: Units, price: "ModelPrice") -> bool:
        """Tell whether all that costs something is known of a usage, and has a rate in this price."""

    def price(self, moment: datetime, tier: str | None) -> "ModelPrice":
        """Return the price at a moment."""

    def total(self, used: Consumption, moment: datetime) -> Decimal:
        """Return the cost of a usage, in USD. Raises ValueError, ArithmeticError."""


class _Quote(NamedTuple):
    """A price at a moment, prepared for any number of charges. `named` is how they name it, if it is flat."""

    terms: _Terms
    moment: datetime
    price: "ModelPrice"
    flat: FlatPrice | None
    named: str

    @classmethod
    def of(cls, terms: _Terms, moment: datetime, tier: str | None = None) -> Self:
        price = terms.price(moment, tier)
        flat = None if terms.per_piece else FlatPrice.of(price)
        return cls(terms, moment, price, flat, "" if flat is None else _named(terms, flat.shown))


def _charge(quote: _Quote, used: Consumption, model: str) -> Charge | None:
    total = quote.flat.cost(used.units) if quote.flat is not None and _is_whole(used.units) else None
    named = quote.named
    if total is None:
        if not quote.terms.cover(used.units, quote.price):
            return None
        named = _named(quote.terms, shown(_rates(quote.price, used.units)))
        total = quote.terms.total(used, quote.moment)
    cost = round(total * COST_UNIT)
    return Charge(cost, {model: named}) if 0 <= cost <= _MAX_COST else None


def _named(terms: _Terms, rates: Mapping[str, str]) -> str:
    pieces = {name: decimal_text(rate) for name, rate in terms.per_piece.items()}
    return json.dumps({"from": terms.origin, **rates, **pieces})


class _Own(NamedTuple):
    """A price of the operator's, for all times and every service tier."""

    always: "ModelPrice"
    per_piece: Mapping[str, Decimal]
    has_tokens: bool
    """True if it has rates for tokens."""

    @property
    def origin(self) -> str:
        return "own price"

    def cover(self, units: Units, _price: "ModelPrice") -> bool:
        pieces = {_PIECE_RATES[name] for name in self.per_piece}
        return pieces - _ALWAYS_KNOWN <= units.keys() and (not self.has_tokens or _is_whole(units))

    def price(self, _moment: datetime, _tier: str | None) -> "ModelPrice":
        return self.always

    def total(self, used: Consumption, _moment: datetime) -> Decimal:
        from genai_prices import Usage  # noqa: PLC0415 - it takes a moment, and 20 MB: only where something has a price

        units = {"requests": 1, **used.units}
        pieces = sum((rate * units.get(_PIECE_RATES[name], 0) for name, rate in self.per_piece.items()), Decimal(0))
        return self.always.calc_price(Usage(**used.units))["total_price"] + pieces


class _Listed(NamedTuple):
    """A model in the lists of genai-prices: a provider's own, or one of those that this provider resells."""

    provider: "Provider"
    model: "ModelInfo"
    has_tiers: bool
    """True if it has prices for service tiers."""

    @property
    def origin(self) -> str:
        return _library()

    @property
    def per_piece(self) -> Mapping[str, Decimal]:
        return {}

    def cover(self, units: Units, price: "ModelPrice") -> bool:
        has_tokens = any(unit.endswith("_tokens") for unit in units)
        beside = {unit for unit, count in units.items() if count and not unit.endswith("_tokens")}
        rateless = {unit for unit in beside if getattr(price, _RATE_OF.get(unit, unit), None) is None}
        return _is_whole(units) and rateless <= (_WITH_TOKENS if has_tokens else set())

    def price(self, moment: datetime, tier: str | None) -> "ModelPrice":
        return self.model.get_prices(moment, self._context(tier))

    def total(self, used: Consumption, moment: datetime) -> Decimal:
        from genai_prices import Usage  # noqa: PLC0415 - as above

        context = self._context(used.service_tier)
        usage = Usage(**_without_audio_paid_by_time(used.units, self.model.get_prices(moment, context)))
        return self.model.calc_price(
            usage, self.provider, genai_request_timestamp=moment, price_context=context
        ).total_price

    def _context(self, tier: str | None) -> dict[str, str] | None:
        return {"service_tier": tier} if tier and self.has_tiers else None


def _without_audio_paid_by_time(units: Units, price: "ModelPrice") -> Units:
    """Leave the tokens of audio out of a usage where the audio is paid by the second, as Mistral's is."""
    audio = units.get("input_audio_tokens", 0)
    if not audio or "audio_seconds" not in units or getattr(price, "audio_hours", None) is None:
        return units
    return {**units, "input_tokens": units["input_tokens"] - audio, "input_audio_tokens": 0}


def _read(rates: str) -> _Quote | None:
    """Return an own price, or None if the row is damaged, or written by a newer version.

    Without a rate input and output cost nothing. Cached audio costs as much as other cached input.
    """
    from genai_prices.types import ModelPrice  # noqa: PLC0415 - as above

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
    return _Quote.of(own, _ANY_TIME)


@functools.lru_cache(maxsize=1024)
def _listed_quote(model: str, upstream: str, tier: str | None, second: int) -> _Quote | None:
    """Return the quote for a model in a second (since 1970): prices change at a date, or at a time of the day."""
    listed = _find(model, upstream)
    return None if listed is None else _Quote.of(listed, datetime.fromtimestamp(second, UTC), tier)


@functools.lru_cache(maxsize=1024)
def _find(model: str, upstream: str) -> _Listed | None:
    """Find a model among those of the upstream's provider; for an unknown upstream, by its name alone.

    This searches the library's lists itself, as the library's own lookup caches unknown names without bound.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - as above

    name, providers = model.lower(), get_snapshot().providers
    here = [provider for provider in providers if re.match(provider.api_pattern, upstream)]
    named = [provider for provider in providers if provider.model_match and provider.model_match.is_match(name)]
    default = [provider for provider in providers if provider.id == _DEFAULT_PROVIDER]
    provider = [*here, *named, *default][0]
    found = provider.find_model(name, all_providers=providers)
    if found is None and here:  # a provider may name a model's maker too: Vertex has "google/gemini-2.5-flash"
        found = provider.find_model(name.rpartition("/")[2], all_providers=providers)
    if found is None:
        return None
    is_its_own = any(found is one for one in provider.models)
    return _Listed(provider, found, is_its_own and bool(found.price_variants))


@functools.cache
def _library() -> str:
    return f"genai-prices {importlib.metadata.version('genai-prices')}"


def _rates(price: "ModelPrice", units: Units) -> dict[str, Decimal]:
    """Return the rates that apply to these units."""
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - as above

    rates = {}
    for name, rate in vars(price).items():
        if isinstance(rate, TieredPrices):
            reached = [tier.price for tier in rate.tiers if units.get("input_tokens", 0) > tier.start]
            rates[name] = reached[-1] if reached else rate.base
        elif rate is not None:
            rates[name] = rate
    return rates
