import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest
from support.stores.store_clock import StoreClock
from support.stores.stores import (
    API_KEY,
    changed,
    foreign_lock,
    make_many_tokens,
    make_token,
    on_postgresql,
    on_sqlite,
    opened,
    opening,
    rows,
    set_columns,
)

from store import clock
from store.admission import running
from store.admission.admission import Admission
from store.admission.running import Running, Watch
from store.database import Statement
from store.database.base import LockedRead
from store.errors import GatewayError, InvalidToken, ProjectInactive, StoreUnavailable, TokenExpired, TokenInactive
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.runtime.settings import Settings
from store.store import Store

FORMER = "f" * 64
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


def of(store: Store, token: TokenRecord) -> Running:
    """Return the requests that came with a token's present value."""
    return Running(token.id, store.vault.lookup(token.value))


def ended(admission: Admission, *requests: Running) -> dict[Running, type[GatewayError]]:
    found = asyncio.run(admission.ended(frozenset(requests)))
    return {each: type(error) for each, error in found.items()}


def revoke(store: Store, token: TokenRecord) -> None:
    Tokens(store).revoke(token.id)


def expire(store: Store, token: TokenRecord) -> None:
    set_columns(store, "token", token.id, expires_at=store.database.now())


def switch_off(store: Store, token: TokenRecord) -> None:
    Projects(store).update(token.project_id, {"is_active": False})


def delete(store: Store, token: TokenRecord) -> None:
    Projects(store).delete(token.project_id)


def replace(store: Store, token: TokenRecord) -> None:
    set_columns(store, "token", token.id, lookup=FORMER)


ENDS: Sequence[tuple[Callable[[Store, TokenRecord], None], type[GatewayError]]] = [
    (revoke, TokenInactive),
    (expire, TokenExpired),
    (switch_off, ProjectInactive),
    (delete, InvalidToken),
    (replace, InvalidToken),
]


@pytest.mark.parametrize(("end", "error"), ENDS)
def test_requests_end_with_their_token(
    store: Store, admission: Admission, end: Callable[[Store, TokenRecord], None], error: type[GatewayError]
) -> None:
    token, other = make_token(store), make_token(store)
    requests = [of(store, token), of(store, other)]
    assert ended(admission, *requests) == {}
    end(store, token)
    assert ended(admission, *requests) == {requests[0]: error}


def test_a_token_that_works_again_ends_nothing(store: Store, admission: Admission) -> None:
    token = make_token(store)
    revoke(store, token)
    Tokens(store).update(token.id, {"is_active": True})
    switch_off(store, token)
    Projects(store).update(token.project_id, {"is_active": True, "api_key": API_KEY})
    assert ended(admission, of(store, token)) == {}


def test_limits_that_are_used_up_end_nothing_here(store: Store, admission: Admission) -> None:
    token = make_token(store, max_requests=1)
    set_columns(store, "token", token.id, request_count=1)
    assert ended(admission, of(store, token)) == {}


