import json
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from store.ledger import listed_prices
from store.ledger.own_prices import RATES, quote_of
from store.ledger.price_lines import REQUESTS, Explanation, explain
from store.ledger.quote import Quote
from store.ledger.usage import COLUMNS, COST_UNIT, Conditions, Consumption
from store.money import usd

MODELS = [(model.id, provider.id) for provider in get_snapshot().providers for model in provider.models]
NOON = 1_770_000_000
IN_THE_UNITED_STATES: Conditions = (("inference_geo", "us"),)
FEES = {"requests_kcount", "cache_write_mtok"}
"""Rates whose units the ledger does not keep."""

counts = st.integers(0, 10**9)
usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cached_input_tokens": st.integers(0, 1000),
        "reasoning_tokens": st.integers(0, 1000),
        "web_searches": st.integers(0, 50),
        "file_searches": st.integers(0, 50),
    },
).filter(
    lambda used: (
        used["input_tokens"] >= used.get("cached_input_tokens", 0)
        and used["output_tokens"] >= used.get("reasoning_tokens", 0)
    )
)


def explained(quote: Quote | None, counts: dict[str, int]) -> tuple[Explanation, int] | None:
    """Charge a usage, and explain the cost by the price as the ledger writes it; None without a price."""
    used = Consumption("some-model", {COLUMNS[name]: count for name, count in counts.items()})
    charge = quote and quote.charge(used, "some-model")
    if not charge:
        return None
    price = {model: json.loads(named) for model, named in charge.prices.items()}
    return explain(price, counts, charge.cost), charge.cost


def added_up(explanation: Explanation) -> Decimal:
    return sum((line.cost for line in explanation.lines), explanation.surcharge) + explanation.rest


@given(st.sampled_from(MODELS), usages)
def test_the_lines_of_a_list_price_add_up_to_the_cost(model: tuple[str, str], used: dict[str, int]) -> None:
    quote = listed_prices.quote(*model, (), NOON)
    found = explained(quote, used)
    if quote is None or found is None:
        return
    explanation, cost = found
    assert abs(added_up(explanation) - usd(cost)) <= usd(1)
    if not any(getattr(quote.price, fee, None) for fee in FEES):
        assert explanation.rest == 0


@given(st.dictionaries(st.sampled_from(RATES), st.integers(0, 10**8)), usages, st.integers(0, 100))
def test_the_lines_of_an_own_price_add_up_to_the_cost(rates: dict[str, int], used: dict[str, int], images: int) -> None:
    texts = {name: str(Decimal(rate) / 1_000_000) for name, rate in rates.items()}
    found = explained(quote_of(json.dumps(texts)), {**used, "images": images, "audio_seconds": 3})
    if found is not None:
        explanation, cost = found
        assert explanation.rest == explanation.surcharge == 0
        assert added_up(explanation) == usd(cost)


def test_parts_of_a_total_cost_what_the_rest_does_without_a_rate() -> None:
    price = {"m": {"from": "a list", "input_mtok": "2", "cache_read_mtok": "0.5", "output_mtok": "8"}}
    used = {"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 100, "reasoning_tokens": 60}
    explanation = explain(price, used, 2_200_000_000)
    assert [line[:4] for line in explanation.lines] == [
        ("cached_input_tokens", 400, Decimal("0.5"), 1_000_000),
        ("input_tokens", 600, Decimal(2), 1_000_000),
        ("output_tokens", 100, Decimal(8), 1_000_000),
    ]
    assert added_up(explanation) == Decimal("0.0022")
    assert explanation.rest == 0
    assert explanation.prices[0][:2] == ("m", "a list")


def test_units_that_the_ledger_does_not_keep_are_the_rest() -> None:
    quote = listed_prices.quote("claude-sonnet-4-5", "https://api.anthropic.com", (), NOON)
    assert quote is not None
    used = Consumption(None, {"input_tokens": 1000, "cache_write_tokens": 600, "output_tokens": 0})
    charge = quote.charge(used, "m")
    assert charge is not None
    explanation = explain({"m": json.loads(charge.prices["m"])}, {"input_tokens": 1000}, charge.cost)
    assert explanation.lines[0].cost == Decimal("0.003")
    assert explanation.rest == 600 * (Decimal("3.75") - 3) / 1_000_000


def test_the_surcharge_of_a_region_is_on_tokens() -> None:
    quote = listed_prices.quote("claude-sonnet-4-5", "https://api.anthropic.com", IN_THE_UNITED_STATES, NOON)
    found = explained(quote, {"input_tokens": 1000, "output_tokens": 10, "web_searches": 2})
    assert found is not None
    explanation, cost = found
    assert explanation.surcharge == Decimal("0.000315")
    assert explanation.rest == 0
    assert added_up(explanation) == usd(cost)


@pytest.mark.parametrize(
    ("model", "upstream", "used", "units"),
    [
        ("whisper-1", "https://api.openai.com", {"audio_seconds": 7}, ["audio_seconds"]),
        (
            "voxtral-small-latest",
            "https://api.mistral.ai",
            {"audio_seconds": 7, "input_tokens": 300, "input_audio_tokens": 280, "output_tokens": 5},
            ["input_tokens", "output_tokens", "audio_seconds"],
        ),
    ],
)
def test_audio_that_is_paid_by_time_is_not_paid_as_tokens(
    model: str, upstream: str, used: dict[str, int], units: list[str]
) -> None:
    found = explained(listed_prices.quote(model, upstream, (), NOON), used)
    assert found is not None
    explanation, cost = found
    assert [line.unit for line in explanation.lines] == units
    assert abs(added_up(explanation) - usd(cost)) <= usd(1)
    assert explanation.rest == 0


@pytest.mark.parametrize(
    "price",
    [
        {"a": {"from": "x", "input_mtok": "1"}, "b": {"from": "own price", "per_request": "0.1"}},
        {"a": {"from": "told by the upstream"}},
        {"a": {"from": "x", "input_mtok": "damaged"}},
        {"input": "2.5"},
        {},
    ],
)
def test_a_cost_without_lines_is_all_rest(price: dict[str, object]) -> None:
    explanation = explain(price, {"input_tokens": 10}, COST_UNIT)
    assert [*explanation.lines] == []
    assert explanation.rest == 1


def test_a_request_itself_may_cost() -> None:
    explanation = explain({"m": {"from": "own price", "per_request": "0.25"}}, {}, COST_UNIT // 4)
    assert [(line.unit, line.number) for line in explanation.lines] == [(REQUESTS, 1)]
    assert explanation.rest == 0
