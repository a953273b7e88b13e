"""PostgreSQL fails under load: a failover to a standby, crashes, a full disk, and the return of all clients at once.

In the end a request that the upstream saw is counted and has its row, and a refused one is not counted.
`./run.sh soak -s tests/soak/test_postgresql_faults.py` prints the times.
"""

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import wait_until
from support.load.load import Busy
from support.network.tcp_relay import TcpRelay
from support.stores.postgresql import Server
from support.upstreams.upstreams import OK, Conversation, RawUpstream

pytestmark = pytest.mark.soak("store/admission", "store/database")

CLIENTS = 8
ROUNDS = 10
DOWN = 10.0
"""Seconds that PostgreSQL is away, where many wait for it."""

BUSY = 0.5
"""Seconds of load before something happens."""

STORE_TIMEOUT = 2.0
AWAY = 1.5 * STORE_TIMEOUT
"""Seconds for which PostgreSQL is away, so that some requests are refused."""

IN_TIME = STORE_TIMEOUT + 3
SMALL = 96 * 1024 * 1024
"""Bytes of the file system that is filled."""


class Upstream(RawUpstream):
    """An upstream that counts requests."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()
        super().__init__(self._answer_all)

    def _answer_all(self, conversation: Conversation) -> None:
        while True:
            conversation.read_message()
            with self._lock:
                self.count += 1
            conversation.send(OK)


class Load(Busy):
    """Clients that send requests to all proxies, and note the time and the code of each answer."""

    def __init__(self, gateway: Gateway, token: dict[str, Any]) -> None:
        self.answers: list[tuple[float, float, str | None]] = []
        """The time of each request, the seconds until its answer, and the code."""
        proxies = itertools.islice(itertools.cycle(gateway.proxies), CLIENTS)
        super().__init__(functools.partial(self._use, proxy.url, token) for proxy in proxies)

    def wait_for_admission(self) -> float:
        """Wait until a request that is sent from now on is admitted; return the seconds until then."""
        now = time.monotonic()
        wait_until(lambda: any(asked > now and code is None for asked, _, code in self.answers[-CLIENTS * 10 :]))
        return time.monotonic() - now

    def slowest(self) -> float:
        return max(seconds for _, seconds, _ in self.answers)

    def first_refusal(self, since: float) -> float:
        """Return the seconds from `since` to the first refusal."""
        refused = (asked + seconds for asked, seconds, code in self.answers if code and asked + seconds > since)
        return min(refused, default=float("nan")) - since

    def codes(self) -> Counter[str | None]:
        return Counter(code for _, _, code in self.answers)

    def _use(self, url: str, token: dict[str, Any]) -> None:
        with httpx.Client(base_url=url, headers=bearer(token), timeout=30) as client:
            while not self.done.is_set():
                asked = time.monotonic()
                code = client.get("/v1/models").json().get("code")
                self.answers.append((asked, time.monotonic() - asked, code))


class Stand:
    """The store's figures of a token."""

    def __init__(self, url: str, token: dict[str, Any]) -> None:
        with psycopg.connect(url) as connection:
            ((self.count, self.rows, self.open),) = connection.execute(
                "SELECT request_count, (SELECT count(*) FROM request WHERE token_id = token.id),"
                " (SELECT count(*) FROM request WHERE token_id = token.id AND settled_at IS NULL)"
                " FROM token WHERE id = %s",
                [token["id"]],
            ).fetchall()


def require_exact(url: str, token: dict[str, Any], upstream: Upstream) -> None:
    """Check that exactly the requests that the upstream saw are counted, and that each has its row, settled."""

    def is_exact() -> bool:
        stand = Stand(url, token)
        return (stand.count, stand.rows, stand.open) == (upstream.count, upstream.count, 0)

    with contextlib.suppress(TimeoutError):
        wait_until(is_exact)
    stand = Stand(url, token)
    assert (stand.count, stand.rows, stand.open) == (upstream.count, upstream.count, 0)


def test_crashes_under_load_lose_no_count(tmp_path: Path) -> None:
    with (
        Server.running() as server,
        Upstream() as upstream,
        Gateway.start(tmp_path, upstream.url, proxies=2, database_url=server.url(), LOG_LEVEL="warning") as gateway,
    ):
        token = gateway.make_token()
        for number, how in zip(range(ROUNDS), itertools.cycle(("the server", "a process of it")), strict=False):
            with Load(gateway, token) as load:
                load.wait_for_admission()
                time.sleep(BUSY)
                crashed = time.monotonic()
                if how == "the server":
                    server.signal_all(signal.SIGKILL)
                    server.stop()
                    time.sleep(AWAY)
                    server.start()
                else:
                    crash_one_process(server)
                recovery = load.wait_for_admission()
            require_exact(server.url(), token, upstream)
            assert set(load.codes()) <= {None, "store_unavailable"}
            assert load.slowest() < IN_TIME
            print(
                f"round {number}: {how} killed, first refused after {load.first_refusal(crashed):.2f} s, admitted "
                f"again {recovery:.2f} s after its return, slowest answer {load.slowest():.2f} s, {dict(load.codes())}"
            )


def crash_one_process(server: Server) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        ((victim,),) = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name ~ 'store-writer' LIMIT 1"
        ).fetchall()
    os.kill(victim, signal.SIGKILL)


