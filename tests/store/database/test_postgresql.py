"""PostgreSQL's faults, each provoked for real: every wait ends, and every outcome is known or found out."""

import contextlib
import fcntl
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString, NoReturn

import peewee
import psycopg
import pytest
from support.gateway.processes import wait_until
from support.network.tcp_relay import COMMIT, Fate, TcpRelay
from support.stores.postgresql import Server

from store.database.postgresql import PostgresqlDatabase
from store.errors import OutcomeUnknown, StoreLocked, StoreUnavailable, StoreUnreachable

TIMEOUT = 1.0
LATITUDE = 0.5
CONNECT = 2.0
"""The least seconds that the driver allows for a connection."""

pipelined_or_not = pytest.mark.parametrize("pipelined", [False, True])


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that a test may crash."""
    with Server.running("-c", "deadlock_timeout=20ms") as server:
        yield server


@pytest.fixture
def own_relay(own_server: Server) -> Iterator[TcpRelay]:
    with TcpRelay(own_server.port) as relay:
        yield relay


@pytest.fixture
def database(relay: TcpRelay, postgresql_server: Server) -> Iterator[PostgresqlDatabase]:
    yield from opened(postgresql_server, relay)


@pytest.fixture
def own_database(own_relay: TcpRelay, own_server: Server) -> Iterator[PostgresqlDatabase]:
    yield from opened(own_server, own_relay)


def opened(server: Server, relay: TcpRelay) -> Iterator[PostgresqlDatabase]:
    name = server.make_database().rpartition("/")[2]
    database = PostgresqlDatabase(server.url(name, port=relay.port), TIMEOUT)
    with database.write():
        database.run("CREATE TABLE item (name TEXT PRIMARY KEY, number BIGINT)")
    yield database
    database.close()


def write(database: PostgresqlDatabase, name: str = "one", **options: Any) -> None:
    with database.write(**options):
        database.run("INSERT INTO item VALUES (?, 0)", [name])


def names(database: PostgresqlDatabase) -> list[str]:
    with database.read():
        return [name for (name,) in database.execute("SELECT name FROM item ORDER BY name")]


def foreign(server: Server, database: PostgresqlDatabase) -> psycopg.Connection[Any]:
    return psycopg.connect(server.url(database.url.rpartition("/")[2]), autocommit=True)


def took(action: Callable[[], object], error: type[Exception]) -> float:
    started = time.monotonic()
    with pytest.raises(error) as raised:
        action()
    assert raised.type is error
    return time.monotonic() - started


# Networks and servers that do not answer.


@pytest.mark.parametrize("answers_only", [False, True])
def test_a_hanging_network_raises_store_unreachable_in_time(
    database: PostgresqlDatabase, relay: TcpRelay, answers_only: bool
) -> None:
    relay.hang(answers_only=answers_only)
    assert TIMEOUT <= took(lambda: names(database), StoreUnreachable) < TIMEOUT + LATITUDE
    relay.resume()
    assert names(database) == []
    relay.hang(answers_only=answers_only)
    assert took(lambda: write(database), StoreUnreachable) < TIMEOUT + LATITUDE
    relay.resume()
    write(database)


def test_a_network_that_hangs_while_connecting_raises_store_unreachable(
    database: PostgresqlDatabase, relay: TcpRelay
) -> None:
    database.close()
    relay.hang()
    assert took(lambda: write(database), StoreUnreachable) < CONNECT + LATITUDE


def test_threads_connect_at_the_same_time(database: PostgresqlDatabase, relay: TcpRelay) -> None:
    database.close()
    relay.hang()
    times: list[float] = []
    threads = [
        threading.Thread(target=lambda: times.append(took(lambda: names(database), StoreUnreachable))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == len(threads)
    assert max(times) < CONNECT + LATITUDE


def test_the_lock_of_peewee_around_connecting_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An assignment to a private attribute of peewee's switches it off; another version may name that differently."""
    engine = PostgresqlDatabase("postgresql://host/database", TIMEOUT).engine
    both_connect = threading.Barrier(2)

    def connect() -> NoReturn:
        both_connect.wait(5)
        raise peewee.OperationalError("on purpose")

    monkeypatch.setattr(engine, "_connect", connect)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(engine.connect) for _ in range(2)]
    assert [type(one.exception()) for one in made] == [peewee.OperationalError] * 2


