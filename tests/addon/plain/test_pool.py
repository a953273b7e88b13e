import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from support.gateway.inprocess import (
    HoldConnections,
    Hooks,
    Proxy,
    assert_json_error,
    head_and_body,
    read_answer,
    run,
    running,
    until,
)
from support.gateway.processes import DEADLINE, free_port
from support.upstreams.upstreams import CLOSING, OK, Conversation, RawUpstream, answer_all

from addon.plain import pool
from addon.plain.upstream_connection import DEFAULT_IDLE, LONGEST_IDLE
from store.network.sockets import IDLE

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


async def ask(proxy: Proxy) -> bytes:
    """Send a request over a connection of its own; return the body of the answer."""
    status, _, body = head_and_body(await proxy.ask_and_stay(proxy.request(headers="")))
    return body if status == 200 else str(status).encode()


def test_clients_share_connections_and_the_last_used_one_serves(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                for _ in range(3):
                    assert await ask(proxy) == b"{}"
                assert len(upstream.conversations) == 1
                await asyncio.gather(*(ask(proxy) for _ in range(5)))
                number = len(upstream.conversations)
                assert number <= 6
                for _ in range(3):
                    assert await ask(proxy) == b"{}"
                assert len(upstream.conversations) == number

    run(main())


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (OK + POISON, b"200 {}"),
        (OK + b"\r\n", b"200 {}"),
        (OK + b"x", b"200 {}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n" + POISON, b"204 "),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n" + POISON, b"304 "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON, b"200 0\r"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}", b'503 {"'),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"200 {}"),
        (CLOSING, b"200 {}"),
        (OK.replace(b"200 OK", b"101 Switching Protocols"), b'503 {"'),
        (b"nonsense\r\n\r\n", b'503 {"'),
    ],
    ids=[
        *("another response", "a line end", "a byte", "behind 204", "behind 304", "behind chunks", "a cut body"),
        *("two lengths", "HTTP/1.0", "Connection: close", "a switch", "nonsense"),
    ],
)
def test_a_connection_that_is_not_clean_serves_no_other_client(tmp_path: Path, answer: bytes, then: bytes) -> None:
    def respond(conversation: Conversation) -> None:
        if len(upstream.conversations) > 1:
            answer_all()(conversation)
        conversation.read_head()
        conversation.send(answer)
        if then != b"cut":
            conversation.wait_until_closed()

    async def main() -> None:
        async with running(tmp_path, upstream.url) as proxy:
            status, _, body = head_and_body(await proxy.ask(proxy.request()))
            assert then in {b"cut", b"%d %b" % (status, body[:2])}
            assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEFAULT_IDLE / 2)
            assert await ask(proxy) == b"{}"
            assert len(upstream.conversations) == 2
            assert upstream.conversations[0].received.count(b"GET ") == 1

    with RawUpstream(respond) as upstream:
        run(main())


def test_data_that_comes_between_two_requests_is_for_none(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert await ask(proxy) == b"{}"
                upstream.conversations[0].send(POISON)
                assert await ask(proxy) == b"{}"
                assert len(upstream.conversations) == 2
                await until(upstream.conversations[0].closed.is_set)

    run(main())


def test_a_close_that_has_arrived_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    """The event loop has no time to see it: the client's request is there as well."""

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(OK)
        asked.wait(DEADLINE)
        asked.clear()

    asked = threading.Event()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for number in range(1, 6):
                    writer.write(proxy.request(headers="").encode())
                    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                    writer.write(b"GET ")  # the next one has begun
                    await asyncio.sleep(0)
                    asked.set()
                    upstream.conversations[-1].closed.wait(DEADLINE)  # the loop stands
                    writer.write(proxy.request(headers="")[4:].encode())
                    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                    asked.set()
                    assert len(upstream.conversations) == 2 * number
                    await until(upstream.conversations[-1].closed.is_set)

    run(main())


def idle_connections(proxy: Proxy) -> int:
    return sum(map(len, proxy.gateway.plain_path.pool._idle.values()))  # noqa: SLF001


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (b"Keep-Alive: timeout=1\r\n", 0.5),
        (b"Keep-Alive: max=100, timeout = 2\r\n", 1.0),
        (b"", DEFAULT_IDLE),
        (b"Keep-Alive: timeout=x\r\n", DEFAULT_IDLE),
        (b"Keep-Alive: timeout=5\r\n", 4.0),
        (b"Keep-Alive: timeout=9999\r\n", LONGEST_IDLE),
    ],
)
def test_a_connection_is_kept_for_less_time_than_its_upstream_keeps_it(
    tmp_path: Path, headers: bytes, seconds: float
) -> None:
    async def main() -> None:
        with RawUpstream(answer_all(OK.replace(b"\r\n\r\n", b"\r\n" + headers + b"\r\n"))) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert await ask(proxy) == b"{}"
                ((connection, end),) = next(iter(proxy.gateway.plain_path.pool._idle.values())).items()  # noqa: SLF001
                assert connection.idle_time == pytest.approx(seconds)
                assert end - asyncio.get_running_loop().time() <= seconds
                if seconds < 1:
                    await until(upstream.conversations[0].closed.is_set)
                    assert idle_connections(proxy) == 0

    run(main())


