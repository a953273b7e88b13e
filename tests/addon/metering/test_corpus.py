import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from support.corpus import CASES, CODINGS, Answer, Case
from support.stores.stores import make_settings, opened

from addon.metering.meter import Meter
from addon.protocol.endpoints import endpoint_of
from store import clock
from store.ledger.pricing import Pricing
from store.ledger.usage import COLUMNS, COST_UNIT, Metered


def read(case: Case, answer: Answer, coding: str = "", size: int = 10**6) -> Metered:
    """Meter an answer that comes in pieces of so many bytes."""
    meter = Meter("POST", endpoint_of(case.path), None)
    meter.begin_request("application/json", "")
    meter.feed_request(case.request)
    meter.begin_answer(200, answer.content_type, coding)
    for piece in itertools.batched(CODINGS[coding](answer.body), size):
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_usage_costs_what_its_provider_asks(tmp_path: Path, case: Case) -> None:
    with opened(make_settings(tmp_path)) as store:
        pricing = Pricing(store.database)
    for answer in case.answers:
        (used,) = read(case, answer).consumptions
        charge = pricing.charge("project", case.upstream, used, None, clock.now())
        assert charge is not None
        assert Decimal(charge.cost) / COST_UNIT == Decimal(case.row["cost_usd"])