def test_connecting_counts_towards_the_deadline_of_a_transaction(database: PostgresqlDatabase, relay: TcpRelay) -> None:
    database.close()
    relay.hang()
    relay.once(b"BEGIN", Fate.HELD)
    timer = threading.Timer(1.7, relay.resume)
    timer.start()
    assert took(lambda: write(database, deadline=time.monotonic() + 2), StoreUnreachable) < 2 + LATITUDE
    timer.join()


@pytest.mark.parametrize(
    "reads", [PostgresqlDatabase.read, functools.partial(PostgresqlDatabase.snapshot, limit=TIMEOUT)]
)
def test_a_blocked_reader_is_cancelled_on_the_server_too(
    database: PostgresqlDatabase, postgresql_server: Server, reads: Any
) -> None:
    def read() -> None:
        with reads(database):
            database.execute("SELECT * FROM item")

    with foreign(postgresql_server, database) as other, other.transaction():
        other.execute("LOCK TABLE item")
        assert took(read, StoreUnreachable) < TIMEOUT + LATITUDE
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: other.execute(waiting).fetchall() == [(0,)])
    assert names(database) == []


@pipelined_or_not
def test_a_blocked_writer_raises_store_locked(
    database: PostgresqlDatabase, postgresql_server: Server, pipelined: bool
) -> None:
    with foreign(postgresql_server, database) as other, other.transaction():
        other.execute("LOCK TABLE item")
        assert took(lambda: write(database, pipelined=pipelined), StoreLocked) < TIMEOUT
    write(database)


def test_a_slow_statement_raises_store_locked_in_time(database: PostgresqlDatabase) -> None:
    def sleep() -> None:
        with database.write():
            database.run("SELECT pg_sleep(10)")

    assert took(sleep, StoreLocked) < TIMEOUT


# Deadlocks.


@pipelined_or_not
def test_the_victim_of_a_deadlock_raises_store_locked(
    own_database: PostgresqlDatabase, own_server: Server, pipelined: bool
) -> None:
    for name in ("one", "two"):
        write(own_database, name)
    update = "UPDATE item SET number = number + 1 WHERE name = '{}'"

    def cross(other: psycopg.Connection[Any]) -> None:
        with own_database.write(pipelined=pipelined):
            own_database.update(update.format("one"))
            thread = threading.Thread(target=other.execute, args=(update.format("one").encode(),))
            thread.start()
            wait_until(lambda: blocked(own_server))
            try:
                own_database.update(update.format("two"))
            finally:
                threads.append(thread)

    threads: list[threading.Thread] = []
    with foreign(own_server, own_database) as other, other.transaction():
        other.execute("SET LOCAL deadlock_timeout = '1min'")  # so that the other transaction detects it, and is ended
        other.execute(update.format("two").encode())
        assert took(lambda: cross(other), StoreLocked) < TIMEOUT
        threads[0].join()
    with own_database.read():
        assert own_database.execute("SELECT number FROM item") == [(1,), (1,)]


def blocked(server: Server) -> bool:
    with psycopg.connect(server.url()) as connection:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return connection.execute(sql).fetchall() == [(1,)]


# Outcomes of a COMMIT.


@pipelined_or_not
def test_a_commit_whose_answer_is_lost_counts_as_committed(
    database: PostgresqlDatabase, relay: TcpRelay, pipelined: bool
) -> None:
    relay.once(COMMIT, Fate.ANSWER_LOST)
    write(database, pipelined=pipelined)
    assert names(database) == ["one"]


@pipelined_or_not
@pytest.mark.parametrize("fate", [Fate.LOST, Fate.HELD])
def test_a_commit_that_never_arrived_raises_store_unreachable(
    database: PostgresqlDatabase, postgresql_server: Server, relay: TcpRelay, fate: Fate, pipelined: bool
) -> None:
    relay.once(COMMIT, fate)
    assert took(lambda: write(database, pipelined=pipelined), StoreUnreachable) < TIMEOUT + LATITUDE
    assert names(database) == []
    with foreign(postgresql_server, database) as other:
        assert other.execute("SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock'").fetchall() == [(0,)]
    write(database)


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.LOST])
def test_a_commit_without_a_server_to_ask_raises_outcome_unknown(
    database: PostgresqlDatabase, relay: TcpRelay, fate: Fate
) -> None:
    doubts: list[float] = []
    relay.once(COMMIT, fate, relay.refuse)
    started = time.monotonic()
    assert took(lambda: write(database, in_doubt=lambda: doubts.append(time.monotonic())), OutcomeUnknown) < (
        TIMEOUT + LATITUDE
    )
    assert [doubt - started < TIMEOUT for doubt in doubts] == [True]
    relay.listen()
    assert names(database) == ["one"] * (fate is Fate.ANSWER_LOST)


