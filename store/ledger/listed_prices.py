"""List prices: those of genai-prices, which need no network, and those of fine-tuned models that it lacks."""

import functools
import importlib.metadata
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Self

from store.ledger.quote import (
    BESIDE_TOKENS,
    IMAGE_RATES,
    INSTEAD_OF_TOKENS,
    Cover,
    Quote,
    is_whole,
    listed_units,
    rate_of,
)
from store.ledger.usage import Conditions, Units

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_DEFAULT_PROVIDER = "openai"

_REGION = ("inference_geo", "us")
_REGION_FACTOR = Decimal("1.1")
"""The surcharge of Anthropic on all tokens of a model that may run in the United States alone."""
_IN_THE_REGION = f", x {_REGION_FACTOR} in the region"
"""The end of the origin of a price that has it."""

_DEARER = {("service_tier", "priority"), ("service_tier", "fast"), ("speed", "fast")}
"""Conditions that raise a price; all others lower it."""

_REGIONAL = re.compile(r"https://[a-z]+\.api\.openai\.com\b")
"""Origins of OpenAI in a region, where some models have a surcharge."""

_FINE_TUNED: Mapping[str, tuple[str, str, str]] = {
    "gpt-4.1-2025": ("3", "0.75", "12"),
    "gpt-4.1-mini-2025": ("0.8", "0.2", "3.2"),
    "gpt-4.1-nano-2025": ("0.2", "0.05", "0.8"),
    "gpt-4o-2024": ("3.75", "1.875", "15"),
    "gpt-4o-mini-2024": ("0.3", "0.15", "1.2"),
    "o4-mini-2025": ("4", "1", "16"),
}
"""OpenAI's list prices of fine-tuned models, by the beginning of the base model's name: USD for a million tokens of
input, cached input and output (https://platform.openai.com/docs/pricing#fine-tuning)."""
_FINE_TUNED_LIST = "OpenAI's prices of fine-tuned models"


@functools.lru_cache(maxsize=1024)
def quote(model: str, upstream: str, conditions: Conditions, second: int) -> Quote | None:
    """Return the quote for a model in a second (since 1970): prices change at a date, or at a time of the day."""
    listed = find(model, upstream)
    return None if listed is None else Quote.of(listed.under(conditions), datetime.fromtimestamp(second, UTC))


