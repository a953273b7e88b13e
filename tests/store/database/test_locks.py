"""Changes of the same rows at the same time, on PostgreSQL, where transactions run side by side."""

import asyncio
import functools
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from support.gateway.processes import wait_until
from support.stores.ledger import INSTANCE_ID, NOON, PROJECT_ID, TOKEN_ID, open_request, settle_request
from support.stores.stores import (
    API_KEY,
    make_many_tokens,
    make_token,
    on_postgresql,
    opening,
    rows,
    set_columns,
)

from store import clock
from store.admission.admission import Admission, AdmissionWork
from store.admission.decision import Claim, Probe, TokenName
from store.database.postgresql import PostgresqlDatabase
from store.errors import NotFound, ProjectInactive
from store.ledger import instances, retention
from store.ledger.ledger import Ledger, Settlement
from store.management import bulk
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.request import Opened
from store.store import Store

pytestmark = on_postgresql

RATES = {"input": Decimal(1)}
WAITING = "SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def connect(store: Store) -> psycopg.Connection[Any]:
    """Connect without the program; each statement is a transaction, unless one is begun."""
    assert isinstance(store.database, PostgresqlDatabase)
    return psycopg.connect(store.database.url, autocommit=True)


def concurrently[Result](store: Store, statement: str, change: Callable[[], Result], then: str = "SELECT 1") -> Result:
    """Make a change that waits for the statement of another transaction; return its result.

    While it waits another statement has to succeed.
    """

    def make() -> Result:
        try:
            return change()
        finally:
            store.database.close()

    with connect(store) as other, connect(store) as observer, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute(statement.encode())
        made = pool.submit(make)
        wait_until(lambda: bool(observer.execute(WAITING.encode()).fetchall()[0][0]))
        try:
            observer.execute(then.encode())
        finally:
            other.execute("COMMIT")
        return made.result()


def test_no_token_is_made_for_a_project_that_is_being_deleted(store: Store) -> None:
    project = Projects(store).create("One", API_KEY)
    with pytest.raises(NotFound):
        concurrently(store, "DELETE FROM project", lambda: Tokens(store).create(project.id))
    assert rows(store, "token") == []


def test_no_token_is_made_for_a_project_that_is_being_switched_off(store: Store) -> None:
    project = Projects(store).create("One", API_KEY)
    with pytest.raises(ProjectInactive):
        concurrently(store, "UPDATE project SET is_active = FALSE", lambda: Tokens(store).create(project.id))
    assert rows(store, "token") == []


def test_no_price_is_set_for_a_project_that_is_being_deleted(store: Store) -> None:
    project = Projects(store).create("One", API_KEY)
    with pytest.raises(NotFound):
        concurrently(store, "DELETE FROM project", lambda: OwnPrices(store).set(RATES, project_id=project.id))
    assert rows(store, "price") == []


def test_a_second_delete_of_a_project_at_the_same_time_raises_not_found(store: Store) -> None:
    token = make_token(store)
    with pytest.raises(NotFound):
        concurrently(store, "DELETE FROM project", lambda: Projects(store).delete(token.project_id))


def test_a_name_that_changes_before_the_delete_is_the_one_kept(store: Store) -> None:
    project = Projects(store).create("One", API_KEY)
    concurrently(store, "UPDATE project SET name = 'Two'", lambda: Projects(store).delete(project.id))
    assert [row["name"] for row in rows(store, "former_project")] == ["Two"]


def test_no_two_prices_have_the_same_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: 1)

    def set_some(first: int) -> list[int]:
        prices = [{"input": Decimal(first + number)} for number in range(10)]  # the same again would change nothing
        try:
            return [OwnPrices(store).set(rates, model="one").updated_at for rates in prices]
        finally:
            store.database.close()

    with ThreadPoolExecutor(4) as pool:
        times = [*itertools.chain(*pool.map(set_some, range(1, 41, 10)))]
    assert len(set(times)) == len(times)