def test_a_lost_commit_before_a_restart_raises_outcome_unknown(
    own_database: PostgresqlDatabase, own_server: Server, own_relay: TcpRelay
) -> None:
    def restart() -> None:
        own_server.stop(signal.SIGQUIT)
        own_server.start()

    own_relay.once(COMMIT, Fate.LOST, restart)
    took(lambda: write(own_database, deadline=time.monotonic() + 10), OutcomeUnknown)
    assert names(own_database) == []
    write(own_database)


def test_a_lost_commit_before_a_crash_is_not_mistaken_for_another_transaction_with_its_number(
    own_database: PostgresqlDatabase, own_server: Server, own_relay: TcpRelay
) -> None:
    """A server recovers from the crash of one of its processes without a new start, and reuses lost numbers."""
    victim = foreign(own_server, own_database)
    victim.execute("CHECKPOINT")
    before = victim.execute(STATISTICS).fetchall()

    def crash() -> None:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        wait_until(lambda: recovered(own_server, before))
        for name in ("two", "three"):
            with foreign(own_server, own_database) as other:
                other.execute("INSERT INTO item VALUES (%s, 0)", [name])

    own_relay.once(COMMIT, Fate.LOST, crash)
    took(lambda: write(own_database, deadline=time.monotonic() + 10), OutcomeUnknown)
    assert names(own_database) == ["three", "two"]
    victim.close()


STATISTICS: LiteralString = "SELECT pg_stat_get_bgwriter_stat_reset_time()"
"""The beginning of the server's statistics, which a recovery throws away."""


def recovered(server: Server, before: Sequence[object]) -> bool:
    """Tell whether a server has recovered, whose statistics began at a time before."""
    try:
        with psycopg.connect(server.url()) as connection:
            return connection.execute(STATISTICS).fetchall() != before
    except psycopg.OperationalError:
        return False


def commits_wait(server: Server) -> bool:
    """Commit, and return True if that waits for a standby: a server applies new settings some time later."""
    waits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'"
    with psycopg.connect(server.url(), autocommit=True) as one, psycopg.connect(server.url(), autocommit=True) as other:
        commit = threading.Thread(target=one.execute, args=["COMMENT ON DATABASE postgres IS 'of a test'"])
        commit.start()
        while commit.is_alive():
            if other.execute(waits, [one.info.backend_pid]).fetchall():
                commit.join()
                return True
    return False


def test_a_commit_that_waits_for_a_standby_is_not_ended(own_database: PostgresqlDatabase, own_server: Server) -> None:
    """Ending the wait would commit on this server alone: the answer would be lost with it."""
    own_server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    own_server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: commits_wait(own_server))
    try:
        assert took(lambda: write(own_database), OutcomeUnknown) < TIMEOUT + LATITUDE
        assert names(own_database) == []
    finally:
        own_server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        own_server.execute("SELECT pg_reload_conf()")
    wait_until(lambda: names(own_database) == ["one"])


# Faults in the body of a transaction.


@pipelined_or_not
def test_a_swallowed_fault_raises_store_unavailable_instead_of_committing(
    database: PostgresqlDatabase, pipelined: bool
) -> None:
    def write_and_swallow() -> None:
        with database.write(pipelined=pipelined):
            database.run("INSERT INTO item VALUES ('one', 0)")
            with contextlib.suppress(psycopg.Error):
                database.execute("SELECT 1 / 0")

    took(write_and_swallow, StoreUnavailable)
    assert names(database) == []


@pipelined_or_not
def test_a_savepoint_that_fails_is_undone_alone(database: PostgresqlDatabase, pipelined: bool) -> None:

    def write_part(name: str) -> None:
        with database.savepoint():
            for each in (name, "before", "after the fault"):
                database.run("INSERT INTO item VALUES (?, 0)", [each])

    with database.write(pipelined=pipelined):
        database.run("INSERT INTO item VALUES ('before', 0)")
        for name in ("first part", "second part"):
            with pytest.raises(psycopg.errors.UniqueViolation):
                write_part(name)
        with database.savepoint():
            database.run("INSERT INTO item VALUES ('good part', 0)")
    assert names(database) == ["before", "good part"]


