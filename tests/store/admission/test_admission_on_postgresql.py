"""Faults of PostgreSQL and of the network: an admitted request is counted once, a refused one not at all."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.gateway.processes import wait_until
from support.network.tcp_relay import COMMIT, Fate, TcpRelay
from support.stores.stores import foreign_connection, make_token, opening, rows

from store.admission.admission import Admission
from store.admission.decision import Admitted
from store.errors import StoreUnavailable
from store.ledger.ledger import Outcome, Settlement
from store.ledger.usage import Consumption, Metered, Source
from store.management.tokens import TokenRecord, Tokens
from store.store import Store

LATITUDE = 1.0
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
def admission(far_store: Store) -> Iterator[Admission]:
    admission = Admission(far_store)
    yield admission
    admission.close()


def admit(admission: Admission, token: TokenRecord, number: int = 3) -> list[Admitted | BaseException]:
    """Ask for some requests at once; all are answered in time."""

    async def at_once() -> list[Admitted | BaseException]:
        asked = (admission.admit(token.value, opening()) for _ in range(number))
        return await asyncio.gather(*asked, return_exceptions=True)

    started = time.monotonic()
    answers = asyncio.run(at_once())
    assert time.monotonic() - started < admission._database.timeout + LATITUDE  # noqa: SLF001
    return answers


def admitted(answers: list[Admitted | BaseException]) -> int:
    assert all(isinstance(answer, Admitted | StoreUnavailable) for answer in answers), answers
    return sum(isinstance(answer, Admitted) for answer in answers)


def is_counted(store: Store, token: TokenRecord, number: int) -> bool:
    return (Tokens(store).get(token.id).request_count, len(rows(store, "request"))) == (number, number)


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.ANSWER_HELD, Fate.LOST, Fate.HELD])
def test_callers_do_not_notice_a_message_lost_during_a_commit(
    far_store: Store, relay: TcpRelay, admission: Admission, fate: Fate
) -> None:
    token = make_token(far_store)
    relay.once(COMMIT, fate)
    assert admitted(admit(admission, token)) == 3
    assert is_counted(far_store, token, 3)


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LOST])
def test_count_in_doubt_of_a_refused_request_is_taken_back(
    far_store: Store, relay: TcpRelay, admission: Admission, fate: Fate
) -> None:
    token = make_token(far_store)
    assert admitted(admit(admission, token)) == 3
    relay.once(COMMIT, fate, relay.refuse)
    assert admitted(admit(admission, token)) == 0
    relay.listen()
    wait_until(lambda: is_counted(far_store, token, 3))
    assert admitted(admit(admission, token)) == 3
    wait_until(lambda: is_counted(far_store, token, 6))


def test_late_commit_is_taken_back(far_store: Store, relay: TcpRelay, admission: Admission) -> None:
    token = make_token(far_store)
    relay.once(COMMIT, Fate.ANSWER_LOST, relay.hang)
    timer = threading.Timer(3, relay.resume)
    timer.start()
    assert admitted(admit(admission, token)) == 0
    timer.join()
    assert admitted(admit(admission, token)) == 3
    wait_until(lambda: is_counted(far_store, token, 3))


FAIL_FIRST = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= {tries} THEN RAISE 'on purpose' USING ERRCODE = '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fails_first BEFORE {when} FOR EACH ROW EXECUTE FUNCTION fail_first();
"""


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57P01", "25006"])
def test_callers_do_not_notice_a_passing_fault(far_store: Store, admission: Admission, code: str) -> None:
    token = make_token(far_store)
    with foreign_connection(far_store) as foreign:
        foreign.execute(FAIL_FIRST.format(code=code, tries=1, when="UPDATE ON token"))
    assert admitted(admit(admission, token)) == 3
    assert is_counted(far_store, token, 3)


def test_callers_do_not_notice_a_deadlock(far_store: Store, admission: Admission) -> None:
    """Another transaction holds the token and waits for its project; ours does the reverse, and is the victim."""
    token = make_token(far_store)
    with foreign_connection(far_store) as foreign:
        name = far_store.database.execute("SELECT current_database()")[0][0]
        foreign.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'")
        foreign.execute("SET deadlock_timeout = '1min'")
        foreign.execute("BEGIN")
        foreign.execute("SELECT 1 FROM token FOR UPDATE")

        def cross() -> None:
            wait_until(lambda: far_store.database.execute(WAITING) != [])
            far_store.database.close()
            foreign.execute("SELECT 1 FROM project FOR UPDATE")
            foreign.execute("COMMIT")

        thread = threading.Thread(target=cross)
        thread.start()
        assert admitted(admit(admission, token)) == 3
        thread.join()
        assert is_counted(far_store, token, 3)
        deadlocks = "SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = current_database()"

        def is_reported() -> bool:
            asyncio.run(admission.check())  # a server process reports its view at the end of a transaction
            return foreign.execute(deadlocks).fetchall() == [(True,)]

        wait_until(is_reported)


def test_settlements_that_wait_for_a_lock_do_not_hold_up_requests(far_store: Store, admission: Admission) -> None:
    """While another transaction has locked the sums, requests are admitted; the settlements are written later."""
    token = make_token(far_store)

    async def ask(lock: Callable[[], object]) -> list[float]:
        first = await admission.admit(token.value, opening())
        lock()
        admission.settle(Settlement(first.opened, Outcome(status=200, duration_ms=1)))
        taken = []
        for _ in range(10):
            started = time.monotonic()
            await admission.admit(token.value, opening())
            taken.append(time.monotonic() - started)
            await asyncio.sleep(0.15)
        return taken

    with foreign_connection(far_store) as foreign:
        foreign.execute("BEGIN")
        taken = asyncio.run(ask(lambda: foreign.execute("LOCK TABLE hourly_usage")))
        foreign.execute("COMMIT")
    assert sorted(taken)[-2] < 0.5  # one finds out
    assert is_counted(far_store, token, 11)
    wait_until(lambda: sum(row["settled_at"] is not None for row in rows(far_store, "request")) == 1)


def test_settlements_keep_their_usage_when_the_disk_was_full_for_a_moment(
    far_store: Store, admission: Admission
) -> None:
    token = make_token(far_store)
    metered = Metered(Source.OBSERVED, (Consumption("gpt-4o-mini", {"input_tokens": 7}),), "gpt-4o-mini", "gpt-4o-mini")

    async def settle() -> None:
        done = await admission.admit(token.value, opening())
        admission.settle(Settlement(done.opened, Outcome(status=200, duration_ms=1), metered))
        await asyncio.sleep(0.3)

    with foreign_connection(far_store) as foreign:
        foreign.execute(FAIL_FIRST.format(code="53100", tries=2, when="INSERT ON hourly_usage"))
    asyncio.run(settle())
    wait_until(lambda: [row["input_tokens"] for row in rows(far_store, "request")] == [7])


@pytest.mark.parametrize("path", ["/v1/\0", "/v1/\ud800", "/v1/" + "x" * 100_000])
def test_path_that_no_database_stores_as_it_is_is_admitted(far_store: Store, admission: Admission, path: str) -> None:
    token = make_token(far_store)
    asyncio.run(admission.admit(token.value, opening(path)))
    assert is_counted(far_store, token, 1)
