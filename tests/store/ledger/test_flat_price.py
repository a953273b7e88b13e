from collections.abc import Iterator, Mapping
from decimal import Decimal

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice
from hypothesis import given
from hypothesis import strategies as st

from store.ledger.flat_price import FlatPrice
from store.ledger.usage import COST_UNIT

TEXT = ("input_tokens", "cache_read_tokens", "output_tokens", "output_reasoning_tokens")
OTHERS = ("input_audio_tokens", "output_audio_tokens", "cache_write_tokens", "audio_seconds")


def known_prices() -> Iterator[ModelPrice]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            for variant in model.prices if isinstance(model.prices, list) else [model.prices]:
                yield variant if isinstance(variant, ModelPrice) else variant.prices


PRICES = list(known_prices())


def by_the_library(price: ModelPrice, units: Mapping[str, int]) -> Decimal | None:
    try:
        return price.calc_price(Usage(**units))["total_price"] * COST_UNIT
    except ValueError:
        return None


counts = st.integers(0, 2**40) | st.integers(-3, 3)
texts = st.dictionaries(st.sampled_from(TEXT), counts)
others = st.dictionaries(st.sampled_from(OTHERS), st.sampled_from([0, 0, 7]))


@given(st.sampled_from(PRICES), texts, others)
def test_cost_equals_that_of_genai_prices(price: ModelPrice, text: dict[str, int], other: dict[str, int]) -> None:
    flat = FlatPrice.of(price)
    cost = None if flat is None else flat.cost({**text, **other})
    assert cost is None or cost == by_the_library(price, {**text, **other})


@given(
    st.dictionaries(st.sampled_from(["input", "output", "cache_read", "output_reasoning"]), st.decimals(0, 999999)),
    texts,
)
def test_cost_of_any_rates_equals_that_of_genai_prices(rates: dict[str, Decimal], text: dict[str, int]) -> None:
    price = ModelPrice(**{f"{name}_mtok": rate.quantize(Decimal("0.000001")) for name, rate in rates.items()})
    flat = FlatPrice.of(price)
    cost = None if flat is None else flat.cost(text)
    assert cost is None or cost == by_the_library(price, text)


def test_almost_all_prices_are_flat_and_cover_the_units_of_a_chat() -> None:
    chat = {**dict(zip(TEXT, (1000, 600, 300, 128), strict=True)), "input_audio_tokens": 0}
    flat = [found for price in PRICES if (found := FlatPrice.of(price))]
    assert len(flat) > 0.9 * len(PRICES)
    assert all(price.cost(chat) is not None for price in flat)


@pytest.mark.parametrize(
    "rates", [{"input_mtok": Decimal(-1)}, {"input_mtok": Decimal("NaN")}, {"requests_kcount": Decimal(5)}]
)
def test_unusual_prices_are_left_to_the_library(rates: dict[str, Decimal]) -> None:
    assert FlatPrice.of(ModelPrice(**rates)) is None


def test_rates_of_other_units_than_tokens_are_not_displayed() -> None:
    flat = FlatPrice.of(ModelPrice(input_mtok=Decimal("0.15"), web_searches_kcount=Decimal(10), output_mtok=None))
    assert flat is not None
    assert flat.shown == {"input_mtok": "0.15"}


@pytest.mark.parametrize(("rate", "shown"), [("2.50", "2.5"), ("2.5", "2.5"), ("1E+2", "100"), ("0.00", "0")])
def test_equal_rates_are_displayed_alike(rate: str, shown: str) -> None:
    flat = FlatPrice.of(ModelPrice(input_mtok=Decimal(rate)))
    assert flat is not None
    assert flat.shown == {"input_mtok": shown}
