"""Budgets and windows of tokens through the real admission and the real store."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from support.gateway.processes import wait_until
from support.stores.databases import Databases
from support.stores.limits import balances, differences, limit, standing
from support.stores.store_clock import StoreClock
from support.stores.stores import foreign_connection, make_token, on_postgresql, opening, rows, set_columns

from store import clock
from store.admission import refusals, write_behind
from store.admission.admission import Admission, AdmissionWork
from store.admission.compensation import take_back
from store.admission.decision import Admitted, Extended
from store.admission.refusals import Tally
from store.errors import (
    CostNotBounded,
    GatewayError,
    ModelNotPriced,
    QuotaExhausted,
    RateLimited,
    StoreUnavailable,
)
from store.ledger import instances
from store.ledger.ledger import Ledger, Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source, Told
from store.limits import holds
from store.limits.rate_limits import BudgetLimit
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.request import NOTHING, Amounts, Demand, Holder, Opened, Opening, Reading, Refused
from store.store import Store

MICRO = 1_000_000
"""COST_UNITs of a token of input; one of output costs twice as much."""

SENT = Outcome(status=200, duration_ms=1)
FAILED = Outcome(status=500, duration_ms=1, may_cost=False)
UNREAD = Reading(("priced",), demand=Demand(output_tokens=None))


def usd(micros: int) -> str:
    """Return so many millionths of a dollar as a budget names them."""
    return f"{micros / 10**6:.6f}"


def total(micros: int) -> list[BudgetLimit]:
    return [{"usd": usd(micros), "per": "total"}]


@pytest.fixture(autouse=True)
def _written_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "FLUSH_DELAY", 0)


@pytest.fixture
def token(store: Store) -> TokenRecord:
    OwnPrices(store).set({"input": Decimal(1), "output": Decimal(2)}, model="priced")
    return make_token(store)


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()
    assert differences(store) == []


def asks(tokens: int = 0, output: int | None = 0, model: str = "priced", **demand: Any) -> Opening:
    """Describe a request that may use so many tokens."""
    reading = Reading((model,), demand=Demand(input_tokens=tokens, output_tokens=output, **demand))
    return opening()._replace(reading=reading)


def used(tokens: int, output: int = 0, model: str = "priced") -> Metered:
    units = {"input_tokens": tokens, "output_tokens": output}
    return Metered(Source.OBSERVED, (Consumption(model, units),), model, model)


def update(store: Store, owner: str, **changes: Any) -> None:
    """Change a token, or a project."""
    managed: Any = Tokens(store) if rows_of(store, "token", owner) else Projects(store)
    managed.update(owner, changes)


def rows_of(store: Store, table: str, row_id: str) -> list[Any]:
    with store.database.read():
        return store.database.execute(f"SELECT id FROM {table} WHERE id = ?", (row_id,))  # noqa: S608 - a table's name


async def ask(admission: Admission, token: TokenRecord, asked: Opening) -> Admitted | GatewayError:
    try:
        return await admission.admit(token.value, asked)
    except GatewayError as refusal:
        return refusal


def admit(admission: Admission, token: TokenRecord, asked: Opening) -> Opened:
    outcome = asyncio.run(ask(admission, token, asked))
    assert isinstance(outcome, Admitted), outcome
    return outcome.opened


def refused(admission: Admission, token: TokenRecord, asked: Opening) -> GatewayError:
    outcome = asyncio.run(ask(admission, token, asked))
    assert isinstance(outcome, GatewayError), outcome
    return outcome


def settle(admission: Admission, opened: Opened, outcome: Outcome = SENT, metered: Metered | None = None) -> None:
    async def run() -> None:
        admission.settle(Settlement(opened, outcome, metered or Metered()))
        await admission.check()

    asyncio.run(run())


def test_of_fifty_at_once_on_a_budget_for_ten_ten_are_admitted(store: Store, token: TokenRecord) -> None:
    Projects(store).update(token.project_id, {"budgets": total(10 * 7)})
    processes = [Admission(store) for _ in range(3)]

    async def run() -> list[Admitted | GatewayError]:
        return await asyncio.gather(*[ask(processes[place % 3], token, asks(3, 2)) for place in range(50)])

    outcomes = asyncio.run(run())
    assert len([outcome for outcome in outcomes if isinstance(outcome, Admitted)]) == 10
    assert {type(outcome) for outcome in outcomes} == {Admitted, RateLimited}
    assert standing(store, token.project_id, "usd/total") == (0, 70 * MICRO)
    for process in processes:
        process.close()
    assert standing(store, token.project_id, "usd/total") == (70 * MICRO, 0)  # it is not known how they ended
    assert differences(store) == []


def test_a_busy_budget_passes_with_time_and_a_spent_one_does_not(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    month: list[BudgetLimit] = [{"usd": usd(20), "per": "month"}]
    Tokens(store).update(token.id, {"budgets": month})
    first = admit(admission, token, asks(11, 2))
    busy = refused(admission, token, asks(11, 0))
    assert isinstance(busy, RateLimited)
    assert busy.headers == {"retry-after-ms": "1000", "Retry-After": "1"}
    assert "$0.00002 a month: $0 are spent, $0.000015 are reserved" in str(busy)
    settle(admission, first, metered=used(12, 0))
    spent = refused(admission, token, asks(9, 0))
    assert isinstance(spent, QuotaExhausted)
    assert spent.headers["x-should-retry"] == "false"
    assert 0 < int(spent.headers["Retry-After"]) <= 31 * 24 * 3600
    assert "$0.000012 are spent, and this request may cost $0.000009." in str(spent)
    admit(admission, token, asks(8, 0))
    assert "reserved" in str(refused(admission, token, asks(1, 0)))


def test_a_spent_total_budget_names_no_time(store: Store, token: TokenRecord, admission: Admission) -> None:
    Tokens(store).update(token.id, {"budgets": total(5)})
    spent = refused(admission, token, asks(6))
    assert isinstance(spent, QuotaExhausted)
    assert spent.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("outcome", "metered", "expected"),
    [
        (SENT, used(4, 1), (6, 0, 5)),
        (SENT, used(40, 10), (60, 0, 50)),
        (SENT, Metered(Source.ESTIMATED, used(2, 1).consumptions, "priced", "priced"), (4, 0, 3)),
        (SENT, Metered(), (None, 14, 12)),
        (SENT, used(4, 1, "another"), (None, 14, 5)),
        (FAILED, Metered(), (None, 0, 0)),
        (SENT._replace(status=504), Metered(), (None, 14, 12)),
        (SENT._replace(status=400), used(3, 0), (3, 0, 3)),
        (SENT._replace(status=None), Metered(), (None, 14, 12)),
        (SENT._replace(status=None, may_cost=False), Metered(), (None, 0, 0)),
        (Outcome(), Metered(), (None, 14, 12)),
    ],
)
def test_what_a_request_counts(
    store: Store, token: TokenRecord, outcome: Outcome, metered: Metered, expected: tuple[int | None, int, int]
) -> None:
    cost, beyond, tokens = expected
    limits: Any = {"budgets": total(100), "rate_limits": [{"tokens": 100, "per": "day"}]}
    Tokens(store).update(token.id, limits)
    Projects(store).update(token.project_id, limits)
    admission = Admission(store)
    opened = admit(admission, token, asks(10, 2))
    assert opened.reserved == Amounts(12, 14 * MICRO)
    assert standing(store, token.id, "usd/total") == (0, 14 * MICRO)
    assert standing(store, token.id, "tokens/day") == (0, 12)
    settle(admission, opened, outcome, metered)
    admission.close()
    (row,) = rows(store, "request")
    assert row["cost"] == (None if cost is None else cost * MICRO)
    assert (row["budget_beyond"] or 0) == beyond * MICRO
    for owner in (token.id, token.project_id):
        assert standing(store, owner, "usd/total") == (((cost or 0) + beyond) * MICRO, 0)
        assert standing(store, owner, "tokens/day") == (tokens, 0)
    assert differences(store) == []


def test_what_reserves_nothing_and_costs_something_is_counted(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(5)})
    opened = admit(admission, token, opening()._replace(reading=NOTHING))
    assert opened.reserved == Amounts()
    settle(admission, opened, metered=used(4))
    assert standing(store, token.id, "usd/total") == (4 * MICRO, 0)


def test_a_request_without_a_bound_does_not_pass_a_spent_budget(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    OwnPrices(store).set({"output": Decimal(2)}, model="free input")
    Tokens(store).update(token.id, {"budgets": total(5)})
    settle(admission, admit(admission, token, asks(0, None, "free input")), metered=used(0, 2))
    assert standing(store, token.id, "usd/total") == (4 * MICRO, 0)
    assert isinstance(refused(admission, token, asks(0, None, "free input")), QuotaExhausted)


def test_a_request_without_a_bound_reserves_what_is_left(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(10**6)})
    assert admit(admission, token, asks(1, None)).reserved == Amounts(4097, 8193 * MICRO)
    assert admit(admission, token, asks(1, None, choices=3)).reserved == Amounts(12289, 24577 * MICRO)
    Projects(store).update(token.project_id, {"rate_limits": [{"tokens": 500, "per": "day"}]})
    assert admit(admission, token, asks(100, None)).reserved == Amounts(500, 900 * MICRO)


def test_a_window_of_tokens_never_holds_more_than_its_limit(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"rate_limits": [{"tokens": 20, "per": "hour"}]})
    first = admit(admission, token, asks(5, 7))
    held = refused(admission, token, asks(9))
    assert isinstance(held, RateLimited)
    assert held.headers["retry-after-ms"] == "1000"
    assert "0 are used, 12 are reserved for running requests" in str(held)
    settle(admission, first, metered=used(5, 1))
    admit(admission, token, asks(14))
    over = refused(admission, token, asks(21))
    assert isinstance(over, RateLimited)
    assert over.headers == {"x-should-retry": "false"}
    assert "max_tokens" in str(over)
    wait = refused(admission, token, asks(20))
    assert 59 * 60 * 1000 < int(wait.headers["retry-after-ms"]) <= 61 * 60 * 1000


def test_a_window_counts_what_was_settled_beyond_a_reservation(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"rate_limits": [{"tokens": 20, "per": "hour"}]})
    settle(admission, admit(admission, token, asks(5, 1)), metered=used(5, 30))
    assert standing(store, token.id, "tokens/hour") == (35, 0)
    assert isinstance(refused(admission, token, asks(1)), RateLimited)


def test_limits_refuse_in_their_order(store: Store, token: TokenRecord, admission: Admission) -> None:
    """All would refuse; they are removed one by one."""
    exhausted: Any = {
        "rate_limits": [{"requests": 1, "per": "minute"}, {"tokens": 1, "per": "day"}],
        "max_parallel_requests": 1,
    }
    budgets: Sequence[BudgetLimit] = [{"usd": usd(1), "per": per} for per in ("day", "week", "month", "total")]
    update(store, token.id, **exhausted, max_requests=1)
    update(store, token.project_id, **exhausted)
    admit(admission, token, opening()._replace(reading=NOTHING))
    Tokens(store).update(token.id, {"budgets": budgets})
    Projects(store).update(token.project_id, {"budgets": budgets})
    asked = asks(2)
    assert isinstance(refused(admission, token, asks(2, model="unknown")), ModelNotPriced)
    assert str(refused(admission, token, asked)) == str(QuotaExhausted())
    Tokens(store).update(token.id, {"max_requests": 0})
    for per in ("in all", "a month", "a week", "a day"):
        for owner in (token.id, token.project_id):
            name = "token" if owner == token.id else "project"
            assert f"The {name} may spend $0.000001 {per}" in str(refused(admission, token, asked))
            kept = [each for each in budgets if each["per"] != {"in all": "total"}.get(per, per.removeprefix("a "))]
            update(store, owner, budgets=kept)
        budgets = kept
    for unit in ("1 request a minute", "1 tokens a day"):
        for name in ("token", "project"):
            assert f"The {name} may" in (told := str(refused(admission, token, asked)))
            assert unit in told
            owner = token.id if name == "token" else token.project_id
            left = [{"tokens": 1, "per": "day"}] if "request" in unit else None
            update(store, owner, rate_limits=left)
    assert "at once" in str(refused(admission, token, asked))


def test_what_cannot_be_bounded_is_refused_unless_its_endpoint_is_written_out(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    unbounded = asks(2, unbounded="Batches run later.")
    Tokens(store).update(token.id, {"rate_limits": [{"tokens": 9, "per": "day"}]})
    admit(admission, token, unbounded)  # only a budget needs a price
    Tokens(store).update(token.id, {"budgets": total(10), "rate_limits": None})
    refusal = refused(admission, token, unbounded._replace(request_id=opening().request_id))
    assert isinstance(refusal, CostNotBounded)
    assert "Batches run later. An operator can allow it by an entry of 'allowed_endpoints'" in str(refusal)
    Tokens(store).update(token.id, {"allowed_endpoints": ["POST /v1/chat/completions"]})
    opened = admit(admission, token, unbounded._replace(request_id=opening().request_id))
    assert opened.reserved.usd == 2 * MICRO


def test_a_running_request_counts_in_a_budget_that_is_set_meanwhile(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    before, running = (admit(admission, token, asks(3, 1)) for _ in range(2))
    settle(admission, before, metered=used(3, 1))
    for owner in (token.id, token.project_id):
        update(store, owner, budgets=[*total(100), {"usd": "1", "per": "day"}])
    assert standing(store, token.id, "usd/total") == (5 * MICRO, 0)
    settle(admission, running, metered=used(7))
    for owner in (token.id, token.project_id):
        assert standing(store, owner, "usd/total") == standing(store, owner, "usd/day") == (12 * MICRO, 0)


def test_a_budget_that_is_removed_and_set_again_counts_each_request_once(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(100)})
    one, other = (admit(admission, token, asks(3, 1)) for _ in range(2))
    Tokens(store).update(token.id, {"budgets": None})
    settle(admission, one, metered=used(3, 1))
    Tokens(store).update(token.id, {"budgets": total(50)})
    assert standing(store, token.id, "usd/total") == (5 * MICRO, 0)
    settle(admission, other, metered=used(2))
    assert standing(store, token.id, "usd/total") == (7 * MICRO, 0)


def test_raising_and_lowering_keeps_what_was_counted(store: Store, token: TokenRecord, admission: Admission) -> None:
    Tokens(store).update(token.id, {"budgets": total(10)})
    opened = admit(admission, token, asks(8))
    for maximum, fits in ((5, False), (20, True), (16, False)):
        (shown,) = Tokens(store).update(token.id, {"budgets": total(maximum)}).limits
        assert (shown.limit, shown.used, shown.reserved) == (maximum * MICRO, 0, 8 * MICRO)
        outcome = asyncio.run(ask(admission, token, asks(9)))
        assert isinstance(outcome, Admitted) is fits
        if isinstance(outcome, Admitted):
            settle(admission, outcome.opened, FAILED)
    settle(admission, opened, metered=used(8))
    assert standing(store, token.id, "usd/total") == (8 * MICRO, 0)


def test_a_request_that_grows_takes_what_is_left_at_most(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(20)})
    opened = admit(admission, token, asks(2, 2))
    grown = asyncio.run(admission.grow(opened, Amounts(3, 6 * MICRO)))
    assert (grown.is_full, grown.opened.reserved) == (False, Amounts(7, 12 * MICRO))
    full = asyncio.run(admission.grow(grown.opened, Amounts(5, 10 * MICRO)))
    assert full.is_full
    assert standing(store, token.id, "usd/total") == (0, 20 * MICRO)
    assert isinstance(refused(admission, token, asks(1)), RateLimited)
    settle(admission, full.opened, metered=used(2, 7))
    assert standing(store, token.id, "usd/total") == (16 * MICRO, 0)


def test_several_growths_of_a_request_go_into_one_transaction(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(100)})
    opened = admit(admission, token, asks(2, 2))

    async def run() -> None:
        await asyncio.gather(*[admission.grow(opened, Amounts(1, 2 * MICRO)) for _ in range(5)])

    asyncio.run(run())
    assert standing(store, token.id, "usd/total") == (0, 16 * MICRO)
    settle(admission, opened, metered=used(2))


def test_a_further_use_of_an_open_row_is_reserved_or_refused(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(10)})
    opened = admit(admission, token, opening()._replace(reading=NOTHING))
    extended = asyncio.run(admission.extend(opened, asks(4, 1)))
    assert extended.opened.reserved == Amounts(5, 6 * MICRO)
    with pytest.raises(RateLimited):
        asyncio.run(admission.extend(extended.opened, asks(5)))
    assert standing(store, token.id, "usd/total") == (0, 6 * MICRO)
    settle(admission, extended.opened, metered=used(4))
    late = asyncio.run(admission.extend(extended.opened, asks(1)))
    assert late.opened == extended.opened  # the row is settled
    assert standing(store, token.id, "usd/total") == (4 * MICRO, 0)


def test_a_limit_that_is_set_while_a_request_runs_holds_nothing_for_it(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    tokens = Tokens(store)
    tokens.update(token.id, {"budgets": total(10)})
    opened = admit(admission, token, asks(2))
    tokens.update(token.id, {"budgets": []})
    other = admit(admission, token, asks(3))
    tokens.update(token.id, {"budgets": total(10)})
    assert standing(store, token.id, "usd/total") == (0, 0)
    assert asyncio.run(admission.grow(opened, Amounts(1, MICRO))) == Extended(opened)
    assert asyncio.run(admission.extend(opened, asks(1))) == Extended(opened, is_past=True)
    admit(admission, token, asks(4))
    for each in (opened, other):
        settle(admission, each, metered=used(1))
    assert standing(store, token.id, "usd/total") == (2 * MICRO, 4 * MICRO)
    assert differences(store) == []


def test_what_is_held_for_rows_that_an_older_version_settled_is_corrected(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(10), "rate_limits": [{"tokens": 50, "per": "day"}]})
    left, running = (admit(admission, token, asks(number)) for number in (2, 3))
    assert holds.recount(store.database) == 0
    set_columns(store, "request", left.request_id, settled_at=left.started_at)
    assert holds.recount(store.database) == 1
    assert standing(store, token.id, "usd/total") == (0, 3 * MICRO)
    assert standing(store, token.id, "tokens/day") == (0, 3)
    settle(admission, running, metered=used(3))
    assert holds.recount(store.database) == 0


def test_a_row_of_a_former_period_is_used_no_more(
    store: Store, token: TokenRecord, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_clock = StoreClock(monkeypatch)
    store_clock.set(clock.from_rfc3339("2027-01-30T23:59:59Z"))
    set_columns(store, "token", token.id, expires_at=clock.NEVER)
    Tokens(store).update(token.id, {"budgets": [{"usd": "5", "per": "day"}]})
    opened = admit(admission, token, opening()._replace(reading=NOTHING))
    assert not asyncio.run(admission.extend(opened, asks(1))).is_past
    store_clock.set(clock.from_rfc3339("2027-01-31T00:00:00Z"))
    assert asyncio.run(admission.extend(opened, asks(1))) == Extended(opened, is_past=True)
    assert standing(store, token.id, "usd/day") == (0, 0)


def test_a_dead_process_counts_what_was_reserved_and_is_corrected(store: Store, token: TokenRecord) -> None:
    Tokens(store).update(token.id, {"budgets": total(100), "rate_limits": [{"tokens": 50, "per": "day"}]})
    paused = Admission(store)
    one, other = (admit(paused, token, asks(5, 5)) for _ in range(2))
    assert instances.settle_left(store.database, Ledger(store.database), paused.instance_id) == 2
    assert standing(store, token.id, "usd/total") == (30 * MICRO, 0)
    assert standing(store, token.id, "tokens/day") == (20, 0)
    assert differences(store) == []
    settle(paused, one, metered=used(4))
    settle(paused, other, FAILED)
    assert standing(store, token.id, "usd/total") == (4 * MICRO, 0)
    assert standing(store, token.id, "tokens/day") == (4, 0)
    assert [row["budget_beyond"] for row in rows(store, "request")] == [None, None]
    assert {row["budget_beyond"] for row in (*rows(store, "daily_usage"), *rows(store, "hourly_usage"))} == {0}
    paused.close()
    assert differences(store) == []


def test_a_correction_counts_in_a_budget_that_was_set_after_the_death(store: Store, token: TokenRecord) -> None:
    paused = Admission(store)
    opened = admit(paused, token, asks(5, 5))
    instances.settle_left(store.database, Ledger(store.database), paused.instance_id)
    Tokens(store).update(token.id, {"budgets": total(100)})
    settle(paused, opened, metered=used(9))
    paused.close()
    assert standing(store, token.id, "usd/total") == (9 * MICRO, 0)
    assert differences(store) == []


def test_what_the_others_knew_less_of_is_corrected_exactly(store: Store, token: TokenRecord) -> None:
    """The budget of the reservation is gone when the others settle, and set again before the correction."""
    Tokens(store).update(token.id, {"budgets": total(100)})
    paused = Admission(store)
    opened = admit(paused, token, asks(5, 5))
    Tokens(store).update(token.id, {"budgets": None})
    instances.settle_left(store.database, Ledger(store.database), paused.instance_id)
    Tokens(store).update(token.id, {"budgets": total(100)})
    settle(paused, opened, metered=used(9))
    paused.close()
    assert standing(store, token.id, "usd/total") == (9 * MICRO, 0)
    assert differences(store) == []


@pytest.mark.parametrize(("model", "expected"), [("priced", (21, 11)), ("another", (14, 11))])
def test_late_usage_replaces_what_was_reserved(
    store: Store, token: TokenRecord, admission: Admission, model: str, expected: tuple[int, int]
) -> None:
    Tokens(store).update(token.id, {"budgets": total(100), "rate_limits": [{"tokens": 50, "per": "day"}]})
    opened = admit(admission, token, asks(10, 2))
    settle(admission, opened, metered=Metered(model_asked=None, pending_id="resp_1"))
    assert standing(store, token.id, "usd/total") == (14 * MICRO, 0)
    assert standing(store, token.id, "tokens/day") == (12, 0)
    told = Told("resp_1", used(1, 10, model).consumptions, model)
    teller = admit(admission, token, opening()._replace(reading=NOTHING))
    settle(admission, teller, metered=Metered(told=(told,)))
    micros, _ = expected
    assert standing(store, token.id, "usd/total") == (micros * MICRO, 0)


def test_a_request_that_is_taken_back_gives_back_what_it_reserved(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    Tokens(store).update(token.id, {"budgets": total(100), "rate_limits": [{"tokens": 50, "per": "day"}]})
    opened = admit(admission, token, asks(10, 2))
    with store.database.write(pipelined=True):
        take_back(store.database, [opened])
    assert standing(store, token.id, "usd/total") == (0, 0)
    assert standing(store, token.id, "tokens/day") == (0, 0)
    assert (rows(store, "slot"), rows(store, "request")) == ([], [])


def test_a_project_that_is_deleted_takes_its_budgets_along(
    store: Store, token: TokenRecord, admission: Admission
) -> None:
    other = make_token(store, project_id=token.project_id, budgets=total(50))
    Projects(store).update(token.project_id, {"budgets": total(100)})
    opened = [admit(admission, each, asks(3)) for each in (token, other)]
    Projects(store).delete(token.project_id)
    assert (rows(store, "balance"), rows(store, "slot")) == ([], [])
    for each in opened:
        settle(admission, each, metered=used(3))
    assert [row["cost"] for row in rows(store, "request")] == [3 * MICRO, 3 * MICRO]


def test_a_revoked_token_settles_what_runs(store: Store, token: TokenRecord, admission: Admission) -> None:
    Tokens(store).update(token.id, {"budgets": total(50)})
    opened = admit(admission, token, asks(3))
    Tokens(store).revoke(token.id)
    grown = asyncio.run(admission.grow(opened, Amounts(1, 2 * MICRO)))
    settle(admission, grown.opened, metered=used(4))
    assert standing(store, token.id, "usd/total") == (4 * MICRO, 0)


def test_settlements_beside_an_unknown_token_count_at_their_time(store: Store, token: TokenRecord) -> None:
    """A batch that names no token that exists has no time of its own."""
    admission = Admission(store)
    opened = admit(admission, token, asks(3))
    now = clock.now()
    with store.database.write():
        limit(store, token.id, "tokens/second", 100)
        store.database.run("UPDATE balance SET newest = newest - 600")
    with store.database.write():
        store.database.run("UPDATE request SET is_limited = TRUE")

    async def run() -> None:
        admission.settle(Settlement(opened, SENT, used(3)))
        with contextlib.suppress(GatewayError):
            await admission.admit("00000000-0000-4000-8000-000000000000", opening())

    asyncio.run(run())
    admission.close()
    (row,) = rows(store, "balance")
    assert row["newest"] >= now * 60 // clock.SECOND
    assert row["counts"].endswith(",3")


def test_what_a_failed_transaction_counted_is_not_counted_by_the_next(
    store: Store, token: TokenRecord, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal cannot be written beside a settlement: both are written again later, after other requests."""
    Tokens(store).update(token.id, {"budgets": total(100)})
    opened = admit(admission, token, asks(3))
    first = Refused(asks(3), Holder(token.id, None, token.project_id, "Tests"), clock.now())
    refusal = Tally(first, 429, "rate_limit_exceeded")
    work = AdmissionWork(store, Ledger(store.database), admission.instance_id)

    def fail(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(refusals, "write", fail)
    with contextlib.suppress(StoreUnavailable), store.database.write():
        work.record([Settlement(opened, SENT, used(3)), refusal])
    with store.database.write():
        work.finish()
    assert standing(store, token.id, "usd/total") == (0, 3 * MICRO)
    settle(admission, opened, metered=used(3))
    assert standing(store, token.id, "usd/total") == (3 * MICRO, 0)


@on_postgresql
def test_a_budget_waits_for_what_is_being_settled(store: Store, token: TokenRecord, admission: Admission) -> None:
    """A transaction that saw no budget yet has settled a row, and has still to commit."""
    settle(admission, admit(admission, token, asks(3)), metered=used(3))
    with foreign_connection(store) as foreign, foreign_connection(store) as observer, ThreadPoolExecutor(1) as pool:
        foreign.execute("BEGIN")
        for table in ("request", "daily_usage", "hourly_usage"):
            foreign.execute(f"UPDATE {table} SET cost = cost + 4000000")  # noqa: S608 - a table's name
        change = pool.submit(set_and_close, store, token)
        wait_until(lambda: observer.execute("SELECT used FROM balance").fetchall() == [(3 * MICRO,)])
        assert not change.done()
        foreign.execute("COMMIT")
        change.result()
    assert standing(store, token.id, "usd/total") == (7 * MICRO, 0)


def set_and_close(store: Store, token: TokenRecord) -> None:
    Tokens(store).update(token.id, {"budgets": total(10)})
    store.database.close()


@on_postgresql
def test_a_budget_does_not_wait_for_other_databases(store: Store, token: TokenRecord, databases: Databases) -> None:
    """One that is a copy of this one has tables with the same OIDs."""
    with databases.one() as url, psycopg.connect(url) as other:
        other.execute("LOCK TABLE request, balance, token IN ROW EXCLUSIVE MODE")
        Tokens(store).update(token.id, {"budgets": total(10)})
        other.rollback()


class Busy:
    """Some processes that admit and settle at random, one of which is believed dead, while limits are changed."""

    def __init__(self, store: Store, tokens: Sequence[TokenRecord], seed: int) -> None:
        self._store = store
        self._tokens = tokens
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._stopped = threading.Event()
        self.exceeded: list[tuple[str, int, int]] = []

    def run(self, requests: int) -> None:
        admissions = [Admission(self._store, 3) for _ in range(3)]
        with ThreadPoolExecutor(len(admissions) + 3) as pool:
            serving = [pool.submit(self._serve, one, requests, number) for number, one in enumerate(admissions)]
            others = [
                pool.submit(self._repeat, self._change_project, 7),
                pool.submit(self._repeat, self._change_token, 8),
                pool.submit(self._repeat, lambda _: self._bury(admissions[0]), 9),
            ]
            for future in serving:
                future.result()
            self._stopped.set()
            for future in others:
                future.result()
        for one in admissions:
            one.close()

    def _serve(self, admission: Admission, requests: int, number: int) -> None:
        chance = random.Random(number + self._random.randrange(1000))  # noqa: S311 - no secret
        asyncio.run(self._serve_all(admission, requests, chance))
        self._store.database.close()

    async def _serve_all(self, admission: Admission, requests: int, chance: random.Random) -> None:
        running = [self._serve_some(admission, requests // 8, random.Random(chance.random())) for _ in range(8)]  # noqa: S311
        await asyncio.gather(*running)

    async def _serve_some(self, admission: Admission, requests: int, chance: random.Random) -> None:
        for _ in range(requests):
            outcome = await ask(
                admission, chance.choice(self._tokens), asks(chance.randrange(6), chance.choice([None, 2]))
            )
            if not isinstance(outcome, Admitted):
                continue
            opened = outcome.opened
            if chance.random() < 0.3:
                opened = (await admission.grow(opened, Amounts(2, 4 * MICRO))).opened
            await asyncio.sleep(chance.random() * 0.01)
            ends = [
                (SENT, used(chance.randrange(9), 1)),
                (SENT, Metered()),
                (FAILED, Metered()),
            ]
            admission.settle(Settlement(opened, *chance.choice(ends)))

    def _repeat(self, change: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret
        while not self._stopped.wait(chance.random() * 0.02):
            change(chance)
        self._store.database.close()

    def _change_project(self, chance: random.Random) -> None:
        some = chance.choice([None, total(200), total(100_000), [*total(10**5), {"usd": "0.1", "per": "day"}]])
        update(self._store, self._tokens[0].project_id, budgets=some)

    def _change_token(self, chance: random.Random) -> None:
        changes: Any = {"budgets": chance.choice([None, total(500), total(10**5)])}
        if chance.random() < 0.5:
            changes["rate_limits"] = chance.choice([None, [{"tokens": 10**5, "per": "day"}]])
        Tokens(self._store).update(self._tokens[0].id, changes)

    def _bury(self, admission: Admission) -> None:
        instances.settle_left(self._store.database, Ledger(self._store.database), admission.instance_id)


@pytest.mark.parametrize("seed", range(2))
def test_concurrent_changes_count_each_request_once(store: Store, token: TokenRecord, seed: int) -> None:
    tokens = [token, make_token(store, project_id=token.project_id)]
    Busy(store, tokens, seed).run(160)
    assert rows(store, "request") != []
    assert differences(store) == []
    assert {one.state.reserved for one in balances(store, token.id).values() if one.state is not None} <= {0}
    assert rows(store, "slot") == []


@on_postgresql
@pytest.mark.soak("store/admission", "store/limits", "store/ledger", "store/management")
@pytest.mark.timeout(3600)
def test_many_concurrent_changes_count_each_request_once(store: Store, token: TokenRecord) -> None:
    tokens = [token, make_token(store, project_id=token.project_id)]
    for seed in range(100):
        Busy(store, tokens, seed).run(400)
        assert differences(store) == [], seed
