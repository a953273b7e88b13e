"""Refusals of known tokens get rows of their own, and do not affect admissions."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from support.stores.stores import API_KEY, UNKNOWN_TOKEN, foreign_lock, make_token, opening, rows, set_columns

from store import clock
from store.admission import refusals
from store.admission.admission import Admission
from store.admission.refusals import Refusals, Tally
from store.errors import GatewayError, QuotaExhausted, TokenRefused
from store.ledger import retention
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.request import Holder, Opening, Refused
from store.store import Store

HOLDER = Holder("8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1", None, "a6b2ab66-09f4-4fd7-a6b2-bcf8489a1dcd", "Search")
NOON = 12 * clock.HOUR


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


async def refused(admission: Admission, value: str, asked: Opening | None = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await admission.admit(value, asked or opening())
    return caught.value


def revoked(store: Store) -> TokenRecord:
    token = make_token(store)
    Tokens(store).revoke(token.id)
    return token


def expired(store: Store) -> TokenRecord:
    token = make_token(store)
    set_columns(store, "token", token.id, expires_at=1)
    return token


def switched_off(store: Store) -> TokenRecord:
    token = make_token(store)
    Projects(store).update(token.project_id, {"is_active": False})
    return token


def used_up(store: Store) -> TokenRecord:
    token = make_token(store, max_requests=1)
    set_columns(store, "token", token.id, request_count=1)
    return token


REASONS = [
    (revoked, 401, "token_inactive"),
    (expired, 401, "token_expired"),
    (switched_off, 403, "project_inactive"),
    (used_up, 429, "insufficient_quota"),
]


@pytest.mark.parametrize(("make", "status", "code"), REASONS)
def test_refusal_has_a_row_with_its_reason(
    store: Store, make: Callable[[Store], TokenRecord], status: int, code: str
) -> None:
    token, admission, before = make(store), Admission(store), clock.now()
    asked = opening()._replace(client="203.0.113.7", session_id=UNKNOWN_TOKEN)
    error = asyncio.run(refused(admission, token.value, asked))
    admission.close()
    assert isinstance(error, TokenRefused)
    assert error.refused is not None
    assert error.refused.holder == Holder(token.id, None, token.project_id, "Tests")
    (row,) = rows(store, "refusal")
    assert before <= row.pop("started_at") <= clock.now()
    assert row == {
        "id": asked.request_id,
        "project_id": token.project_id,
        "token_id": token.id,
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "/v1/chat/completions",
        "session_id": UNKNOWN_TOKEN,
        "client": "203.0.113.7",
        "status": status,
        "code": code,
        "repeats": 1,
    }
    assert rows(store, "request") == []
    assert Tokens(store).get(token.id).request_count == token.request_count + (code == "insufficient_quota")


def test_refusal_of_a_reserved_endpoint_has_a_row(store: Store, admission: Admission) -> None:
    asyncio.run(refused(admission, make_token(store).value, opening("/v1/organization", is_reserved=True)))
    admission.close()
    assert [(row["code"], row["path"]) for row in rows(store, "refusal")] == [
        ("endpoint_not_allowed", "/v1/organization")
    ]


def test_unknown_tokens_and_faults_have_no_row(store: Store, admission: Admission) -> None:
    broken = make_token(store)
    set_columns(store, "project", broken.project_id, sealed_api_key=b"nonsense")
    for value in (UNKNOWN_TOKEN, "nonsense", broken.value):
        asyncio.run(refused(admission, value))
    revoked_one = revoked(store)
    with foreign_lock(store):
        asyncio.run(refused(admission, revoked_one.value))  # the store decides nothing: a 503
    admission.close()
    assert rows(store, "refusal") == []


def test_paid_request_that_is_refused_has_a_row(store: Store, admission: Admission) -> None:
    token, asked = revoked(store), opening()
    with pytest.raises(TokenRefused):
        asyncio.run(admission.check_again(token.id, asked))
    admission.close()
    assert [row["id"] for row in rows(store, "refusal")] == [asked.request_id]


def test_client_in_a_loop_has_one_row_a_minute(store: Store, admission: Admission) -> None:
    loop, other = used_up(store), used_up(store)
    first = opening()

    async def ask() -> None:
        await refused(admission, loop.value, first)
        await asyncio.gather(*(refused(admission, loop.value) for _ in range(299)))
        await refused(admission, other.value)
        Tokens(store).revoke(loop.id)
        await refused(admission, loop.value)

    asyncio.run(ask())
    admission.close()
    found = {(row["token_id"], row["code"], row["started_at"] // clock.MINUTE): row for row in rows(store, "refusal")}
    assert len(found) == len(rows(store, "refusal")) <= 6  # a minute may end in between
    repeats = [row["repeats"] for row in found.values() if row["code"] == "insufficient_quota"]
    assert sum(repeats) == 301
    assert first.request_id in [row["id"] for row in found.values()]


def test_row_is_updated_while_the_process_goes_on(
    store: Store, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "WRITE_DELAY", 0.01)
    token = used_up(store)

    async def written(number: int) -> None:
        async with asyncio.timeout(10):
            while sum(row["repeats"] for row in rows(store, "refusal")) != number:
                await asyncio.sleep(0.01)

    async def ask() -> None:
        await refused(admission, token.value)
        await written(1)
        for _ in range(3):
            await refused(admission, token.value)
        await written(4)

    asyncio.run(ask())


def test_refusal_that_cannot_be_written_does_not_hold_up_admissions(store: Store, admission: Admission) -> None:
    token, good = used_up(store), make_token(store)
    with store.database.write():
        store.database.run("DROP TABLE refusal")

    async def ask() -> None:
        await refused(admission, token.value)
        await admission.admit(good.value, opening())

    asyncio.run(ask())
    admission.close()
    assert [row["settled_at"] is not None for row in rows(store, "request")] == [True]


def counted(*tokens_and_times: tuple[str, int], waiting: int = 0) -> tuple[list[Tally], Refusals]:
    """Return the tallies that are enqueued, and the object that has counted refusals of some tokens at some times."""
    left: list[Tally] = []
    refused_requests = Refusals(left.append, lambda: waiting)
    for token_id, at in tokens_and_times:
        error = QuotaExhausted()
        error.refused = Refused(opening(), HOLDER._replace(token_id=token_id), at)
        refused_requests.count(error)
    return left, refused_requests


async def unwritten(*times: int) -> list[tuple[int, int]]:
    """Return the first time and the number of each row that some refusals of one token make."""
    _, refused_requests = counted(*(("1", at) for at in times))
    return [(tally.first.at, tally.repeats) for tally in refused_requests.pop_unwritten()]


def test_each_minute_begins_a_row() -> None:
    times = (NOON, NOON + 1, NOON + clock.MINUTE - 1, NOON + clock.MINUTE, NOON + 2 * clock.MINUTE)
    rows_of_minutes = [(NOON, 3), (NOON + clock.MINUTE, 1), (NOON + 2 * clock.MINUTE, 1)]
    assert asyncio.run(unwritten(*times)) == rows_of_minutes


def test_clock_that_steps_back_begins_no_row() -> None:
    assert asyncio.run(unwritten(NOON, NOON - 1, NOON, NOON - 1)) == [(NOON, 4)]


def test_refusals_beyond_the_rows_of_a_minute_are_only_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "MAX_TALLIES", 2)

    async def count() -> list[str]:
        _, refused_requests = counted(*((token, NOON) for token in "1234"), ("1", NOON))
        return [tally.first.holder.token_id * tally.repeats for tally in refused_requests.pop_unwritten()]

    assert asyncio.run(count()) == ["11", "2"]
    assert [record.message for record in caplog.records] == ["further refusals of this minute are only in the log"]


async def left_after(seconds: float, waiting: int, *tokens_and_times: tuple[str, int]) -> tuple[int, int]:
    """Return how many tallies are enqueued after a while, and how many are not yet."""
    left, refused_requests = counted(*tokens_and_times, waiting=waiting)
    async with asyncio.timeout(10):
        while not left and waiting < refusals.MOST_UNWRITTEN:
            await asyncio.sleep(0)
    await asyncio.sleep(seconds)
    return len(left), len(refused_requests.pop_unwritten())


def test_many_rows_are_enqueued_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "WRITE_DELAY", 0.2)
    many = [(str(number), NOON) for number in range(250)]
    assert asyncio.run(left_after(0, 0, *many, *many)) == (refusals.CHUNK, 150)


def test_rows_are_not_enqueued_while_the_store_does_not_keep_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would displace settlements: the oldest entries of a full queue are dropped."""
    monkeypatch.setattr(refusals, "WRITE_DELAY", 0.001)
    assert asyncio.run(left_after(0.05, refusals.MOST_UNWRITTEN, ("1", NOON), ("2", NOON))) == (0, 2)


