import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from support.stores.stores import on_sqlite

from store import clock
from store.database.models import Price
from store.ledger.own_prices import ANY
from store.ledger.pricing import Pricing
from store.ledger.usage import COST_UNIT, Consumption
from store.management.prices import OwnPrices
from store.store import Store

pytestmark = on_sqlite  # it computes; the ledger's tests cover its reading, on each engine

OPENAI = "https://api.openai.com"
NOW = clock.now()
CHAT = {"input_tokens": 1000, "cache_read_tokens": 600, "output_tokens": 300, "output_reasoning_tokens": 128}
REALTIME = {
    "input_tokens": 300,
    "input_audio_tokens": 200,
    "cache_read_tokens": 120,
    "cache_audio_read_tokens": 80,
    "output_tokens": 90,
    "output_audio_tokens": 70,
}


@pytest.fixture
def pricing(store: Store) -> Pricing:
    return Pricing(store.database)


def add_price(store: Store, project_id: str, model: str, **rates: str) -> None:
    with store.database.write():
        Price.create(
            id=f"{project_id}/{model}", project_id=project_id, model=model, rates=json.dumps(rates), updated_at=NOW
        )


def cost(pricing: Pricing, used: Consumption, *, asked: str | None = None, upstream: str = OPENAI) -> Decimal | None:
    pricing.refresh()
    charge = pricing.charge("project", upstream, used, asked, NOW)
    return None if charge is None else Decimal(charge.cost) / COST_UNIT


@pytest.mark.parametrize(
    ("model", "units"),
    [
        ("gpt-4o-mini-2024-07-18", CHAT),
        ("gpt-4o", CHAT),
        ("o3-mini", CHAT),
        ("gpt-5.4", {**CHAT, "input_tokens": 300_000}),  # a tier of its own
        ("gpt-realtime", REALTIME),
        ("text-embedding-3-small", {"input_tokens": 8}),
        ("whisper-1", {"audio_seconds": 61}),
        ("tts-1", {"input_characters": 1000}),
    ],
)
def test_cost_equals_that_of_genai_prices(pricing: Pricing, model: str, units: Mapping[str, int]) -> None:
    expected = genai_prices.calc_price(genai_prices.Usage(**units), model, provider_id="openai").total_price
    assert expected > 0
    assert cost(pricing, Consumption(model, units)) == expected


def test_charge_names_the_origin_and_the_rates_of_its_price(pricing: Pricing) -> None:
    pricing.refresh()
    charge = pricing.charge("project", OPENAI, Consumption("gpt-4o-mini-2024-07-18", CHAT), None, NOW)
    assert charge is not None
    assert {model: json.loads(price) for model, price in charge.prices.items()} == {
        "gpt-4o-mini-2024-07-18": {
            "from": f"genai-prices {genai_prices.__version__}",
            "input_mtok": "0.15",
            "cache_read_mtok": "0.075",
            "output_mtok": "0.6",
        }
    }
    tiered = pricing.charge("project", OPENAI, Consumption("gpt-5.4", {**CHAT, "input_tokens": 300_000}), None, NOW)
    assert tiered is not None
    assert json.loads(tiered.prices["gpt-5.4"])["input_mtok"] == "5"


def test_service_tier_has_prices_of_its_own(pricing: Pricing) -> None:
    standard = cost(pricing, Consumption("gpt-5", CHAT))
    flex = cost(pricing, Consumption("gpt-5", CHAT, (("service_tier", "flex"),)))
    assert standard is not None
    assert flex is not None
    assert 0 < flex < standard


@pytest.mark.parametrize(
    "used",
    [
        Consumption("no-such-model", CHAT),
        Consumption(None, CHAT),
        Consumption("gpt-4o", {}),
        Consumption("gpt-4o", {"output_tokens": 5}),  # the input is unknown
        Consumption("gpt-4o", {"input_tokens": 5, "cache_read_tokens": 6, "output_tokens": 1}),  # impossible
    ],
)
def test_unknown_model_and_incomplete_or_impossible_usage_have_no_cost(pricing: Pricing, used: Consumption) -> None:
    assert cost(pricing, used) is None