def test_requests_of_the_value_before_the_present_one_go_on_until_its_time_is_over(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = StoreClock(monkeypatch)
    token, until = make_token(store), time.now + clock.DAY
    former, present = Running(token.id, FORMER), of(store, token)
    set_columns(store, "token", token.id, previous_lookup=FORMER, previous_expires_at=until)
    assert ended(admission, former, present) == {}
    time.set(until - 1)
    assert ended(admission, former, present) == {}
    time.set(until)
    assert ended(admission, former, present) == {former: InvalidToken}


def test_the_value_before_the_present_one_works_no_longer_than_the_token(store: Store, admission: Admission) -> None:
    token = make_token(store)
    former = Running(token.id, FORMER)
    set_columns(store, "token", token.id, previous_lookup=FORMER, previous_expires_at=store.database.now() + clock.DAY)
    revoke(store, token)
    assert ended(admission, former) == {former: TokenInactive}


def test_a_value_before_the_present_one_without_an_end_has_ended(store: Store, admission: Admission) -> None:
    token = make_token(store)
    former = Running(token.id, FORMER)
    set_columns(store, "token", token.id, previous_lookup=FORMER)
    assert ended(admission, former) == {former: InvalidToken}


def test_a_replay_came_with_no_value_and_goes_on_when_that_is_replaced(store: Store, admission: Admission) -> None:
    token = make_token(store)
    replay = Running(token.id, "")
    replace(store, token)
    assert ended(admission, replay) == {}
    revoke(store, token)
    assert ended(admission, replay) == {replay: TokenInactive}


def test_requests_of_unknown_tokens_end(store: Store, admission: Admission) -> None:
    token = make_token(store)
    unknown, deleted = Running(UNKNOWN_ID, FORMER), Running("'; DROP TABLE token; --", "")
    assert ended(admission, unknown, deleted, of(store, token)) == {unknown: InvalidToken, deleted: InvalidToken}
    assert ended(admission, unknown) == {unknown: InvalidToken}  # without any row


def test_the_clock_of_the_store_decides(store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    time = StoreClock(monkeypatch)
    token = make_token(store)
    set_columns(store, "token", token.id, expires_at=time.now + 10)
    time.set(time.now + 9)
    assert ended(admission, of(store, token)) == {}
    time.set(time.now + 1)
    assert ended(admission, of(store, token)) == {of(store, token): TokenExpired}


def test_many_tokens_are_asked_for_by_one_statement(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id = Projects(store).create("Many", API_KEY).id
    made = make_many_tokens(store, project_id, 3000)
    requests = [Running(token_id, store.vault.lookup(value)) for token_id, value in made]
    revoked = {requests[place] for place in (0, 1500, 2999)}
    for each in revoked:
        Tokens(store).revoke(each.token_id)
    statements = counted_statements(store, monkeypatch)
    assert ended(admission, *requests) == dict.fromkeys(revoked, TokenInactive)
    assert len(statements) == 1


def counted_statements(store: Store, patch: pytest.MonkeyPatch) -> list[str]:
    """Return the statements that run from now on, of transactions and readings alike."""
    engine, found = type(store.database), list[str]()
    for name in ("update", "run", "execute", "lock_rows"):
        patch.setattr(engine, name, _noted(getattr(engine, name), found))
    return found


def _noted(method: Callable[..., object], found: list[str]) -> Callable[..., object]:
    def run(self: object, sql: object, *parameters: object) -> object:
        found.append(str(sql))
        return method(self, sql, *parameters)

    return run


def test_more_tokens_than_a_statement_can_name_are_asked_for_by_several(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MOST_TOKENS", 2)
    tokens = [make_token(store) for _ in range(5)]
    requests = [of(store, token) for token in tokens]
    for token in (tokens[0], tokens[4]):
        revoke(store, token)
    assert ended(admission, *requests) == {requests[0]: TokenInactive, requests[4]: TokenInactive}


def test_nothing_is_read_without_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> LockedRead:
        raise AssertionError

    monkeypatch.setattr(type(store.database), "read_locked", fail)
    assert running.ended(store.database, [Watch(frozenset()), Watch(frozenset())]) == {}


def test_it_is_answered_beside_admissions_which_come_first(store: Store, admission: Admission) -> None:
    token = make_token(store)
    revoked = make_token(store)
    revoke(store, revoked)

    async def together() -> None:
        admitted, found, _, again = await asyncio.gather(
            admission.admit(token.value, opening()),
            admission.ended(frozenset([of(store, token), of(store, revoked)])),
            admission.check(),
            admission.ended(frozenset([of(store, token)])),
        )
        assert admitted.lookup == store.vault.lookup(token.value)
        assert {each: type(error) for each, error in found.items()} == {of(store, revoked): TokenInactive}
        assert again == {}  # each is told of its own requests only

    asyncio.run(together())
    assert len(rows(store, "request")) == 1
    admission.close()
    assert rows(store, "refusal") == []


@on_postgresql
def test_rows_that_another_transaction_holds_are_not_waited_for(
    store: Store, settings: Settings, admission: Admission
) -> None:
    token = make_token(store)
    with opened(changed(settings)) as other, other.database.write():
        other.database.lock_rows(Statement("SELECT id FROM project"))
        other.database.lock_rows(Statement("SELECT id FROM token"))
        other.database.run("UPDATE token SET is_active = FALSE")
        assert ended(admission, of(store, token)) == {}  # it is not committed
    assert ended(admission, of(store, token)) == {of(store, token): TokenInactive}


@on_sqlite
def test_a_store_that_does_not_answer_ends_nothing(settings: Settings, store: Store) -> None:
    token = make_token(store)
    with opened(changed(settings, store_timeout=0.2)) as impatient:
        admission = Admission(impatient)
        with foreign_lock(store), pytest.raises(StoreUnavailable):
            ended(admission, of(store, token))
        admission.close()


def test_a_replay_and_a_request_know_the_value_that_they_came_with(store: Store, admission: Admission) -> None:
    token = make_token(store)

    async def both() -> None:
        admitted = await admission.admit(token.value, opening())
        assert admitted.lookup == store.vault.lookup(token.value)
        assert admitted.lookup not in repr(admitted)
        assert (await admission.admit_again(token.id, opening())).lookup == ""

    asyncio.run(both())
