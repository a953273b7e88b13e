"""The values of a rotated token at its admissions."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest
from support.gateway.processes import wait_until
from support.stores.admissions import admit, outcomes
from support.stores.limits import limited, used
from support.stores.store_clock import StoreClock
from support.stores.stores import (
    foreign_connection,
    make_many_tokens,
    make_token,
    rows,
)

from store.admission.admission import Admission
from store.admission.decision import Admitted
from store.admission.locked_tokens import of_values
from store.clock import SECOND
from store.errors import InvalidToken, QuotaExhausted, RateLimited, TokenExpired, TokenInactive
from store.management.tokens import Tokens
from store.store import Store

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
def store_clock(monkeypatch: pytest.MonkeyPatch, store: Store) -> StoreClock:
    del store  # its schema is made before
    return StoreClock(monkeypatch)


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


def test_both_values_are_admitted_until_the_previous_one_ends(
    store: Store, admission: Admission, store_clock: StoreClock
) -> None:
    token = make_token(store)
    rotated = Tokens(store).rotate(token.id, 5)
    assert rotated.previous_expires_at is not None
    store_clock.set(rotated.previous_expires_at - 1)
    first, second = admit(admission, token.value, rotated.value)
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert first.holder == second.holder
    store_clock.set(rotated.previous_expires_at)
    assert outcomes(admission, token.value, rotated.value) == [InvalidToken, Admitted]
    assert {row["token_id"] for row in rows(store, "request")} == {token.id}
    assert Tokens(store).get(token.id).request_count == 3


def test_without_a_grace_the_previous_value_is_unknown_at_once(store: Store, admission: Admission) -> None:
    token = make_token(store)
    rotated = Tokens(store).rotate(token.id)
    assert outcomes(admission, token.value, rotated.value) == [InvalidToken, Admitted]


def test_a_second_rotation_ends_the_older_value_at_once(store: Store, admission: Admission) -> None:
    tokens, token = Tokens(store), make_token(store)
    second = tokens.rotate(token.id, 60)
    third = tokens.rotate(token.id, 60)
    assert outcomes(admission, token.value, second.value, third.value) == [InvalidToken, Admitted, Admitted]
    last = tokens.rotate(token.id)
    assert outcomes(admission, token.value, second.value, third.value, last.value) == [*[InvalidToken] * 3, Admitted]


def test_both_values_count_in_one_batch_and_on_one_balance(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=10)
    limited(store, token.id, minute=4)
    rotated = Tokens(store).rotate(token.id, 60)
    values = [token.value, rotated.value] * 4
    assert Counter(outcomes(admission, *values)) == {Admitted: 4, RateLimited: 4}
    assert used(store, token.id) == {"minute": 4}
    Tokens(store).update(token.id, {"rate_limits": None})
    assert Counter(outcomes(admission, *values)) == {Admitted: 6, QuotaExhausted: 2}
    assert Tokens(store).get(token.id).request_count == 10


def test_a_previous_value_is_refused_as_its_token_is(
    store: Store, admission: Admission, store_clock: StoreClock
) -> None:
    tokens, token = Tokens(store), make_token(store)
    rotated = tokens.rotate(token.id, 3600)
    tokens.revoke(token.id)
    assert outcomes(admission, token.value, rotated.value) == [TokenInactive, TokenInactive]
    tokens.update(token.id, {"is_active": True})
    tokens.update(token.id, {"expires_at": store_clock.now + 2 * SECOND})
    assert outcomes(admission, token.value, rotated.value) == [Admitted, Admitted]
    store_clock.set(store_clock.now + 2 * SECOND)
    assert outcomes(admission, token.value, rotated.value) == [InvalidToken, TokenExpired]


@pytest.mark.parametrize(("grace_seconds", "outcome"), [(0, InvalidToken), (60, Admitted)])
def test_an_admission_that_waits_for_a_rotation_decides_on_what_that_has_left(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch, grace_seconds: int, outcome: type
) -> None:
    token, waiting = make_token(store), list[Future[list[type]]]()
    seal = store.vault.seal_token

    def seal_while_others_wait(token_id: str, value: str) -> bytes:
        """Ask for admissions with the present value while the rotation has the row locked."""
        waiting.append(pool.submit(outcomes, admission, token.value, token.value))
        with foreign_connection(store) as connection:
            if isinstance(connection, psycopg.Connection):
                wait_until(lambda: connection.execute(WAITING).fetchone() is not None)
            else:
                time.sleep(0.1)
        return seal(token_id, value)

    monkeypatch.setattr(store.vault, "seal_token", seal_while_others_wait)
    with ThreadPoolExecutor(1) as pool:
        Tokens(store).rotate(token.id, grace_seconds)
        assert waiting[0].result() == [outcome, outcome]
    assert Tokens(store).get(token.id).request_count == (2 if grace_seconds else 0)


def test_values_are_found_by_both_indexes(store: Store, engine: str) -> None:
    make_many_tokens(store, make_token(store).project_id, 2000)
    named = of_values(store.database, ["a", "b"])
    explain = "EXPLAIN QUERY PLAN" if engine == "sqlite" else "EXPLAIN"
    with store.database.read():
        plan = store.database.execute(f"{explain} SELECT id FROM token WHERE {named.sql}", named.parameters)  # noqa: S608
    text = " ".join(row[-1] for row in plan)
    assert re.search(r"INDEX token_lookup|Index Scan on token_lookup", text)
    assert re.search(r"INDEX token_previous_lookup|Index Scan on token_previous_lookup", text)
