import itertools
from decimal import Decimal

import pytest
from support.corpus import CASES, CODINGS, MOMENT, Body, Case
from support.stores.stores import make_settings, opened

from addon.metering.meter import Meter
from addon.protocol.endpoints import endpoint_of
from store import clock
from store.ledger.booking import book
from store.ledger.pricing import Pricing
from store.ledger.usage import COLUMNS, COST_UNIT, Metered
from store.request import Opened


def read(case: Case, answer: Body, coding: str = "", size: int = 10**6) -> Metered:
    """Meter an answer that comes in pieces of so many bytes."""
    meter = Meter("POST", endpoint_of(case.path), None)
    meter.begin_request(case.request.content_type, "")
    meter.feed_request(case.request.content)
    meter.begin_answer(200, answer.content_type, coding)
    for piece in itertools.batched(CODINGS[coding](answer.content), size):
        meter.feed_answer(bytes(piece))
    meter.end_answer()
    return meter.read()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_usage_is_read_in_all_codings_and_pieces(case: Case, coding: str) -> None:
    for answer, size in itertools.product(case.answers, [*range(1, 10), 10**6]):
        metered = read(case, answer, coding, size)
        found: dict[str, object] = {"model": metered.model, "usage_source": str(metered.source)}
        found |= {column: metered.units.get(unit) for column, unit in COLUMNS.items()}
        assert {name: found[name] for name in case.usage} == case.usage


@pytest.fixture(scope="module")
def pricing(tmp_path_factory: pytest.TempPathFactory) -> Pricing:
    with opened(make_settings(tmp_path_factory.mktemp("prices"))) as store:
        return Pricing(store.database)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_usage_costs_what_its_provider_asks(pricing: Pricing, case: Case) -> None:
    opened = Opened("request", int(MOMENT.timestamp()) * clock.SECOND, "project", "token", endpoint_of(case.path))
    for answer in case.answers:
        booked = book(pricing, opened, case.upstream, 200, read(case, answer))
        found = {
            "cost_usd": in_dollars(booked.cost),
            "told_cost_usd": in_dollars(booked.told_cost),
            "cost_is_minimum": bool(booked.is_minimum),
        }
        assert found == {"told_cost_usd": None, "cost_is_minimum": False, **case.cost}


def in_dollars(cost: int | None) -> str | None:
    return None if cost is None else format((Decimal(cost) / COST_UNIT).normalize(), "f")
