import itertools
from decimal import Decimal

import pytest
from support.corpus import CASES, CODINGS, MOMENT, Body, Case
from support.stores.stores import make_settings, opened

from addon.metering.meter import Meter
from addon.protocol.endpoints import endpoint_of
from store import clock
from store.ledger.pricing import Pricing
from store.ledger.usage import COLUMNS, COST_UNIT, Metered


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
    for answer in case.answers:
        assert cost(pricing, case, read(case, answer)) == case.row["cost_usd"]


def cost(pricing: Pricing, case: Case, metered: Metered) -> str | None:
    """Return the cost of all models, in USD; None if one of them has no price."""
    moment = int(MOMENT.timestamp()) * clock.SECOND
    charges = [pricing.charge("project", case.upstream, used, None, moment) for used in metered.consumptions]
    known = [charge.cost for charge in charges if charge is not None]
    if not known or len(known) < len(charges):
        return None
    return format((Decimal(sum(known)) / COST_UNIT).normalize(), "f")