@pytest.mark.parametrize("model", ["gpt-4o", "text-embedding-3-small"])
def test_model_behind_an_unknown_upstream_is_found_by_its_name(pricing: Pricing, model: str) -> None:
    here = cost(pricing, Consumption(model, {"input_tokens": 9}), upstream="http://127.0.0.1:8000")
    assert here == cost(pricing, Consumption(model, {"input_tokens": 9}))
    assert here is not None


def test_model_is_found_without_its_makers_name(pricing: Pricing) -> None:
    vertex, units = "https://aiplatform.googleapis.com", {"input_tokens": 10, "output_tokens": 5}
    named = cost(pricing, Consumption("google/gemini-2.5-flash", units), upstream=vertex)
    assert named == cost(pricing, Consumption("gemini-2.5-flash", units), upstream=vertex) is not None
    assert cost(pricing, Consumption("google/gemini-2.5-flash", units), upstream="http://127.0.0.1:8000") is None


def test_requested_model_is_used_if_the_response_names_none(pricing: Pricing) -> None:
    assert cost(pricing, Consumption(None, CHAT), asked="gpt-4o") == cost(pricing, Consumption("gpt-4o", CHAT))


def test_own_prices_win_and_the_most_specific_of_them_first(store: Store, pricing: Pricing) -> None:
    used = Consumption("gpt-4o-2024-08-06", {"input_tokens": 1_000_000, "output_tokens": 0})

    def now() -> Decimal | None:
        return cost(pricing, used, asked="gpt-4o")

    assert now() == Decimal("2.5")
    add_price(store, ANY, "gpt-4o", input="4")
    assert now() == 4
    add_price(store, ANY, "gpt-4o-2024-08-06", input="3")
    assert now() == 3
    add_price(store, "project", ANY, input="2")
    assert now() == 2
    add_price(store, "project", "gpt-4o-2024-08-06", input="0")
    assert now() == 0
    add_price(store, "another", "gpt-4o-2024-08-06", input="9")
    assert now() == 0
    with store.database.write():
        Price.delete().execute()
    assert now() == Decimal("2.5")


def test_own_price_is_exact_and_covers_units_that_it_does_not_name(store: Store, pricing: Pricing) -> None:
    add_price(store, ANY, "own", input="0.000001", output="3")
    add_price(store, ANY, "cached", input="10", cached_input="1", output="0", input_audio="20", output_audio="40")
    used = {"input_tokens": 1, "cache_read_tokens": 1, "output_tokens": 0}
    assert cost(pricing, Consumption("own", used)) == Decimal("0.000000000001")
    # 300 in: 40 cached text, 80 cached audio, 120 audio and 60 text; 90 out: 70 audio.
    assert cost(pricing, Consumption("cached", REALTIME)) == Decimal(120 * 1 + 120 * 20 + 60 * 10 + 70 * 40) / 10**6
    million = {"input_tokens": 3_000_000, "cache_read_tokens": 1_000_000, "input_audio_tokens": 1_000_000}
    million["cache_audio_read_tokens"] = 0
    assert cost(pricing, Consumption("cached", {**million, "output_tokens": 0})) == 10 + 1 + 20


def test_cost_beyond_the_maximum_is_none(store: Store, pricing: Pricing) -> None:
    add_price(store, ANY, "dear", input="999999")
    assert cost(pricing, Consumption("dear", {"input_tokens": 2**40, "output_tokens": 0})) is None