def blocks_only_the_first(store: Store, table: str, ids: list[str], change: Callable[[], object]) -> None:
    """Check that a change of several rows waits for the first of them, and has locked none of the others."""
    first, *_, last = sorted(ids)
    lock = f"SELECT id FROM {table} WHERE id = '{{}}' FOR UPDATE"  # noqa: S608 - an id of ours
    concurrently(store, lock.format(first), change, f"{lock.format(last)} NOWAIT")


def add_downwards(store: Store, project_id: str) -> list[str]:
    """Add tokens whose rows are in another order than that of their ids."""
    make_many_tokens(store, project_id, 5)
    ids = sorted(row["id"] for row in rows(store, "token"))
    for token_id in reversed(ids):
        set_columns(store, "token", token_id, lookup=token_id)  # it is indexed: the row gets another place
    return ids


def test_tokens_are_revoked_in_the_order_of_their_ids(store: Store) -> None:
    project_id = Projects(store).create("One", API_KEY).id
    ids = add_downwards(store, project_id)
    blocks_only_the_first(store, "token", ids, lambda: Tokens(store).revoke_all(project_id))


def test_tokens_are_deleted_in_the_order_of_their_ids(store: Store) -> None:
    project_id = Projects(store).create("One", API_KEY).id
    ids = add_downwards(store, project_id)
    blocks_only_the_first(store, "token", ids, lambda: Projects(store).delete(project_id))


def test_sums_are_locked_before_the_tokens(store: Store) -> None:
    """In the transaction that settles a request and admits another."""
    token = make_token(store)
    settle_request(store)
    request = open_request(store)
    settlement = Settlement(Opened(request["id"], NOON, PROJECT_ID, TOKEN_ID, request["endpoint"]))
    admission = Admission(store)

    async def settle_and_admit() -> None:
        admission.settle(settlement)
        await admission.admit(token.value, opening())

    sums = "SELECT start FROM daily_usage FOR UPDATE"
    concurrently(store, sums, lambda: asyncio.run(settle_and_admit()), "SELECT id FROM token FOR UPDATE NOWAIT")
    admission.close()


def test_a_project_is_locked_before_the_secrets(store: Store) -> None:
    """In the transaction that admits a request and serves a health check."""
    token = make_token(store)
    work = AdmissionWork(store, Ledger(store.database), INSTANCE_ID)

    def check_and_admit() -> None:
        with store.database.write():
            work.decide([Probe(), Claim(TokenName("id", token.id), opening())])

    project = "SELECT id FROM project FOR UPDATE"
    concurrently(store, project, check_and_admit, "SELECT name FROM secret FOR UPDATE NOWAIT")


def test_rows_of_a_dead_process_are_locked_in_the_order_of_their_ids(store: Store) -> None:
    ids = [open_request(store)["id"] for _ in range(5)]
    blocks_only_the_first(
        store, "request", ids, lambda: instances.settle_left(store.database, Ledger(store.database), INSTANCE_ID)
    )


def test_rows_that_arrive_during_locking_are_left_to_the_next_transaction(store: Store) -> None:
    """A lock of it would be out of order, and its holder may wait for the others."""
    waited_for = open_request(store)["id"]

    def settle() -> None:
        try:
            instances.settle_left(store.database, Ledger(store.database), INSTANCE_ID)
        finally:
            store.database.close()

    with connect(store) as other, connect(store) as another, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("SELECT id FROM request FOR UPDATE")
        settled = pool.submit(settle)
        wait_until(lambda: bool(another.execute(WAITING.encode()).fetchall()[0][0]))
        late = open_request(store, id="00000000-0000-7000-8000-000000000000")["id"]
        another.execute("BEGIN")
        another.execute("SELECT id FROM request WHERE id = %s FOR UPDATE", [late])
        other.execute("COMMIT")
        settled.result()
    is_settled = {row["id"]: row["settled_at"] is not None for row in rows(store, "request")}
    assert is_settled == {waited_for: True, late: False}
    settle()
    assert all(row["settled_at"] for row in rows(store, "request"))