@pytest.mark.parametrize("code", ["53100", "58030", "XX000"])
def test_a_fault_of_the_server_in_a_savepoint_fails_the_transaction(database: PostgresqlDatabase, code: str) -> None:
    """Such as a full disk: a second try of the part would fail as well, or be written for no reason."""
    raising = f"DO $$ BEGIN RAISE 'on purpose' USING ERRCODE = '{code}'; END $$"

    def write_part() -> None:
        with database.savepoint():
            database.run(raising)

    def write_in_parts() -> None:
        with database.write(pipelined=True):
            database.run("INSERT INTO item VALUES ('before', 0)")
            took(write_part, StoreUnavailable)
            database.run("INSERT INTO item VALUES ('after', 0)")

    took(write_in_parts, StoreUnavailable)
    assert names(database) == []


@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_the_connection_works_after_a_text_that_the_server_rejects(database: PostgresqlDatabase, text: str) -> None:
    with pytest.raises((StoreUnavailable, UnicodeEncodeError)):
        write(database, text)
    write(database, "\U0010ffff \x01 \x7f")
    assert names(database) == ["\U0010ffff \x01 \x7f"]


@pipelined_or_not
def test_any_texts_can_be_asked_for_together(database: PostgresqlDatabase, pipelined: bool) -> None:
    texts = ["", "NULL", "a,b", "{}", '"', "\\", '\\"', "a b", "\u00e9 \U0010ffff \x01"]
    for text in texts:
        write(database, text)
    write(database, "another")
    among = database.among("name", texts)
    with database.write(pipelined=pipelined):
        found = database.execute(f"SELECT name FROM item WHERE {among.sql}", among.parameters)  # noqa: S608 - no data
    assert sorted(found) == sorted((text,) for text in texts)


# Connections.


@pytest.mark.parametrize("how", ["terminate", "cut", "restart"])
def test_an_idle_connection_that_the_server_ended_is_replaced_without_an_error(
    own_database: PostgresqlDatabase, own_server: Server, own_relay: TcpRelay, how: str
) -> None:
    before = own_database.engine.connection()
    if how == "terminate":
        own_server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'llm'")
    elif how == "cut":
        own_relay.cut()
    else:
        own_server.stop()
        own_server.start()
    wait_until(before.was_ended)
    write(own_database)
    assert names(own_database) == ["one"]


def test_a_server_that_became_a_standby_is_left_for_the_next_host(
    own_server: Server, postgresql_server: Server
) -> None:
    """As after a failover in which the former primary goes on as a standby."""
    hosts = f"127.0.0.1:{own_server.port},127.0.0.1:{postgresql_server.port}"
    database = PostgresqlDatabase(f"postgresql://postgres@{hosts}/postgres", TIMEOUT)
    temporary = "CREATE TABLE IF NOT EXISTS demoted (name TEXT)"
    with database.write():
        database.run(temporary)
    own_server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        own_server.execute("SELECT pg_reload_conf()")
        database.execute("SET default_transaction_read_only = on")  # the reload may not have come yet
        took(lambda: insert(database), StoreUnreachable)
        with database.write():
            database.run(temporary)
            assert database.execute("SHOW port") == [(str(postgresql_server.port),)]
            database.run("DROP TABLE demoted")
    finally:
        database.close()
        own_server.execute("ALTER SYSTEM RESET default_transaction_read_only")
        own_server.execute("SELECT pg_reload_conf()")


def test_a_host_that_hangs_is_left_for_the_next(postgresql_server: Server, relay: TcpRelay) -> None:
    relay.hang()
    hosts = f"127.0.0.1:{relay.port},127.0.0.1:{postgresql_server.port}"
    database = PostgresqlDatabase(f"postgresql://postgres@{hosts}/postgres", TIMEOUT)
    started = time.monotonic()
    with database.write():
        pass
    assert time.monotonic() - started < CONNECT + LATITUDE
    database.close()


def insert(database: PostgresqlDatabase) -> None:
    with database.write():
        database.run("INSERT INTO demoted VALUES ('never')")


def test_connections_are_named_after_their_process_and_thread(database: PostgresqlDatabase) -> None:
    with database.read():
        ((name,),) = database.execute("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    assert name.startswith("llm-proxy ")
    assert name.endswith(f":{os.getpid()} MainThread")


def test_an_application_name_of_the_url_is_kept(postgresql_server: Server) -> None:
    database = PostgresqlDatabase(f"{postgresql_server.url()}?application_name=mine", TIMEOUT)
    with database.read():
        assert database.execute("SHOW application_name") == [("mine",)]
    database.close()


def test_a_descriptor_above_the_limit_of_select_works(
    database: PostgresqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = database.engine.connection()
    number = fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD, 1024)
    monkeypatch.setattr(connection, "fileno", lambda: number)
    assert not connection.was_ended()
    write(database)
    os.close(number)
