import asyncio
from collections.abc import Callable, Iterator

import pytest
from support.stores.limits import limit
from support.stores.store_clock import StoreClock
from support.stores.stores import (
    UNKNOWN_TOKEN,
    changed,
    foreign_lock,
    make_token,
    on_postgresql,
    on_sqlite,
    opened,
    opening,
    rows,
    set_columns,
)

from store import clock
from store.admission.admission import Admission
from store.admission.decision import TokenStanding
from store.database import Statement
from store.errors import GatewayError, InvalidToken, ProjectInactive, StoreUnavailable, TokenExpired, TokenInactive
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.runtime.settings import Settings
from store.store import Store


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


def ask(admission: Admission, *values: str) -> list[TokenStanding | BaseException]:
    async def all_at_once() -> list[TokenStanding | BaseException]:
        return await asyncio.gather(*map(admission.standing_of, values), return_exceptions=True)

    return asyncio.run(all_at_once())


def test_a_token_is_told_its_counts_and_its_limits(store: Store, admission: Admission) -> None:
    token = make_token(store, name="Ann's laptop", max_requests=5)
    other = make_token(store, project_id=token.project_id)
    with store.database.write():
        limit(store, token.id, "parallel", 3, 1)
        limit(store, token.id, "requests/day", 1000, 7)
        limit(store, token.id, "usd/month", 10**12, 3 * 10**11, 2 * 10**11)
        limit(store, token.project_id, "requests/day", 10, 12)
        limit(store, token.project_id, "tokens/minute", 500, 100, 150)
    set_columns(store, "token", token.id, request_count=4)
    before = clock.now()
    first, second = ask(admission, token.value, other.value)
    assert isinstance(first, TokenStanding)
    assert isinstance(second, TokenStanding)
    assert first[:4] == ("Ann's laptop", token.expires_at, 5, 4)
    assert [(found.kind, found.per, found.limit, found.used, found.remaining) for found in first.limits] == [
        ("usd", "month", 10**12, 3 * 10**11, 5 * 10**11),
        ("requests", "day", 1000, 7, 993),
        ("parallel", None, 3, 1, 2),
    ]
    assert [(found.per, found.limit, found.reserved, found.remaining) for found in first.project_limits] == [
        ("day", 10, 0, 0),
        ("minute", 500, 150, 250),
    ]
    (_, of_day, _) = first.limits
    assert of_day.resets_at is not None
    assert before + clock.DAY <= of_day.resets_at <= clock.now() + clock.DAY + clock.DAY // 60
    assert (second.name, second.limits, second.project_limits) == (None, [], first.project_limits)


def test_a_rotated_token_is_told_the_same_by_both_values_while_the_previous_one_works(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_clock = StoreClock(monkeypatch)
    token = make_token(store, name="Ann's laptop")
    rotated = Tokens(store).rotate(token.id, 5)
    assert rotated.previous_expires_at is not None
    store_clock.set(rotated.previous_expires_at - 1)
    first, second = ask(admission, token.value, rotated.value)
    assert isinstance(first, TokenStanding)
    assert first == second
    store_clock.set(rotated.previous_expires_at)
    assert [type(answer) for answer in ask(admission, token.value, rotated.value)] == [InvalidToken, TokenStanding]


def revoke(store: Store, token: TokenRecord) -> None:
    Tokens(store).revoke(token.id)


def expire(store: Store, token: TokenRecord) -> None:
    set_columns(store, "token", token.id, expires_at=1)


def switch_off(store: Store, token: TokenRecord) -> None:
    Projects(store).update(token.project_id, {"is_active": False})


def delete(store: Store, token: TokenRecord) -> None:
    Projects(store).delete(token.project_id)


@pytest.mark.parametrize(
    ("change", "error"),
    [(revoke, TokenInactive), (expire, TokenExpired), (switch_off, ProjectInactive), (delete, InvalidToken)],
)
def test_a_token_that_may_make_no_request_is_refused(
    store: Store, admission: Admission, change: Callable[[Store, TokenRecord], None], error: type[GatewayError]
) -> None:
    token, good = make_token(store), make_token(store)
    change(store, token)
    refusal, standing = ask(admission, token.value, good.value)
    assert isinstance(refusal, error)
    assert isinstance(standing, TokenStanding)
    admission.close()
    assert rows(store, "refusal") == []


@pytest.mark.parametrize("value", ["", "nonsense", UNKNOWN_TOKEN, "\ud800", "***"])
def test_an_unknown_or_malformed_token_is_invalid(admission: Admission, value: str) -> None:
    assert [type(answer) for answer in ask(admission, value)] == [InvalidToken]


def test_a_token_that_is_used_up_is_told_so_and_nothing_is_counted(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=3)
    set_columns(store, "token", token.id, request_count=3)
    (standing, again) = ask(admission, token.value, token.value)
    assert isinstance(standing, TokenStanding)
    assert (standing.request_count, standing.max_requests, again) == (3, 3, standing)
    admission.close()
    after = Tokens(store).get(token.id)
    assert (after.request_count, after.last_used_at, rows(store, "request")) == (3, None, [])


def test_requests_of_the_same_batch_are_counted_first(store: Store, admission: Admission) -> None:
    token = make_token(store)

    async def together() -> int:
        standing, *_ = await asyncio.gather(
            admission.standing_of(token.value),
            admission.admit(token.value, opening()),
            admission.check(),
            admission.admit(token.value, opening()),
        )
        return standing.request_count

    assert asyncio.run(together()) == 2


@on_postgresql
def test_a_row_that_another_transaction_holds_is_not_waited_for(
    store: Store, settings: Settings, admission: Admission
) -> None:
    token = make_token(store)
    with opened(changed(settings)) as other, other.database.write():
        other.database.lock_rows(Statement("SELECT id FROM project"))
        other.database.lock_rows(Statement("SELECT id FROM token"))
        assert isinstance(ask(admission, token.value)[0], TokenStanding)


@on_sqlite
def test_a_store_that_does_not_answer_is_no_refusal(settings: Settings, store: Store) -> None:
    token = make_token(store)
    with opened(changed(settings, store_timeout=0.2)) as impatient:
        admission = Admission(impatient)
        with foreign_lock(store):
            assert [type(answer) for answer in ask(admission, token.value)] == [StoreUnavailable]
        admission.close()