def test_a_zero_timeout_keeps_no_connection(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=0\r\n\r\n"))) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert await ask(proxy) == b"{}"
                await until(upstream.conversations[0].closed.is_set)

    run(main())


def test_no_more_connections_are_kept_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_IDLE", 2)
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            go_on.wait(DEADLINE)
            conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                asking = [asyncio.create_task(ask(proxy)) for _ in range(5)]
                await until(lambda: upstream.received().count(b"GET ") == 5)
                go_on.set()
                assert await asyncio.gather(*asking) == 5 * [b"{}"]
                assert idle_connections(proxy) == 2
                await until(lambda: sum(one.closed.is_set() for one in upstream.conversations) == 3)

    run(main())


def test_all_connections_are_closed_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        hooks = Hooks()
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, addons=[hooks]) as proxy:
                await ask(proxy)
                assert not upstream.conversations[0].closed.is_set()
            await until(upstream.conversations[0].closed.is_set)
            await until(lambda: "server_disconnected" in hooks.called)

    run(main())


def test_idle_connections_are_probed(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                await read_answer(reader)
                (connection,) = next(iter(proxy.gateway.plain_path.pool._idle.values()))  # noqa: SLF001
                client = proxy.handler.transports[proxy.handler.client].writer
                assert isinstance(client, asyncio.StreamWriter)
                for transport in (connection._transport, client):  # noqa: SLF001
                    assert transport is not None
                    sock = transport.get_extra_info("socket")
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE

    run(main())


def test_a_connection_whose_client_left_while_it_opened_serves_others(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                hold = HoldConnections()
                proxy.master.addons.add(hold)
                async with proxy.connection() as (_, writer):
                    writer.write(proxy.request(headers="").encode())
                    await asyncio.wait_for(hold.held.wait(), DEADLINE)
                await proxy.end_of_flow()
                hold.go_on.set()
                await until(lambda: idle_connections(proxy) == 1)
                assert await ask(proxy) == b"{}"
                assert len(upstream.conversations) == 1

    run(main())


class AtConnect:
    """An addon that does something with each connection to the upstream that is to be opened."""

    def __init__(self, what: Callable[[ServerConnectionHookData], object]) -> None:
        self.server_connect = what


def forbid(data: ServerConnectionHookData) -> None:
    data.server.error = "not today"


@pytest.mark.paths("on", "off")
def test_a_hook_can_forbid_a_connection(tmp_path: Path) -> None:
    async def main() -> None:
        hooks = Hooks()
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, addons=[AtConnect(forbid), hooks]) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                error = (await proxy.end_of_flow()).error
                assert error is not None
                assert "not today" in error.msg
            assert upstream.conversations == []
            assert hooks.of(Hooks.OF_UPSTREAMS) == ["server_connect", "server_connect_error"]

    run(main())


@pytest.mark.paths("on", "off")
def test_a_hook_can_lead_a_connection_elsewhere(tmp_path: Path) -> None:
    """As an addon that resolves names itself does."""

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:

            def lead(data: ServerConnectionHookData) -> None:
                data.server.address = ("127.0.0.1", upstream.port)

            async with running(tmp_path, f"http://127.0.0.1:{free_port()}", addons=[AtConnect(lead)]) as proxy:
                assert (await proxy.ask(proxy.request())).endswith(b"{}")
            assert len(upstream.conversations) == 1

    run(main())


@pytest.mark.paths("on", "off")
def test_connections_to_upstreams_are_noted_in_hooks_and_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mitmproxy.proxy.server")

    async def main() -> None:
        hooks = Hooks()
        with RawUpstream(answer_all(CLOSING)) as upstream:
            async with running(tmp_path, upstream.url, addons=[hooks]) as proxy:
                await proxy.ask(proxy.request())
                await until(lambda: "server_disconnected" in hooks.called)
            assert hooks.of(Hooks.OF_UPSTREAMS) == ["server_connect", "server_connected", "server_disconnected"]
            said = [record.message for record in caplog.records if record.message.startswith("server ")]
            address = upstream.url.removeprefix("http://")
            assert said == [f"server connect {address}", f"server disconnect {address}"]

    run(main())