@functools.lru_cache(maxsize=1024)
def find(model: str, upstream: str) -> "_Listed | None":
    """Find a model among those of the upstream's provider; for an unknown upstream, by its name alone.

    This searches the library's lists itself, as the library's own lookup caches unknown names without bound.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - as above

    name, providers = model.lower(), get_snapshot().providers
    here = [provider for provider in providers if re.match(provider.api_pattern, upstream)]
    named = [provider for provider in providers if provider.model_match and provider.model_match.is_match(name)]
    default = [provider for provider in providers if provider.id == _DEFAULT_PROVIDER]
    provider = [*here, *named, *default][0]
    most = Cover.PART if _REGIONAL.match(upstream) else Cover.WHOLE
    fine_tuned = _fine_tuned(name) if provider.id == _DEFAULT_PROVIDER else None
    if fine_tuned is not None:
        return _Listed(provider, fine_tuned, _FINE_TUNED_LIST, most)
    found = provider.find_model(name, all_providers=providers)
    if found is None and here:  # a provider may name a model's maker too: Vertex has "google/gemini-2.5-flash"
        found = provider.find_model(name.rpartition("/")[2], all_providers=providers)
    return None if found is None else _Listed(provider, found, _library(), most)


def context_window(model: str, upstream: str) -> int | None:
    """Return the tokens that a model reads at once, where that is known."""
    listed = find(model, upstream)
    return None if listed is None else listed.model.context_window


def surcharge(origin: str) -> Decimal:
    """Return the surcharge on tokens, as a part of their cost, by the origin of a price; 0 for one without."""
    return _REGION_FACTOR - 1 if origin.endswith(_IN_THE_REGION) else Decimal(0)


def _fine_tuned(name: str) -> "ModelInfo | None":
    """Return a fine-tuned model, from its name `ft:<base>:<organization>:...`, if its price is known."""
    from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice  # noqa: PLC0415 - as above

    kind, _, base = name.partition(":")
    rates = next((rates for start, rates in _FINE_TUNED.items() if base.startswith(start)), None)
    if kind != "ft" or rates is None:
        return None
    whole, cached, output = map(Decimal, rates)
    price = ModelPrice(input_mtok=whole, cache_read_mtok=cached, output_mtok=output)
    return ModelInfo(id=name, match=ClauseEquals(name), prices=price)


class _Listed(NamedTuple):
    """A model in the lists of genai-prices: a provider's own, or one of those that this provider resells."""

    provider: "Provider"
    model: "ModelInfo"
    source: str
    cover_at_most: Cover
    conditions: Conditions = ()

    @property
    def origin(self) -> str:
        return f"{self.source}{_IN_THE_REGION}" if self._is_regional() else self.source

    @property
    def per_piece(self) -> Mapping[str, Decimal]:
        return {}

    @property
    def is_plain(self) -> bool:
        return self.cover_at_most is Cover.WHOLE and not self._is_regional()

    def cover(self, units: Units, price: "ModelPrice") -> Cover:
        used = {unit for unit, count in units.items() if count}
        instead = {} if any(unit.endswith("_tokens") for unit in units) else INSTEAD_OF_TOKENS
        if not is_whole(units) or any(unit in instead and rate_of(price, instead[unit]) is None for unit in used):
            return Cover.NOTHING
        if all(_is_paid(unit, units, price) for unit in used):
            return self.cover_at_most
        is_paid_otherwise = any(unit not in BESIDE_TOKENS for unit in used)
        return min(Cover.PART, self.cover_at_most) if is_paid_otherwise else Cover.NOTHING

    def price(self, moment: datetime) -> "ModelPrice":
        return self.model.get_prices(moment, self._context())

    def total(self, units: Units, moment: datetime) -> Decimal:
        total = self._total(units, moment)
        if not self._is_regional():
            return total
        pieces = self._total({unit: count for unit, count in units.items() if unit in BESIDE_TOKENS}, moment)
        return (total - pieces) * _REGION_FACTOR + pieces

    def under(self, conditions: Conditions) -> Self:
        """Return the model under conditions. A condition that changes prices, but has none here, limits the cover."""
        if not conditions:
            return self
        known = {each for model in self.provider.models for each in _conditions_of(model)}
        lacking = {each for each in conditions if each in known} - _conditions_of(self.model)
        limit = Cover.PART if lacking <= _DEARER else Cover.NOTHING
        most = min(limit, self.cover_at_most) if lacking else self.cover_at_most
        return self._replace(conditions=conditions, cover_at_most=most)

    def _total(self, units: Units, moment: datetime) -> Decimal:
        from genai_prices import Usage  # noqa: PLC0415 - as above

        context = self._context()
        usage = Usage(**_without_audio_paid_by_time(listed_units(units), self.model.get_prices(moment, context)))
        return self.model.calc_price(
            usage, self.provider, genai_request_timestamp=moment, price_context=context
        ).total_price

    def _context(self) -> dict[str, str] | None:
        return dict(self.conditions) if self.conditions and self.model.price_variants else None

    def _is_regional(self) -> bool:
        return _REGION in self.conditions and self.provider.id == "anthropic"


def _is_paid(unit: str, units: Units, price: "ModelPrice") -> bool:
    """Tell whether a price has a rate for a unit, if that is paid beside tokens, or pays images by their tokens."""
    if unit == "output_images" and "output_tokens" in units:
        return any(rate_of(price, name) is not None for name in IMAGE_RATES)
    return unit not in BESIDE_TOKENS or rate_of(price, BESIDE_TOKENS[unit]) is not None


def _conditions_of(model: "ModelInfo") -> AbstractSet[tuple[str, str]]:
    """Return the conditions under which a model has prices of their own."""
    return {each for variant in model.price_variants or () for each in variant.when.items()}


def _without_audio_paid_by_time(units: Units, price: "ModelPrice") -> Units:
    """Leave the tokens of audio out of a usage where the audio is paid by the second, as Mistral's is."""
    audio = units.get("input_audio_tokens", 0)
    if not audio or "audio_seconds" not in units or getattr(price, "audio_hours", None) is None:
        return units
    return {**units, "input_tokens": units["input_tokens"] - audio, "input_audio_tokens": 0}


@functools.cache
def _library() -> str:
    return f"genai-prices {importlib.metadata.version('genai-prices')}"
