"""The most that a request may cost, by list prices and own prices, is at least what it costs then."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores.stores import API_KEY, on_sqlite, opening

from store import clock
from store.admission.bounding import CONTEXT_WINDOW, Bounding
from store.admission.decision import TokenRow
from store.errors import CostNotBounded, ModelNotPriced, TokenRefused
from store.ledger.pricing import Pricing
from store.ledger.usage import COST_UNIT, Consumption
from store.limits.bound import NOTHING_USED, Bounds
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.request import NOTHING, Amounts, Demand, Reading
from store.store import Store

UPSTREAM = "https://example.com"
ROW = TokenRow("token", "lookup", None, True, clock.NEVER, 0, 0, "project", "Search", True, b"")
NOW = clock.from_rfc3339("2026-11-01T00:00:00Z")

pytestmark = on_sqlite


@pytest.fixture
def pricing(store: Store) -> Iterator[Pricing]:
    with store.database.write():
        yield Pricing(store.database)


def bounds(
    pricing: Pricing, reading: Reading | None, *, row: TokenRow = ROW, has_budget: bool = True
) -> Bounds | TokenRefused:
    asked = opening()._replace(reading=reading, upstream=UPSTREAM)
    return Bounding(pricing).bounds_of(NOW)(row, asked, has_budget)


def bound(pricing: Pricing, *models: str, **demand: object) -> Bounds:
    found = bounds(pricing, Reading(models, demand=Demand(**demand)))  # type: ignore[arg-type]
    assert isinstance(found, Bounds), found
    return found


def test_a_request_that_generates_nothing_reserves_nothing(pricing: Pricing) -> None:
    assert bounds(pricing, NOTHING) == NOTHING_USED


def test_the_list_price_bounds_input_and_output(pricing: Pricing) -> None:
    found = bound(pricing, "gpt-4o-mini", input_tokens=1000, output_tokens=300)
    assert found.with_output(300) == Amounts(1300, 1000 * 150_000 + 300 * 600_000)
    assert (found.output, found.choices) == (300, 1)


def test_without_a_budget_no_price_is_needed(pricing: Pricing) -> None:
    found = bounds(pricing, Reading(("unknown",), demand=Demand(7, 3)), has_budget=False)
    assert isinstance(found, Bounds)
    assert found.with_output(3) == Amounts(10, 0)


def test_the_dearest_of_several_models_bounds(pricing: Pricing) -> None:
    alone = [bound(pricing, model, input_tokens=10) for model in ("gpt-4o-mini", "gpt-4o")]
    assert bound(pricing, "gpt-4o-mini", "gpt-4o", input_tokens=10) == alone[1]
    assert alone[0].usd < alone[1].usd
    assert alone[0].usd_each < alone[1].usd_each


def test_a_long_context_is_bounded_by_its_own_price(pricing: Pricing) -> None:
    short = bound(pricing, "gemini-2.5-pro", input_tokens=200_000)
    long = bound(pricing, "gemini-2.5-pro", input_tokens=200_001)
    assert long.usd_each > short.usd_each
    assert long.usd > short.usd * 3 // 2


def test_audio_is_bounded_by_its_own_price(pricing: Pricing) -> None:
    model, units = "gpt-realtime", {"input_audio_tokens": 100}
    text = bound(pricing, model, input_tokens=100, output_tokens=10)
    heard = bound(pricing, model, input_tokens=100, output_tokens=10, units=units)
    spoken = bound(pricing, model, input_tokens=100, output_tokens=10, speaks=True)
    assert heard.usd > text.usd
    assert spoken.usd_each > text.usd_each


def test_input_that_is_referred_to_may_be_audio(pricing: Pricing) -> None:
    text = bound(pricing, "gpt-realtime", input_tokens=32_000, output_tokens=10)
    unknown = bound(pricing, "gpt-realtime", input_tokens=32_000, output_tokens=10, refers=True)
    assert unknown.usd == 32_000 * 32 * COST_UNIT // 1_000_000  # $32 for a million
    assert unknown.input_tokens == text.input_tokens


def test_images_are_bounded_by_the_price_of_their_tokens(pricing: Pricing) -> None:
    chat = bound(pricing, "gemini-2.5-flash-image", input_tokens=10, output_tokens=1_290)
    assert chat.with_output(1_290).usd >= 38_000 * COST_UNIT // 1_000_000  # an image is $0.039
    edit = bound(pricing, "gpt-image-1", input_tokens=10_000, output_tokens=0)
    assert edit.usd >= COST_UNIT // 10  # $10 for a million


def test_input_that_is_referred_to_fills_the_context_window(pricing: Pricing) -> None:
    assert bound(pricing, "gpt-4o-mini", input_tokens=5, refers=True).input_tokens == 128_000
    assert bound(pricing, "gpt-4o-mini", input_tokens=200_000, refers=True).input_tokens == 200_000
    unknown = bounds(pricing, Reading(("unknown",), demand=Demand(5, refers=True)), has_budget=False)
    assert isinstance(unknown, Bounds)
    assert unknown.input_tokens == CONTEXT_WINDOW


@pytest.mark.parametrize(
    ("reading", "refusal", "told"),
    [
        (Reading((), demand=Demand(5)), ModelNotPriced, "It names no model."),
        (Reading((), "The body is no JSON.", demand=Demand(5)), ModelNotPriced, "The body is no JSON."),
        (Reading(("unknown",), demand=Demand(5)), ModelNotPriced, "the model 'unknown' has no price"),
        (Reading(("gpt-4o", "unknown"), demand=Demand(5)), ModelNotPriced, "PUT /manage/prices"),
        (Reading(("gpt-4o",), demand=Demand(5, unbounded="It is a batch.")), CostNotBounded, "It is a batch."),
    ],
)
def test_what_has_no_price_or_no_bound_is_refused(
    pricing: Pricing, reading: Reading, refusal: type[TokenRefused], told: str
) -> None:
    found = bounds(pricing, reading)
    assert isinstance(found, refusal)
    assert told in str(found)


@pytest.mark.parametrize(
    ("entry", "opens"),
    [("POST /v1/chat/completions", True), ("* /v1/chat/completions", True), ("* *", False), ("POST /v1/*", False)],
)
def test_an_endpoint_that_is_written_out_needs_no_bound(pricing: Pricing, entry: str, *, opens: bool) -> None:
    row = ROW._replace(project_allowed_endpoints=f'["{entry}"]')
    found = bounds(pricing, Reading(("gpt-4o",), demand=Demand(5, unbounded="It is a batch.")), row=row)
    assert isinstance(found, Bounds) is opens


def test_an_endpoint_that_is_written_out_does_not_pass_a_spent_budget_without_a_price(pricing: Pricing) -> None:
    row = ROW._replace(project_allowed_endpoints='["POST /v1/chat/completions"]')
    found = bounds(pricing, Reading((), demand=Demand(0, unbounded="It is a batch.")), row=row)
    assert isinstance(found, Bounds)
    assert found.usd > 0


def test_a_bound_that_no_number_holds_is_no_fault(pricing: Pricing) -> None:
    assert isinstance(bounds(pricing, Reading(("gpt-4o",), demand=Demand(10**40, 10**40))), ModelNotPriced)


def test_own_prices_go_before_the_list(store: Store) -> None:
    OwnPrices(store).set({"input": Decimal(7), "output": Decimal(9), "per_request": Decimal("0.5")}, model="gpt-4o")
    with store.database.write():
        found = bound(Pricing(store.database), "gpt-4o", input_tokens=10)
    assert (found.usd, found.usd_each) == (7 * 10**7 + 5 * 10**11, 9 * 10**6)


def test_the_requests_of_one_batch_have_each_their_own_price(store: Store) -> None:
    prices = OwnPrices(store)
    own = Projects(store).create("Own", API_KEY)
    prices.set({"input": Decimal(7), "output": Decimal(9)}, model="gpt-4o", project_id=own.id)
    reading = Reading(("gpt-4o",), demand=Demand(10))
    asked = opening()._replace(reading=reading, upstream=UPSTREAM)
    with store.database.write():
        of_batch = Bounding(Pricing(store.database)).bounds_of(NOW)
        found = [of_batch(row, asked, True) for row in (ROW, ROW._replace(project_id=own.id), ROW)]
        found.append(of_batch(ROW, asked._replace(reading=reading._replace(models=("gpt-4o-mini",))), True))
    assert [each.usd for each in found if isinstance(each, Bounds)] == [25 * 10**6, 7 * 10**7, 25 * 10**6, 15 * 10**5]


def test_a_condition_without_a_price_is_refused_between_others_of_its_batch(pricing: Pricing) -> None:
    of_batch = Bounding(pricing).bounds_of(NOW)
    found = []
    for conditions in ((), (("speed", "fast"),), ()):
        reading = Reading(("claude-opus-4-7",), demand=Demand(10, conditions=conditions))
        found.append(of_batch(ROW, opening()._replace(reading=reading, upstream=UPSTREAM), True))
    assert [type(each) for each in found] == [Bounds, ModelNotPriced, Bounds]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "gemini-2.5-pro", "claude-sonnet-4-5"]),
    bounded=st.tuples(st.integers(0, 300_000), st.integers(0, 100_000)),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_usage_within_the_bound_costs_more(
    pricing: Pricing, model: str, bounded: tuple[int, int], share: tuple[float, float, float]
) -> None:
    used, output = int(bounded[0] * share[0]), int(bounded[1] * share[1])
    most = bound(pricing, model, input_tokens=bounded[0], output_tokens=bounded[1]).with_output(bounded[1])
    units = {"input_tokens": used, "output_tokens": output, "cache_read_tokens": int(used * share[2])}
    charge = pricing.charge("project", UPSTREAM, Consumption(model, units), model, NOW)
    assert charge is not None
    assert charge.cost <= most.usd
