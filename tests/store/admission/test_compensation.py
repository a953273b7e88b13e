import asyncio
import threading
import time
from collections.abc import Sequence

import pytest
from support.gateway.processes import wait_until
from support.stores.limits import limit
from support.stores.stores import (
    changed,
    foreign_connection,
    foreign_lock,
    make_token,
    on_postgresql,
    opened,
    opening,
    rows,
)

from store import clock
from store.admission import compensation
from store.admission.admission import Admission
from store.admission.compensation import Compensation, take_back
from store.admission.limits import requests
from store.errors import QuotaExhausted
from store.ledger.ledger import Ledger, Settlement
from store.management.tokens import TokenRecord, Tokens
from store.request import Opened
from store.runtime.settings import Settings
from store.store import Store

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def count(store: Store, token: TokenRecord, number: int) -> list[Opened]:
    """Count requests of a token, and open their rows, as an admission does."""
    openings = [opening() for _ in range(number)]
    counted = [Opened(one.request_id, clock.now(), token.project_id, token.id, one.endpoint) for one in openings]
    with store.database.write():
        requests.count(store.database, counted, clock.now())
        Ledger(store.database).open("instance", list(zip(openings, counted, strict=True)))
    return counted


def withdraw(store: Store, withdrawn: Sequence[Opened]) -> None:
    with store.database.write(pipelined=True):
        take_back(store.database, withdrawn)


def test_counts_and_rows_are_taken_back_as_far_as_they_were_written(store: Store) -> None:
    one, other = make_token(store), make_token(store)
    kept, *withdrawn = [*count(store, one, 3), *count(store, other, 1)]
    never_written = Opened("never", 7, one.project_id, one.id, "/v1/models")
    withdraw(store, [never_written, *withdrawn])
    assert [Tokens(store).get(token.id).request_count for token in (one, other)] == [1, 0]
    assert [row["id"] for row in rows(store, "request")] == [kept.request_id]
    withdraw(store, withdrawn)
    withdraw(store, [])
    assert Tokens(store).get(one.id).request_count == 1


def test_settled_request_is_not_taken_back(store: Store) -> None:
    token = make_token(store)
    (settled,) = count(store, token, 1)
    with store.database.write():
        Ledger(store.database).settle([Settlement(settled)])
    withdraw(store, [settled])
    assert (Tokens(store).get(token.id).request_count, len(rows(store, "request"))) == (1, 1)


def test_windows_and_slots_are_given_back(store: Store) -> None:
    token = make_token(store)
    limits = {token.id: ("parallel", "requests/minute"), token.project_id: ("requests/day",)}
    with store.database.write():
        for owner, kinds in limits.items():
            for kind in kinds:
                limit(store, owner, kind, 9)
    admission = Admission(store)

    async def admit() -> Opened:
        return (await admission.admit(token.value, opening())).opened

    kept, withdrawn = asyncio.run(admit()), asyncio.run(admit())
    withdraw(store, [withdrawn])
    used = {
        one["id"]: one["used"] + sum(map(int, filter(None, one["counts"].split(",")))) for one in rows(store, "balance")
    }
    assert {*used.values()} == {1}
    assert rows(store, "slot") == [{"request_id": kept.request_id, "balance_id": f"{token.id}/parallel"}]
    admission.close()
    assert {one["used"] for one in rows(store, "balance")} == {0}
    assert rows(store, "slot") == []


def test_results_wait_for_a_moment_and_refusals_are_not_kept(store: Store) -> None:
    done: list[Sequence[int]] = []
    kept: Compensation[int] = Compensation(store.database, done.append)
    kept.add([QuotaExhausted()])
    assert (len(kept), kept.due) == (0, None)
    kept.add([1, QuotaExhausted(), 2])
    kept.run_if_due()
    assert kept.due is not None
    assert 0 < kept.due - time.monotonic() <= compensation.DELAY
    assert done == []
    kept.run()
    assert done == [[1, 2]]
    assert len(kept) == 0


def test_results_are_kept_while_the_store_is_locked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compensation, "DELAY", 0)
    with opened(changed(settings, store_timeout=5)) as store:
        token = make_token(store)
        counted = count(store, token, 2)
        kept: Compensation[Opened] = Compensation(store.database, lambda found: take_back(store.database, found))
        kept.add(counted)
        with foreign_lock(store):
            kept.run_if_due()
            assert len(kept) == 2
        kept.run_if_due()
        assert len(kept) == 0
        assert Tokens(store).get(token.id).request_count == 0


def test_a_compensation_that_fails_is_logged_and_tried_again(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    faults = [ValueError("a bug")]
    taken_back: list[int] = []

    def compensate(results: Sequence[int]) -> None:
        if faults:
            raise faults.pop()
        taken_back.extend(results)

    compensation = Compensation(store.database, compensate)
    compensation.add([1, 2])
    compensation.run()
    assert (len(compensation), taken_back) == (2, [])
    assert compensation.due is not None
    assert compensation.due > time.monotonic()
    assert "a compensation failed" in caplog.text
    compensation.run()
    assert (len(compensation), taken_back) == (0, [1, 2])


@on_postgresql
def test_request_that_is_settled_meanwhile_is_not_taken_back(store: Store) -> None:
    token = make_token(store)
    (settled,) = count(store, token, 1)
    with foreign_connection(store) as foreign, foreign_connection(store) as observer:
        foreign.execute("BEGIN")
        foreign.execute("UPDATE request SET settled_at = 1")

        def commit() -> None:
            wait_until(lambda: observer.execute(WAITING).fetchall() != [])
            foreign.execute("COMMIT")

        thread = threading.Thread(target=commit)
        thread.start()
        withdraw(store, [settled])
        thread.join()
    assert (Tokens(store).get(token.id).request_count, len(rows(store, "request"))) == (1, 1)