def test_row_that_cannot_be_written_does_not_hold_up_the_others(store: Store) -> None:
    good, bad = (Tally(Refused(opening(), HOLDER, NOON), 429, "insufficient_quota", repeats) for repeats in (1, 2**70))
    with store.database.write():
        refusals.write_each(store.database, [bad, good])
    assert [row["id"] for row in rows(store, "refusal")] == [good.id]


@pytest.mark.parametrize("client", ["fe80::1%\udcff", "\0", "x" * 10_000])
def test_odd_client_address_does_not_spoil_the_batch_of_others(store: Store, admission: Admission, client: str) -> None:
    token, used = make_token(store), used_up(store)

    async def ask() -> None:
        odd = opening()._replace(client=client)
        await asyncio.gather(*(admission.admit(token.value, one) for one in (opening(), odd, opening())))
        await refused(admission, used.value, opening()._replace(client=client))

    asyncio.run(ask())
    admission.close()
    assert (len(rows(store, "request")), len(rows(store, "refusal"))) == (3, 1)


def test_old_refusals_are_deleted_and_younger_ones_stay(store: Store) -> None:
    now, day = store.database.now(), clock.DAY
    with store.database.write():
        old = [Tally(Refused(opening(), HOLDER, now - (31 + age) * day), 429, "insufficient_quota") for age in (0, 5)]
        young = Tally(Refused(opening(), HOLDER, now - 29 * day), 429, "insufficient_quota")
        refusals.write(store.database, [*old, young])
    retention.clean(store.database, 30, threading.Event())
    assert [row["id"] for row in rows(store, "refusal")] == [young.id]


def test_tokens_and_keys_in_a_path_are_masked(store: Store, admission: Admission) -> None:
    token = used_up(store)
    asyncio.run(
        refused(admission, token.value, opening(f"/v1/{token.value}/{API_KEY}")._replace(endpoint="/v1/{other}"))
    )
    admission.close()
    assert token.value not in repr(rows(store, "refusal"))
    assert API_KEY not in repr(rows(store, "refusal"))
