import json
from decimal import Decimal
from typing import Any

import pytest
from support.stores.stores import on_sqlite

from store.database.models import Price
from store.ledger.booking import BOOKED, Booking, book
from store.ledger.pricing import Pricing
from store.ledger.rollups import AMOUNTS
from store.ledger.usage import COST_UNIT, Consumption, Metered, Source
from store.management.prices import OwnPrices
from store.request import Opened
from store.store import Store

pytestmark = on_sqlite  # it computes; the ledger's tests cover its columns, on each engine

UNITS = {"input_tokens": 1000, "output_tokens": 100}
OURS = 210_000_000  # 1,000 x 0.15 + 100 x 0.6 USD for a million
OPENED = Opened("id", 1_795_000_000_000_000, "project", "token", "/v1/chat/completions")


def booked(store: Store, *used: Consumption, **metered: Any) -> Booking:
    pricing = Pricing(store.database)
    with store.database.read():
        pricing.refresh()
    read = Metered(Source.OBSERVED, used, "asked", "answered", **metered)
    return book(pricing, OPENED, "https://api.openai.com", 200, read)


KNOWN, UNKNOWN = Consumption("gpt-4o-mini", UNITS), Consumption("homegrown", UNITS)
PART = Consumption("gpt-3.5-turbo", {**UNITS, "code_containers": 1})


@pytest.mark.parametrize(
    ("used", "cost", "told"),
    [
        ((KNOWN,), OURS, None),
        ((KNOWN._replace(told_cost=7),), OURS, 7),  # ours stays beside it
        ((UNKNOWN._replace(told_cost=7),), 7, 7),
        ((UNKNOWN,), None, None),
        ((PART._replace(told_cost=7),), 7, 7),  # ours is a lower bound
        ((KNOWN._replace(told_cost=7), UNKNOWN._replace(told_cost=8)), 15, 15),
        ((KNOWN._replace(told_cost=7), UNKNOWN), None, None),
    ],
)
def test_a_told_cost_holds_where_ours_is_unknown(
    store: Store, used: tuple[Consumption, ...], cost: int | None, told: int | None
) -> None:
    booking = booked(store, *used)
    assert (booking.cost, booking.told_cost) == (cost, told)
    assert booking.is_minimum is (None if cost is None else False)
    if cost is not None and cost == told:
        assert json.loads(booking.price or "")[used[0].model or ""] == {"from": "told by the upstream"}


def test_a_cost_is_a_lower_bound_where_a_part_has_no_price_or_more_may_have_been_used(store: Store) -> None:
    assert booked(store, PART).is_minimum
    assert booked(store, KNOWN, is_minimum=True).is_minimum
    assert booked(store, UNKNOWN, is_minimum=True).is_minimum is None


def test_a_second_model_has_no_own_price_of_the_model_that_was_asked_for(store: Store) -> None:
    with store.database.write():
        Price.create(id="own", project_id="project", model="asked", rates='{"input": "1", "output": "2"}', updated_at=1)
    own = 1_200_000_000  # 1,000 x 1 + 100 x 2 USD for a million
    answered = Consumption("answered", UNITS)
    assert booked(store, answered, KNOWN).cost == own + OURS
    assert booked(store, KNOWN).cost == own  # the models of a compound system have the price of the system


def test_columns_of_a_row_are_read_back(store: Store) -> None:
    for booking in (booked(store, PART._replace(told_cost=COST_UNIT)), booked(store, UNKNOWN), booked(store)):
        assert len(booking.columns) == len(BOOKED)
        again = Booking.of_row(tuple(booking.columns))
        assert again.columns == booking.columns
        amounts = again.amounts(3, None)
        assert len(amounts) == len(AMOUNTS)
        assert amounts == booking.amounts(3, None)


def test_amounts_hold_our_cost_of_requests_whose_cost_was_told(store: Store) -> None:
    def amounts(*used: Consumption) -> dict[str, int]:
        return dict(zip(AMOUNTS, booked(store, *used).amounts(None, None), strict=True))

    told = amounts(KNOWN._replace(told_cost=7))
    assert (told["cost"], told["told_cost"], told["cost_where_told"]) == (OURS, 7, OURS)
    alone = amounts(KNOWN)
    assert (alone["cost"], alone["told_cost"], alone["cost_where_told"]) == (OURS, 0, 0)


def test_a_request_is_paid_once_whatever_the_number_of_its_models(store: Store) -> None:
    OwnPrices(store).set({"per_request": Decimal("0.5"), "input": Decimal(1)}, model="own-*")
    models = (Consumption("own-a", {"input_tokens": 10}), Consumption("own-b", {"input_tokens": 4}))
    assert booked(store, *models).cost == COST_UNIT // 2 + 14 * COST_UNIT // 10**6
