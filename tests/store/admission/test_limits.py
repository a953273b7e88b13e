"""Limits through the real admission and the real store."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from support.stores.limits import limited, used
from support.stores.stores import make_token, on_postgresql, opening, rows

from store.admission import admission as admission_module
from store.admission.admission import Admission, Item, Result
from store.admission.decision import Admitted
from store.database import Statement
from store.database.base import LockedRead
from store.database.postgresql import PostgresqlDatabase
from store.errors import GatewayError, QuotaExhausted, RateLimited, TooManyParallel
from store.ledger import instances
from store.ledger.ledger import Ledger, Outcome, Settlement
from store.limits import holds
from store.management.tokens import TokenRecord
from store.store import Store

type OutOfOrder = list[tuple[str, ...]]


@pytest.fixture
def token(store: Store) -> TokenRecord:
    return make_token(store)


async def ask(admission: Admission, token: TokenRecord, session_id: str | None = None) -> Admitted | GatewayError:
    try:
        return await admission.admit(token.value, opening()._replace(session_id=session_id))
    except GatewayError as refusal:
        return refusal


def admitted(outcomes: Sequence[Admitted | GatewayError]) -> list[Admitted]:
    return [outcome for outcome in outcomes if isinstance(outcome, Admitted)]


def test_a_window_of_the_token_and_one_of_its_project_hold_at_once(
    store: Store, token: TokenRecord, locks_out_of_order: OutOfOrder
) -> None:
    other = make_token(store, project_id=token.project_id)
    limited(store, token.id, minute=3, day=50)
    limited(store, token.project_id, hour=5)
    admission = Admission(store)

    async def run() -> tuple[list[Admitted | GatewayError], list[Admitted | GatewayError]]:
        mine = await asyncio.gather(*[ask(admission, token) for _ in range(9)])
        return mine, await asyncio.gather(*[ask(admission, other) for _ in range(9)])

    mine, others = asyncio.run(run())
    admission.close()
    assert (len(admitted(mine)), len(admitted(others))) == (3, 2)
    assert {type(outcome) for outcome in (*mine, *others)} == {Admitted, RateLimited}
    assert used(store, token.id) == {"minute": 3, "day": 3}
    assert used(store, token.project_id) == {"hour": 5}
    assert sum(row["request_count"] for row in rows(store, "token")) == len(rows(store, "request")) == 5
    assert locks_out_of_order == []


def test_a_refused_request_changes_no_counter(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, minute=1, hour=100, parallel=9)
    admission = Admission(store)

    async def run() -> None:
        await ask(admission, token)
        before = (rows(store, "balance"), rows(store, "token"), rows(store, "slot"))
        assert isinstance(await ask(admission, token), RateLimited)
        assert (rows(store, "balance"), rows(store, "token"), rows(store, "slot")) == before

    asyncio.run(run())
    admission.close()


def test_two_processes_share_the_slots_of_a_token(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, parallel=2)
    one, other = Admission(store), Admission(store)

    async def run() -> None:
        first, second = await ask(one, token), await ask(other, token)
        assert isinstance(first, Admitted)
        assert isinstance(second, Admitted)
        assert isinstance(await ask(one, token), TooManyParallel)
        other.settle(Settlement(second.opened, Outcome(status=200, duration_ms=1)))
        assert isinstance(await ask(one, token), Admitted)  # it waits for a moment

    asyncio.run(run())
    one.close()
    other.close()
    assert used(store, token.id) == {"parallel": 0}
    assert rows(store, "slot") == []


def test_a_client_that_asks_one_after_the_other_is_never_refused(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, parallel=1)
    processes = [Admission(store) for _ in range(3)]

    async def run() -> None:
        for process in itertools.islice(itertools.cycle(processes), 60):
            got = await ask(process, token)
            assert isinstance(got, Admitted), got
            process.settle(Settlement(got.opened, Outcome(status=200, duration_ms=1)))

    asyncio.run(run())
    for process in processes:
        process.close()
    assert used(store, token.id) == {"parallel": 0}


def test_what_is_only_counted_holds_no_slot(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, parallel=1)
    limited(store, token.project_id, parallel=1)
    admission = Admission(store)

    async def run() -> None:
        got = await ask(admission, token)
        assert isinstance(got, Admitted)
        admission.release(got.opened)
        assert isinstance(await ask(admission, token), Admitted)
        admission.settle(Settlement(got.opened))  # it has none to give back any more
        assert isinstance(await ask(admission, token), TooManyParallel)

    asyncio.run(run())
    assert used(store, token.id) == used(store, token.project_id) == {"parallel": 1}
    admission.close()
    assert used(store, token.id) == used(store, token.project_id) == {"parallel": 0}


def test_a_further_response_over_a_websocket_needs_no_slot(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, parallel=1, minute=9)
    admission = Admission(store)

    async def run() -> None:
        got = await ask(admission, token)
        assert isinstance(got, Admitted)
        further = await ask(admission, token, got.opened.request_id)
        assert isinstance(further, Admitted)
        assert not further.opened.has_slots
        assert [row["request_id"] for row in rows(store, "slot")] == [got.opened.request_id]
        assert [window.remaining for window in further.windows] == [7]

    asyncio.run(run())
    admission.close()


def test_slots_of_a_dead_process_come_back_with_its_requests(
    store: Store, token: TokenRecord, locks_out_of_order: OutOfOrder
) -> None:
    limited(store, token.id, parallel=3)
    dead = Admission(store)
    asyncio.run(ask(dead, token))
    asyncio.run(ask(dead, token))
    assert used(store, token.id) == {"parallel": 2}
    assert instances.settle_left(store.database, Ledger(store.database), dead.instance_id) == 2
    assert used(store, token.id) == {"parallel": 0}
    assert rows(store, "slot") == []
    assert locks_out_of_order == []
    dead.close()
    assert used(store, token.id) == {"parallel": 0}


def test_slots_of_requests_that_an_older_version_settled_are_reclaimed(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, parallel=3)
    admission = Admission(store)
    got = [asyncio.run(ask(admission, token)) for _ in range(2)]
    assert len(admitted(got)) == 2
    with store.database.write():
        first = admitted(got)[0].opened
        Ledger(store.database).settle([Settlement(first._replace(has_slots=False))])
    assert holds.reclaim(store.database) == 1
    assert holds.reclaim(store.database) == 0
    assert used(store, token.id) == {"parallel": 1}
    admission.close()
    assert used(store, token.id) == {"parallel": 0}


def test_a_slot_of_a_limit_that_was_removed_is_forgotten(store: Store, token: TokenRecord) -> None:
    limited(store, token.id, parallel=3)
    admission = Admission(store)
    asyncio.run(ask(admission, token))
    with store.database.write():
        store.database.run("DELETE FROM balance")
    admission.close()
    assert (rows(store, "balance"), rows(store, "slot")) == ([], [])


def test_an_admission_waits_for_a_slot_for_a_moment_only(
    store: Store, token: TokenRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "PATIENCE", 0.05)
    limited(store, token.id, parallel=1)
    admission = Admission(store)

    async def run() -> None:
        assert isinstance(await ask(admission, token), Admitted)
        assert isinstance(await ask(admission, token), TooManyParallel)

    asyncio.run(run())
    admission.close()
    refused = [row for row in rows(store, "refusal") if row["code"] == "too_many_parallel_requests"]
    assert [row["repeats"] for row in refused] == [1]


def test_max_requests_goes_before_windows(store: Store) -> None:
    token = make_token(store, max_requests=1)
    limited(store, token.id, minute=1)
    admission = Admission(store)

    async def run() -> None:
        assert isinstance(await ask(admission, token), Admitted)
        assert isinstance(await ask(admission, token), QuotaExhausted)

    asyncio.run(run())
    admission.close()


@on_postgresql
def test_settlements_of_any_number_are_locked_by_one_prepared_statement(
    store: Store, token: TokenRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server keeps each text that is prepared."""
    tokens = [make_token(store, project_id=token.project_id) for _ in range(7)]
    for each in tokens:
        limited(store, each.id, parallel=1)
    texts: set[str] = set()
    read_locked = PostgresqlDatabase.read_locked

    def recorded(self: PostgresqlDatabase, locks: Sequence[Statement], select: Statement) -> LockedRead:
        texts.add(locks[0].sql)
        return read_locked(self, locks, select)

    admission = Admission(store)

    async def run() -> None:
        got = admitted([await ask(admission, each) for each in tokens])
        monkeypatch.setattr(PostgresqlDatabase, "read_locked", recorded)
        for number in (1, 2, 4):
            for one in got[:number]:
                admission.settle(Settlement(one.opened, Outcome(status=200, duration_ms=1)))
            del got[:number]
            await ask(admission, token)

    asyncio.run(run())
    admission.close()
    assert len(texts) == 1


def test_few_admissions_wait_for_a_slot_and_each_tries_a_few_times(
    store: Store, token: TokenRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "MOST_WAITING", 3)
    limited(store, token.id, parallel=1)
    admission = Admission(store)
    tried: list[object] = []
    submit = admission._inbox.submit  # noqa: SLF001 - counts what is asked of the store

    async def counted(item: Item) -> Result:
        tried.append(item)
        return await submit(item)

    monkeypatch.setattr(admission._inbox, "submit", counted)  # noqa: SLF001

    async def run() -> None:
        assert isinstance(await ask(admission, token), Admitted)
        refused = await asyncio.gather(*[ask(admission, token) for _ in range(20)])
        assert {type(outcome) for outcome in refused} == {TooManyParallel}

    asyncio.run(run())
    admission.close()
    assert 20 < len(tried) <= 1 + 17 + 3 * 7