def test_old_rows_are_deleted_in_the_order_of_their_ids(store: Store) -> None:
    """They are settled in that order too, not in that of their beginning."""
    ids = sorted(settle_request(store, started_at=NOON - age)["id"] for age in range(5))
    blocks_only_the_first(store, "request", ids, lambda: retention.clean(store.database, 0, threading.Event()))


LIMITED: Any = {"rate_limits": [{"requests": 5, "per": "day"}], "max_parallel_requests": 3}
NO_LIMITS: Any = {"rate_limits": None, "max_parallel_requests": None}
FREE_OWNERS = "SELECT 1 FROM project, token FOR UPDATE NOWAIT"


@pytest.mark.parametrize("change", ["token", "project", "delete", "bulk delete"])
def test_balances_are_locked_before_their_owners(store: Store, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    token = make_token(store, **LIMITED)
    Projects(store).update(token.project_id, LIMITED)
    if change == "bulk delete":
        monkeypatch.setattr(bulk, "BATCH", 1)
        make_token(store, project_id=token.project_id, **LIMITED)
    acts: dict[str, Callable[[], object]] = {
        "token": lambda: Tokens(store).update(token.id, NO_LIMITS),
        "project": lambda: Projects(store).update(token.project_id, NO_LIMITS),
    }
    delete = functools.partial(Projects(store).delete, token.project_id)
    concurrently(store, "SELECT id FROM balance FOR UPDATE", acts.get(change, delete), FREE_OWNERS)
    left = {row["owner_id"] for row in rows(store, "balance")}
    assert left == {"token": {token.project_id}, "project": {token.id}}.get(change, set())


def test_balances_are_locked_in_the_order_of_their_ids(store: Store) -> None:
    project = Projects(store).create("One", API_KEY, max_parallel_requests=3)
    for _ in range(4):
        make_token(store, project_id=project.id, **LIMITED)
    ids = [row["id"] for row in rows(store, "balance")]
    for balance_id in sorted(ids, reverse=True):  # the rows get other places
        set_columns(store, "balance", balance_id, owner_id=balance_id.partition("/")[0])
    blocks_only_the_first(store, "balance", ids, lambda: Projects(store).delete(project.id))
    assert rows(store, "balance") == []


ADD_BALANCE = (
    "INSERT INTO balance (id, owner_id, maximum, used, newest, counts)"
    " SELECT id || '/parallel', id, 7, 2, 0, '' FROM {0}; UPDATE {0} SET max_parallel_requests = 7"
)


@pytest.mark.parametrize("table", ["token", "project"])
def test_a_balance_that_is_added_meanwhile_is_locked_by_another_try(store: Store, table: str) -> None:
    """It is too late to lock it after its owner; and its count is not lost."""
    token = make_token(store)
    managed: Any = Tokens(store) if table == "token" else Projects(store)
    owner_id = token.id if table == "token" else token.project_id
    change = functools.partial(managed.update, owner_id, {"max_parallel_requests": 3})
    after = concurrently(store, ADD_BALANCE.format(table), change)
    assert [(each.limit, each.used) for each in after.limits] == [(3, 2)]


def test_a_balance_that_is_added_before_a_delete_goes_with_its_owner(store: Store) -> None:
    token = make_token(store)
    concurrently(store, ADD_BALANCE.format("token"), lambda: Projects(store).delete(token.project_id))
    assert rows(store, "balance") == []


def test_no_limit_is_set_for_a_token_that_is_being_deleted(store: Store) -> None:
    token = make_token(store)
    with pytest.raises(NotFound):
        concurrently(store, "DELETE FROM token", lambda: Tokens(store).update(token.id, LIMITED))
    assert rows(store, "balance") == []