@pytest.mark.parametrize("rates", ["", "nonsense", "[1]", '{"new": "1"}', '{"input": "x"}', '{"input": null}'])
def test_unreadable_own_price_is_ignored(
    store: Store, pricing: Pricing, rates: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_price(store, ANY, "gpt-4o", input="4")
    add_price(store, "project", "gpt-4o")
    with store.database.write():
        Price.update(rates=rates).where(Price.project_id == "project").execute()
    assert cost(pricing, Consumption("gpt-4o", {"input_tokens": 1_000_000, "output_tokens": 0})) == 4
    assert "set it again" in caplog.text


def test_price_replaced_within_one_tick_of_the_clock_is_read_again(
    store: Store, pricing: Pricing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    used, own = Consumption("own", {"input_tokens": 1_000_000, "output_tokens": 0}), OwnPrices(store)
    for rate in (500, 7, 8):
        own.set({"input": Decimal(rate)}, model="own")
        assert cost(pricing, used) == rate


def test_unknown_models_are_not_cached_without_bound(pricing: Pricing) -> None:
    for number in range(3000):
        assert cost(pricing, Consumption(f"unknown-{number}", CHAT), upstream="http://127.0.0.1:1") is None
    snapshot = get_snapshot()
    assert len(snapshot._provider_misses) + len(snapshot._lookup_cache) + len(snapshot._provider_cache) < 100  # noqa: SLF001


def test_price_is_that_of_the_time_of_the_request(pricing: Pricing) -> None:
    past = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * clock.SECOND
    usage = Consumption("o3", {"input_tokens": 1_000_000, "output_tokens": 0})
    now, then = (pricing.charge("project", OPENAI, usage, None, moment) for moment in (NOW, past))
    assert now is not None
    assert then is not None
    assert now.cost < then.cost  # it became cheaper in June 2025


def test_a_family_has_one_price_and_the_longest_name_of_several_counts(store: Store, pricing: Pricing) -> None:
    def now(model: str, asked: str | None = None) -> Decimal | None:
        return cost(pricing, Consumption(model, {"input_tokens": 1_000_000, "output_tokens": 0}), asked=asked)

    add_price(store, ANY, "ft:*", input="1")
    add_price(store, ANY, "ft:gpt-4.1-*", input="2")
    add_price(store, ANY, "ft:gpt-4.1-2025-04-14:acme::1", input="3")
    assert now("ft:other") == 1
    assert now("ft:gpt-4.1-2025-04-14:acme::2") == 2
    assert now("ft:gpt-4.1-2025-04-14:acme::1") == 3
    assert now("unknown", asked="ft:gpt-4.1-mini") == 2
    assert now("unknown") is None
    add_price(store, "project", "*", input="4")
    assert now("ft:gpt-4.1-2025-04-14:acme::1") == now("unknown") == 4
    add_price(store, "project", ANY, input="5")
    assert now("unknown") == 4


@pytest.mark.parametrize(
    ("family", "fits", "fails"),
    [
        ("a*", ["a", "ab", "a*"], ["", "ba", "A"]),
        ("*a", ["a", "ba"], ["ab"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("a*b*c", ["abc", "a-b-c", "abbcc"], ["ac", "acb", "ab"]),
        ("a**c", ["ac", "abc"], ["a"]),
        ("a*bc*c", ["abcc", "abcbc"], ["abc"]),
        ("a.c*", ["a.c"], ["abc"]),
        ("*" * 100 + "b", ["a" * 100 + "b"], ["a" * 10_000]),
    ],
)
def test_stars_stand_for_any_characters(
    store: Store, pricing: Pricing, family: str, fits: list[str], fails: list[str]
) -> None:
    add_price(store, ANY, family, input="1")
    used = {"input_tokens": 1_000_000, "output_tokens": 0}
    assert {cost(pricing, Consumption(f"{model}", used)) for model in fits} == {Decimal(1)}
    assert {cost(pricing, Consumption(model, used)) for model in fails} == {None}


def test_what_is_paid_by_the_piece_costs_its_rate(store: Store, pricing: Pricing) -> None:
    add_price(store, ANY, "pieces", per_request="0.5", per_search="0.01")
    add_price(store, ANY, "both", input="1", per_request="0.25")
    add_price(store, ANY, "seconds", per_second="0.001")
    tokens = {"input_tokens": 1_000_000, "output_tokens": 7}
    assert cost(pricing, Consumption("pieces", {})) == Decimal("0.5")
    assert cost(pricing, Consumption("pieces", {**tokens, "web_searches": 3})) == Decimal("0.53")
    assert cost(pricing, Consumption("both", tokens)) == Decimal("1.25")
    assert cost(pricing, Consumption("both", {})) is None  # its tokens are unknown
    assert cost(pricing, Consumption("seconds", {"audio_seconds": 61})) == Decimal("0.061")
    assert cost(pricing, Consumption("seconds", tokens)) is None  # its seconds are unknown
    charge = pricing.charge("project", OPENAI, Consumption("both", tokens), None, NOW)
    assert charge is not None
    assert json.loads(charge.prices["both"]) == {
        "from": "own price",
        "input_mtok": "1",
        "output_mtok": "0",
        "per_request": "0.25",
    }


def is_minimum(pricing: Pricing, used: Consumption, upstream: str = OPENAI) -> bool:
    pricing.refresh()
    charge = pricing.charge("project", upstream, used, None, NOW)
    assert charge is not None
    return charge.is_minimum


@pytest.mark.parametrize("unit", ["web_searches", "storage_searches", "code_containers", "tool_calls", "output_images"])
def test_a_part_without_a_rate_makes_the_cost_a_lower_bound(store: Store, pricing: Pricing, unit: str) -> None:
    tokens = {"input_tokens": 10, "output_tokens": 7}
    alone = cost(pricing, Consumption("gpt-3.5-turbo", tokens))
    assert alone == cost(pricing, Consumption("gpt-3.5-turbo", {**tokens, unit: 1}))
    assert is_minimum(pricing, Consumption("gpt-3.5-turbo", {**tokens, unit: 1}))
    assert not is_minimum(pricing, Consumption("gpt-3.5-turbo", {**tokens, unit: 0}))
    assert cost(pricing, Consumption("gpt-3.5-turbo", {unit: 1})) is None
    add_price(store, ANY, "own", input="1")
    assert is_minimum(pricing, Consumption("own", {**tokens, unit: 1}))


def test_searches_are_paid_beside_tokens(pricing: Pricing) -> None:
    tokens = {"input_tokens": 10, "output_tokens": 7}
    searched = Consumption("gpt-4o", {**tokens, "web_searches": 1, "storage_searches": 2})
    assert cost(pricing, searched) == Decimal("0.000095") + Decimal("0.01") + 2 * Decimal("0.0025")
    assert not is_minimum(pricing, searched)
    pricing.refresh()
    charge = pricing.charge("project", OPENAI, searched, None, NOW)
    assert charge is not None
    shown = json.loads(charge.prices["gpt-4o"])
    assert (shown["web_searches_kcount"], shown["storage_searches_kcount"]) == ("10", "2.5")


def test_seconds_without_a_rate_have_no_cost(pricing: Pricing) -> None:
    tokens = {"input_tokens": 10, "output_tokens": 7}
    assert cost(pricing, Consumption("gpt-3.5-turbo", {"audio_seconds": 9})) is None
    assert cost(pricing, Consumption("sora-2", {"video_seconds": 9})) is None
    assert cost(pricing, Consumption("gpt-4o-transcribe", {**tokens, "audio_seconds": 9})) is not None


def test_images_are_paid_by_their_tokens(pricing: Pricing) -> None:
    units = {"input_tokens": 10, "output_tokens": 7, "output_images": 1}
    assert not is_minimum(pricing, Consumption("gpt-image-1", units))
    assert cost(pricing, Consumption("gpt-image-1", {"output_images": 1})) is None
    assert is_minimum(pricing, Consumption("gpt-4o", units))


def test_pages_are_paid_by_the_thousand(pricing: Pricing) -> None:
    pages = Consumption("mistral-ocr-latest", {"input_document_pages": 3})
    assert cost(pricing, pages, upstream="https://api.mistral.ai") == 3 * Decimal(4) / 1000


@pytest.mark.parametrize(
    ("rate", "units", "expected"),
    [
        ("per_image", {"output_images": 3}, "1.5"),
        ("per_image", {"input_tokens": 3, "output_tokens": 9}, None),
        ("per_file_search", {"input_tokens": 3, "output_tokens": 9, "storage_searches": 2}, "1"),
        ("per_file_search", {"input_tokens": 3, "output_tokens": 9}, "0"),
        ("per_second", {"video_seconds": 4}, "2"),
        ("per_second", {"audio_seconds": 4}, "2"),
    ],
)
def test_own_prices_by_the_piece(
    store: Store, pricing: Pricing, rate: str, units: Mapping[str, int], expected: str | None
) -> None:
    add_price(store, ANY, "own", **{rate: "0.5"})
    assert cost(pricing, Consumption("own", units)) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("ft:gpt-4.1-2025-04-14:acme::a1", "0.003375"),
        ("ft:gpt-4.1-mini-2025-04-14:acme::a1", "0.0009"),
        ("ft:gpt-4o-2024-08-06:acme:mine:a1", "0.0050625"),
        ("ft:gpt-3.5-turbo-0125:acme::a1", "0.0042"),
        ("ft:gpt-9-2030-01-01:acme::a1", None),
    ],
)
def test_fine_tuned_models_have_their_list_price(pricing: Pricing, model: str, expected: str | None) -> None:
    used = Consumption(model, {"input_tokens": 1000, "cache_read_tokens": 900, "output_tokens": 200})
    found = cost(pricing, used)
    assert found == (None if expected is None else Decimal(expected))
    assert found is None or not is_minimum(pricing, used)


ANTHROPIC = "https://api.anthropic.com"
BATCH, PRIORITY, FLEX = (("processing", "batch"),), (("service_tier", "priority"),), (("service_tier", "flex"),)


def test_a_batch_costs_half(pricing: Pricing) -> None:
    used = Consumption("claude-sonnet-4-5", CHAT)
    whole = cost(pricing, used, upstream=ANTHROPIC)
    assert whole is not None
    assert cost(pricing, used._replace(conditions=BATCH), upstream=ANTHROPIC) == whole / 2


def test_a_condition_without_a_price_of_its_own_leaves_no_cost_that_looks_whole(pricing: Pricing) -> None:
    assert cost(pricing, Consumption("gpt-3.5-turbo", CHAT, FLEX)) is None  # it is cheaper, by an unknown amount
    assert is_minimum(pricing, Consumption("gpt-3.5-turbo", CHAT, PRIORITY))
    assert not is_minimum(pricing, Consumption("gpt-3.5-turbo", CHAT, (("service_tier", "no-such-tier"),)))


def test_tokens_of_a_region_have_a_surcharge_and_searches_have_none(pricing: Pricing) -> None:
    used = Consumption("claude-opus-4-6", {**CHAT, "web_searches": 1})
    whole = cost(pricing, used, upstream=ANTHROPIC)
    assert whole is not None
    there = cost(pricing, used._replace(conditions=(("inference_geo", "us"),)), upstream=ANTHROPIC)
    assert there == (whole - Decimal("0.01")) * Decimal("1.1") + Decimal("0.01")
    assert is_minimum(pricing, Consumption("gpt-5.4", CHAT), "https://eu.api.openai.com")
    assert not is_minimum(pricing, Consumption("gpt-5.4", CHAT))


def test_audio_that_is_paid_by_the_second_is_not_paid_by_its_tokens_too(pricing: Pricing) -> None:
    used = {"input_tokens": 378, "output_tokens": 40, "input_audio_tokens": 375, "audio_seconds": 30}
    paid = cost(pricing, Consumption("voxtral-small-latest", used), upstream="https://api.mistral.ai")
    assert paid == Decimal(30) * Decimal("0.24") / 3600 + (3 * Decimal("0.1") + 40 * Decimal("0.4")) / 10**6
