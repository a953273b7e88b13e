"""PostgreSQL fails under the real processes: refused in time, counted exactly, and fine again without a restart.

With `-s` the tests print the times.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import DEADLINE, wait_until
from support.network.tcp_relay import TcpRelay
from support.stores.postgresql import Server
from support.upstreams.upstreams import OK, Conversation, RawUpstream

STORE_TIMEOUT = 1.0
IN_TIME = STORE_TIMEOUT + 2
"""Seconds within which each answer must be there, on a busy machine too."""

DOWN = 2 * STORE_TIMEOUT
CUT = 1.0
"""Seconds within which a process cuts what runs for a token that has ended."""
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
END_OF_STREAM = b"1\r\nb\r\n0\r\n\r\n"


class Setting(NamedTuple):
    """The processes, the network between them and PostgreSQL, and the upstream's record."""

    server: Server
    relay: TcpRelay
    gateway: Gateway
    asked: list[bytes]
    go_on: threading.Event


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Setting]:
    asked: list[bytes] = []
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        while True:
            head = conversation.read_head()
            asked.append(head)
            if b"/v1/stream " in head:
                conversation.send(STREAM)
                go_on.wait(DEADLINE)
                conversation.send(END_OF_STREAM)
            else:
                conversation.send(OK)

    folder = tmp_path_factory.mktemp("gateway")
    with (
        Server.running() as server,
        TcpRelay(server.port) as relay,
        RawUpstream(answer) as upstream,
        Gateway.start(
            folder,
            upstream.url,
            database_url=server.url(port=relay.port),
            STORE_TIMEOUT=str(STORE_TIMEOUT),
            PLAIN_PATH=path,
        ) as gateway,
    ):
        yield Setting(server, relay, gateway, asked, go_on)
        go_on.set()  # the upstream's last stream would wait on


@pytest.fixture
def token(setting: Setting) -> dict[str, Any]:
    setting.asked.clear()
    setting.go_on.clear()
    return setting.gateway.make_token()


class Asked(NamedTuple):
    """The outcome of a request, and the seconds until it."""

    code: str | None
    seconds: float


def ask(client: httpx.Client) -> Asked:
    started = time.monotonic()
    response = client.get("/v1/models")
    return Asked(response.json().get("code"), time.monotonic() - started)


def rows_of(setting: Setting, token: dict[str, Any]) -> list[tuple[Any, ...]]:
    with psycopg.connect(setting.server.url()) as connection:
        sql = "SELECT status, settled_at IS NOT NULL FROM request WHERE token_id = %s"
        return connection.execute(sql, [token["id"]]).fetchall()


def is_exact(setting: Setting, token: dict[str, Any]) -> bool:
    """Return True if exactly the requests that the upstream saw are counted, and each has its row, settled."""
    count, seen = setting.gateway.token(token["id"])["request_count"], len(setting.asked)
    return count == seen and rows_of(setting, token) == [(200, True)] * seen


def stop(setting: Setting) -> Callable[[], None]:
    setting.server.stop()
    return setting.server.start


def crash(setting: Setting) -> Callable[[], None]:
    setting.server.stop(signal.SIGQUIT)
    return setting.server.start


def hang(setting: Setting) -> Callable[[], None]:
    setting.relay.hang()
    return setting.relay.resume


def cut(setting: Setting) -> Callable[[], None]:
    setting.relay.refuse()
    setting.relay.cut()
    return setting.relay.listen


def block(setting: Setting) -> Callable[[], None]:
    locking = psycopg.connect(setting.server.url())
    locking.execute("LOCK TABLE token")
    return locking.close


FAULTS = {
    "is stopped": stop,
    "crashes": crash,
    "hangs": hang,
    "is cut off": cut,
    "is blocked": block,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_requests_are_refused_while_postgresql_fails_and_then_admitted(
    setting: Setting, token: dict[str, Any], fault: str
) -> None:
    gateway = setting.gateway
    patch = ("PATCH", f"/manage/tokens/{token['id']}", {"max_requests": 1000})
    with (
        httpx.Client(base_url=gateway.url, headers=bearer(token), timeout=IN_TIME) as client,
        client.stream("GET", "/v1/stream") as streamed,
    ):
        parts = streamed.iter_raw()
        first = next(parts)
        assert ask(client).code is None
        begun = time.monotonic()
        repair = FAULTS[fault](setting)
        answers: list[Asked] = []
        while not answers or time.monotonic() < begun + DOWN:
            answers.append(ask(client))
            time.sleep(0.02)
        assert gateway.manage(*patch).json()["code"] == "store_unavailable"
        setting.go_on.set()
        assert (first, *parts) == (b"a", b"b")
        repair()
        repaired = time.monotonic()
        while ask(client).code is not None:
            assert time.monotonic() - repaired < IN_TIME
        recovered = time.monotonic() - repaired
    assert {answer.code for answer in answers} == {"store_unavailable"}
    assert max(answer.seconds for answer in answers) < IN_TIME
    assert gateway.manage(*patch).status_code == 200
    wait_until(lambda: is_exact(setting, token))
    assert len(setting.asked) == 3
    print(
        f"PostgreSQL {fault}: {len(answers)} refused, the first after {answers[0].seconds:.2f} s, "
        f"none later than {max(answer.seconds for answer in answers):.2f} s; fine again after {recovered:.2f} s"
    )


def test_connections_to_postgresql_are_few_and_named(setting: Setting, token: dict[str, Any]) -> None:
    paths = [f"/manage/tokens/{token['id']}"] * 40
    threads = [threading.Thread(target=setting.gateway.manage, args=("GET", path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with psycopg.connect(setting.server.url(), application_name="test") as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT application_name FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND application_name <> 'test'"
            )
        ]
    assert setting.gateway.management is not None
    of_the_proxy = [name for name in names if f":{setting.gateway.proxies[0].process.pid} " in name]
    of_the_management = [name for name in names if f":{setting.gateway.management.pid} " in name]
    assert len(of_the_proxy) <= 2
    assert len(of_the_management) <= 8 + 2
    assert len(names) == len(of_the_proxy) + len(of_the_management)


@pytest.mark.parametrize("fault", [cut, pytest.param(hang, marks=pytest.mark.soak("addon/cuts.py"))])
def test_a_stream_goes_on_until_the_store_is_reached_again_and_is_cut_then(
    setting: Setting, token: dict[str, Any], fault: Callable[[Setting], Callable[[], None]]
) -> None:
    """A process that does not reach the store cannot know that the token is revoked."""
    headers = bearer(token)
    with httpx.stream("GET", f"{setting.gateway.url}/v1/stream", headers=headers, timeout=DEADLINE) as streamed:
        parts = streamed.iter_raw()
        assert next(parts) == b"a"
        repair = fault(setting)
        with psycopg.connect(setting.server.url(), autocommit=True) as connection:
            connection.execute("UPDATE token SET is_active = FALSE WHERE id = %s", [token["id"]])
        time.sleep(DOWN)  # that it is not cut has no event to wait for
        repair()
        repaired = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):  # it stands within an event, and no end of that comes
            next(parts)
        ended = time.monotonic() - repaired
    assert 0 < ended < CUT + IN_TIME
    wait_until(lambda: rows_of(setting, token) == [(200, True)])
    print(f"a stream was cut {ended:.2f} s after the store was reached again")
