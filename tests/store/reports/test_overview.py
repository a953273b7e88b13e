"""The overview, beside the same sums made row by row in Python."""

import random
import uuid
from collections import Counter
from typing import Any

import pytest
from support.stores.ledger import NOON, open_request, refuse_request, settle_request, settle_requests
from support.stores.store_clock import StoreClock
from support.stores.stores import make_token

from store.clock import DAY, HOUR, MINUTE
from store.ledger.usage import COST_UNIT, Source
from store.reports import overview
from store.reports.overview import PERIODS, TOP, Overview, Sums, Unpriced
from store.store import Store

MIDNIGHT = NOON - 12 * HOUR
LARGEST = 9_000_000 * COST_UNIT
"""A cost of which two are beyond 64 bits."""

type Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    clock = StoreClock(monkeypatch)
    clock.set(NOON + 30 * MINUTE)
    return clock


def random_row(generator: random.Random, now: int) -> dict[str, Any]:
    token, cost = generator.randrange(1, 30), generator.randrange(10**15)
    return {
        "started_at": now - generator.choice([generator.randrange(70 * DAY), generator.randrange(3 * DAY)]),
        "token_id": str(uuid.UUID(int=token)),
        "project_id": str(uuid.UUID(int=token % 8)),
        "model": generator.choice("abcdefgh"),
        "usage_source": Source.OBSERVED,
        "input_tokens": generator.randrange(1000),
        "output_tokens": generator.randrange(1000),
        "cost": cost * generator.randrange(2),
    }


def summed(rows: Rows, refusals: Rows) -> Sums:
    tokens_in, tokens_out, cost = [sum(row[name] for row in rows) for name in ("input_tokens", "output_tokens", "cost")]
    return Sums(len(rows), tokens_in, tokens_out, cost, sum(row["repeats"] for row in refusals))


def tops(rows: Rows, key: str) -> list[tuple[str, int, int]]:
    cost, requests = Counter[str](), Counter[str]()
    for row in rows:
        cost[row[key]] += row["cost"]
        requests[row[key]] += 1
    return [(name, requests[name], most) for name, most in cost.most_common(TOP)]


def test_all_sums_are_those_of_the_rows(store: Store, clock: StoreClock) -> None:
    generator = random.Random(7)  # noqa: S311 - no secret
    rows: Rows = [*settle_requests(store, [random_row(generator, clock.now) for _ in range(600)])]
    refusals = [
        refuse_request(store, started_at=clock.now - generator.randrange(70 * DAY), repeats=generator.randrange(1, 9))
        for _ in range(60)
    ]
    reports = Overview(store)
    for days in PERIODS:
        found, start = reports.period(days), MIDNIGHT - (days - 1) * DAY
        width = HOUR if days == 1 else DAY

        def within(each: Rows, start: int, end: int) -> Rows:
            return [row for row in each if start <= row["started_at"] < end]

        now = within(rows, start, clock.now + 1)
        assert found.total == summed(now, within(refusals, start, clock.now + 1))
        assert found.width == width
        assert [*found.steps] == [*range(start, clock.now, width)]
        for step, sums in found.steps.items():
            assert sums == summed(within(rows, step, step + width), within(refusals, step, step + width))
        before = summed(within(rows, start - days * DAY, NOON - days * DAY), [])
        refused = summed([], within(refusals, start - days * DAY, clock.now - days * DAY)).refused
        assert found.before == before._replace(refused=refused)
        for listed, key in ((found.projects, "project_id"), (found.tokens, "token_id"), (found.models, "model")):
            assert [(each.id, each.requests, each.cost) for each in listed] == tops(now, key)
        assert found.as_of == clock.now


def test_without_a_request_all_is_nothing(store: Store) -> None:
    found = Overview(store).period(7)
    assert (found.total, found.before, [*found.steps.values()]) == (Sums(), Sums(), [Sums()] * 7)
    assert (found.projects, found.tokens, found.models) == ([], [], [])


def test_projects_and_tokens_have_their_names(store: Store) -> None:
    token = make_token(store, name="mine")
    settle_request(store, token_id=token.id, project_id=token.project_id, model="gpt", cost=1)
    found = Overview(store).period(1)
    assert [each.name for each in (*found.projects, *found.tokens, *found.models)] == ["Tests", "mine", None]
    assert found.models[0].id == "gpt"


def test_a_sum_may_be_beyond_64_bits(store: Store) -> None:
    settle_requests(store, [{"cost": LARGEST, "token_id": str(uuid.UUID(int=number))} for number in range(3)])
    found = Overview(store).period(1)
    assert found.total.cost == found.projects[0].cost == found.models[0].cost == 3 * LARGEST


def test_requests_that_run_are_left_out(store: Store) -> None:
    open_request(store)
    assert Overview(store).period(1).total == Sums()


def test_what_a_clock_ahead_has_written_is_shown(store: Store, clock: StoreClock) -> None:
    settle_request(store, started_at=clock.now + 2 * HOUR)
    refuse_request(store, started_at=clock.now + 3 * HOUR)
    found = Overview(store).period(1)
    assert (found.total.requests, found.total.refused, max(found.steps)) == (1, 1, NOON + 3 * HOUR)


def test_all_that_may_take_long_can_be_renewed(store: Store) -> None:
    reports = Overview(store)
    assert [value.renew() for value in reports.values] == [True] * (len(PERIODS) + 1)


def test_requests_without_a_price_are_told_by_project_and_model(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_token(store)
    own = {"project_id": token.project_id, "usage_source": Source.OBSERVED}
    settle_requests(store, [{**own, "model": "new", "cost": None}] * 3)
    settle_request(store, **own, model="old", cost=None, started_at=NOON - 40 * DAY)
    settle_request(store, **own, model="priced", cost=5)
    settle_request(store, model="<other>", cost=None, usage_source=Source.ESTIMATED)
    settle_request(store, model="unknown", cost=None)
    found = Overview(store).unpriced()
    assert found[0] == Unpriced(token.project_id, "Tests", "new", 3)
    assert [(each.model, each.project_name) for each in found[1:]] == [("<other>", None)]
    monkeypatch.setattr(overview, "MOST_UNPRICED", 1)
    assert len(Overview(store).unpriced()) == 1