def test_all_clients_return_one_after_the_other(tmp_path: Path) -> None:
    with (
        Server.running() as server,
        TcpRelay(server.port) as relay,
        Upstream() as upstream,
        Gateway.start(tmp_path, upstream.url, database_url=server.url(port=relay.port), LOG_LEVEL="warning") as gateway,
    ):
        for _ in range(3):
            gateway.start_proxy()
        token = gateway.make_token()
        with Load(gateway, token) as load:
            load.wait_for_admission()
            relay.attempts.clear()
            stopped = time.monotonic()
            server.stop()
            time.sleep(DOWN)
            server.start()
            started = time.monotonic()
            recovery = load.wait_for_admission()
            time.sleep(2)
        require_exact(server.url(), token, upstream)
        down = Counter(int(at - stopped) for at in relay.attempts if at < started)
        after = sum(started <= at for at in relay.attempts)
        print(
            f"4 proxies, {CLIENTS} clients, {DOWN:.0f} s without PostgreSQL: {max(down.values())} connections tried in "
            f"the worst second, {down.total() / DOWN:.1f} in the mean, {after} after its return; "
            f"first refused after {load.first_refusal(stopped):.2f} s, admitted again after {recovery:.2f} s"
        )
        assert max(down.values()) < 4 * 30
        assert after <= 4 * 3


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_a_failover_to_a_standby_loses_no_count(tmp_path: Path, synchronous: bool) -> None:
    with (
        Server.running() as primary,
        standby_of(primary, synchronous=synchronous) as standby,
        Upstream() as upstream,
    ):
        url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
        with Gateway.start(tmp_path, upstream.url, proxies=2, database_url=url, LOG_LEVEL="warning") as gateway:
            token = gateway.make_token()
            with Load(gateway, token) as load:
                load.wait_for_admission()
                time.sleep(BUSY)
                if not synchronous:  # it falls behind
                    standby.stop()
                    time.sleep(BUSY)
                killed = time.monotonic()
                primary.signal_all(signal.SIGKILL)
                time.sleep(AWAY)
                if not synchronous:
                    standby.start()
                standby.run("pg_ctl", "promote", "-D", str(standby.data))
                recovery = load.wait_for_admission()
            time.sleep(2)
            stand = Stand(standby.url(), token)
            print(
                f"failover, {'synchronous' if synchronous else 'asynchronous'}: first refused after "
                f"{load.first_refusal(killed):.2f} s, admitted again {recovery:.2f} s after the promotion; upstream "
                f"saw {upstream.count}, counted {stand.count}, rows {stand.rows}; {dict(load.codes())}"
            )
            assert load.slowest() < IN_TIME
            if synchronous:
                require_exact(standby.url(), token, upstream)
            else:  # rows that the standby did not have yet are lost with the primary
                assert stand.count == stand.rows < upstream.count


def test_no_request_is_admitted_without_the_synchronous_standby(tmp_path: Path) -> None:
    with (
        Server.running() as primary,
        standby_of(primary, synchronous=True) as standby,
        Upstream() as upstream,
        Gateway.start(tmp_path, upstream.url, database_url=primary.url(), LOG_LEVEL="warning") as gateway,
    ):
        token = gateway.make_token()
        standby.signal_all(signal.SIGSTOP)
        try:
            with Load(gateway, token) as load:
                time.sleep(3 * STORE_TIMEOUT)
            assert set(load.codes()) == {"store_unavailable"}
            assert load.slowest() < IN_TIME
        finally:
            standby.signal_all(signal.SIGCONT)
        with Load(gateway, token) as load:
            recovery = load.wait_for_admission()
        print(f"the standby hung: nothing admitted; admitted again {recovery:.2f} s after its return")
        require_exact(primary.url(), token, upstream)


@contextlib.contextmanager
def standby_of(primary: Server, *, synchronous: bool) -> Iterator[Server]:
    folder = primary.folder / "standby"
    Server.make_folder(folder)
    standby = Server(folder)
    folder.chmod(0o755)
    url = f"{primary.url()}?application_name=standby"
    primary.run("pg_basebackup", "-D", str(standby.data), "-d", url, "-R", "-c", "fast")
    standby.start()
    try:
        if synchronous:
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            primary.execute("SELECT pg_reload_conf()")
            wait_until(lambda: is_synchronous(primary))
        yield standby
    finally:
        standby.stop(signal.SIGQUIT)


def is_synchronous(primary: Server) -> bool:
    with psycopg.connect(primary.url()) as connection:
        return connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)]


@pytest.fixture
def small_server() -> Iterator[Server]:
    """A server on a small file system in memory, which only root can mount."""
    with Server.running() as large:
        folder = large.folder / "small"
        folder.mkdir()
        mounted = run("mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder))
        if mounted.returncode:
            pytest.skip(f"cannot mount a file system: {mounted.stderr.decode().strip()}")
        server = Server(folder, "-c", "max_wal_size=32MB", "-c", "min_wal_size=32MB")
        try:
            server.initialize()
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)
            run("umount", str(folder)).check_returncode()


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False, capture_output=True)


def test_a_full_disk_refuses_until_there_is_room(tmp_path: Path, small_server: Server) -> None:
    ballast = small_server.folder / "ballast"
    with (
        Upstream() as upstream,
        Gateway.start(tmp_path, upstream.url, database_url=small_server.url(), LOG_LEVEL="warning") as gateway,
    ):
        token = gateway.make_token()
        with Load(gateway, token) as load:
            load.wait_for_admission()
            filled = time.monotonic()
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as output:
                while output.write(bytes(4096)):
                    pass
            wait_until(lambda: any(code for _, _, code in load.answers))
            time.sleep(3)
            ballast.unlink()
            small_server.stop()  # it may have ended itself: without room for its journal it cannot go on
            small_server.start()
            recovery = load.wait_for_admission()
        require_exact(small_server.url(), token, upstream)
        assert set(load.codes()) == {None, "store_unavailable"}
        assert load.slowest() < IN_TIME
        print(
            f"a full disk: first refused {load.first_refusal(filled):.2f} s after it was filled, "
            f"admitted again {recovery:.2f} s after PostgreSQL's return; {dict(load.codes())}"
        )
