import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
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
from support.gateway.processes import DEADLINE
from support.stores.stores import foreign_lock, rows
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all, json_response

from addon import failures
from addon.layers.client_http1 import MAX_AHEAD
from addon.plain.client_connection import ClientConnection
from addon.plain.upstream_connection import UpstreamConnection

pytestmark = [pytest.mark.paths("on", "off"), pytest.mark.usefixtures("_rows_at_once")]

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
HIGH_WATER = 64 * 1024
READ_AT_ONCE = 256 * 1024


def echo(conversation: Conversation) -> None:
    """Answer each request with its path."""
    while True:
        head, _ = conversation.read_message()
        conversation.send(json_response(head.split()[1].decode()))


@pytest.mark.parametrize("step", [1, 13])
def test_a_request_that_comes_in_pieces_is_served(tmp_path: Path, step: int) -> None:
    async def main() -> None:
        with RawUpstream(echo) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for path in ("/v1/a", "/v1/b"):
                    data = proxy.request(f"POST {path}", headers="", body='{"a": 1}').encode()
                    for start in range(0, len(data), step):
                        writer.write(data[start : start + step])
                        await asyncio.sleep(0)
                    assert head_and_body(await read_answer(reader))[2] == f'"{path}"'.encode()
                assert proxy.served in {0, 2}

    run(main())


def test_a_head_in_two_packets_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(echo) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for end in (3, 20, -3, -1):
                    data = proxy.request(headers="").encode()
                    writer.write(data[:end])
                    await asyncio.sleep(0.02)
                    writer.write(data[end:])
                    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                assert proxy.served in {0, 4}

    run(main())


def test_requests_that_are_sent_ahead_are_answered_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(echo) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                requests = [
                    proxy.request(
                        f"{'POST' if number % 3 else 'GET'} /v1/{number}", headers="", body="x" * (number % 3)
                    )
                    for number in range(20)
                ]
                writer.write("".join(requests).encode())
                for number in range(20):
                    assert head_and_body(await read_answer(reader))[2] == f'"/v1/{number}"'.encode()
                assert len(upstream.conversations) == 1

    run(main())


class Step:
    """A step of a request at which its client hangs up."""

    def __init__(
        self, sent: Callable[[Proxy], str], *, answer: bytes = b"", rows: int = 1, status: int | None = None
    ) -> None:
        self.sent = sent
        self.answer = answer
        self.rows = rows
        self.status = status


def whole(proxy: Proxy) -> str:
    return proxy.request("POST /v1/x", headers="", body="abc")


STEPS = {
    "before a head": Step(lambda _: "", rows=0),
    "within a head": Step(lambda proxy: whole(proxy)[:50], rows=0),
    "within a body": Step(lambda proxy: whole(proxy)[:-1], rows=0),
    "while it is admitted": Step(whole, status=503),
    "while it connects": Step(whole, status=503),
    "before the response": Step(whole),
    "within its head": Step(whole, answer=OK[:20]),
    "within a document": Step(whole, answer=OK[:-1], status=200),
    "within a stream": Step(whole, answer=SSE + b"data: x\n\n", status=200),
}


@contextlib.asynccontextmanager
async def reached(step: str, proxy: Proxy, upstream: RawUpstream, hooks: Hooks) -> AsyncIterator[None]:
    """Wait until a request is at a step, for the block; let it go on after that."""
    match step:
        case "before a head" | "within a head":
            await until(lambda: hooks.called)
            await asyncio.sleep(0.02)
            yield
        case "within a body":
            await until(lambda: "requestheaders" in hooks.called)
            yield
        case "while it is admitted":
            with foreign_lock(proxy.store):
                await until(lambda: "requestheaders" in hooks.called)
                yield
                await until(lambda: "client_disconnected" in hooks.called)
        case "while it connects":
            hold = HoldConnections()
            proxy.master.addons.add(hold)
            await hold.held.wait()
            yield
            await until(lambda: "client_disconnected" in hooks.called)
            hold.go_on.set()
        case "before the response" | "within its head":
            await until(lambda: b"abc" in upstream.received())
            await asyncio.sleep(0.02)
            yield
        case _:
            await until(lambda: "responseheaders" in hooks.called)
            yield


@pytest.mark.parametrize("name", STEPS)
def test_a_client_that_hangs_up_ends_its_request_once(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "addon.access_log")
    step = STEPS[name]

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read_body(3)
        conversation.send(step.answer)
        conversation.wait_until_closed()

    async def main() -> None:
        hooks = Hooks()
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url, addons=[hooks]) as proxy:
                async with contextlib.AsyncExitStack() as stack:
                    _reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                    writer.write(step.sent(proxy).encode())
                    await stack.enter_async_context(reached(name, proxy, upstream, hooks))
                    writer.transport.abort()
                    await asyncio.sleep(0.05)
                await until(lambda: "client_disconnected" in hooks.called and not proxy.exchanges)
                found = await settled(proxy)
                assert [row["status"] for row in found] == step.rows * [step.status]
                assert hooks.of(Hooks.OF_CLIENTS) == ["client_connected", "client_disconnected"]
                ended = [flow.error is not None for flow in proxy.flows]
                assert hooks.called.count("error") == len(ended) == ("requestheaders" in hooks.called)
                for conversation in upstream.conversations:
                    if conversation.received:
                        assert await asyncio.to_thread(conversation.closed.wait, DEADLINE)
        assert len([record for record in caplog.records if record.name == "addon.access_log"]) == len(proxy.flows)

    run(main())


async def settled(proxy: Proxy) -> list[dict[str, Any]]:
    """Return the rows of all requests, once they are settled."""
    await until(lambda: all(row["settled_at"] for row in rows(proxy.store, "request")))
    return rows(proxy.store, "request")


def client_side(proxy: Proxy) -> ClientConnection:
    """Return the plain path's side of the only client connection that is open."""
    writer = proxy.handler.transports[proxy.handler.client].writer
    assert isinstance(writer, asyncio.StreamWriter)
    protocol = writer.transport.get_protocol()
    assert isinstance(protocol, ClientConnection)
    return protocol


@pytest.mark.paths("on")
@pytest.mark.parametrize("head", [SSE, b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n"])
def test_what_a_slow_client_does_not_read_is_not_read_either(tmp_path: Path, head: bytes) -> None:
    size, sent = 20_000_000, threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(head)
        conversation.send(bytes(size))
        sent.set()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                await reader.readuntil(b"\r\n\r\n")
                await until(lambda: client_side(proxy).is_stalled)
                await asyncio.sleep(0.2)
                side, stream = client_side(proxy), client_side(proxy)._stream  # noqa: SLF001
                assert stream is not None
                assert side._transport.get_write_buffer_size() <= HIGH_WATER + READ_AT_ONCE  # noqa: SLF001
                assert buffered(stream._upstream) == 0  # noqa: SLF001
                assert not sent.is_set()
                assert len(await reader.readexactly(size)) == size
                await proxy.end_of_flow()
                assert not side.is_stalled

    run(main())


def buffered(upstream: UpstreamConnection | None) -> int:
    return 0 if upstream is None else len(upstream._buffer)  # noqa: SLF001


@pytest.mark.paths("on")
def test_a_client_that_does_not_read_gets_no_further_requests_served(tmp_path: Path) -> None:
    response = json_response("x" * 500_000)

    async def main() -> None:
        with RawUpstream(answer_all(response)) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                number = 60
                writer.write(number * proxy.request(headers="").encode())
                await until(lambda: client_side(proxy).is_stalled)
                await asyncio.sleep(0.2)
                assert proxy.served < number
                assert client_side(proxy)._transport.get_write_buffer_size() < HIGH_WATER + len(response) + 1000  # noqa: SLF001
                for _ in range(number):
                    assert (await read_answer(reader)).endswith(b'x"')
                assert proxy.served == number

    run(main())


@pytest.mark.paths("on")
def test_a_client_that_sends_too_much_ahead_is_hung_up_on(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                request = proxy.request(headers="").encode()
                writer.write(request + (MAX_AHEAD - len(request)) * b"x")
                await until(upstream.received)
                await asyncio.sleep(0.1)
                assert not reader.at_eof()
                writer.write((len(request) + 1) * b"x")
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                await proxy.end_of_flow()

    run(main())


def test_an_idle_client_is_hung_up_on_and_one_that_goes_on_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(echo) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=0.4) as proxy,
                proxy.connection() as (reader, writer),
            ):
                for _ in range(4):
                    writer.write(proxy.request(headers="").encode())
                    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                    await asyncio.sleep(0.2)
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""

    run(main())


@pytest.mark.paths("on")
@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"])
def test_a_client_that_takes_its_last_response_slowly_gets_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: str
) -> None:
    """It takes some of it within each `idle_timeout`, and all of it in several times that."""
    monkeypatch.setattr(failures, "LINGER", 0.3)
    response = json_response("x" * 400_000)

    async def main() -> None:
        with RawUpstream(answer_all(response)) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=0.3) as proxy,
                proxy.connection(receive_buffer=4096) as (reader, writer),
            ):
                await until(lambda: proxy.handler)
                sock = client_side(proxy)._transport.get_extra_info("socket")  # noqa: SLF001
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                writer.write(proxy.request(headers=headers).encode())
                size = 0
                while piece := await reader.read(16384):
                    size += len(piece)
                    await asyncio.sleep(0.03)
                assert size > len(response)  # the gateway adds headers

    run(main())


def test_headers_that_do_not_end_are_refused_in_time_from_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "HEADERS_TIMEOUT", 0.3)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            answer = asyncio.create_task(reader.read())
            for byte in proxy.request():
                writer.write(byte.encode())
                await asyncio.wait({answer}, timeout=0.05)
                if answer.done():
                    break
            assert_json_error(await asyncio.wait_for(answer, DEADLINE), 408, "request_timeout")

    run(main())


def test_the_rest_of_a_refused_request_is_no_request(tmp_path: Path) -> None:
    """Its body looks like one."""

    async def main() -> None:
        with RawUpstream(echo) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                hidden = proxy.request("GET /v1/hidden", headers="")
                refused = proxy.request("POST /v2", headers="", body=hidden).encode()
                writer.write(refused[: -len(hidden)])
                assert_json_error(await read_answer(reader), 404, "not_found")
                writer.write(hidden.encode() + proxy.request("GET /v1/next", headers="").encode())
                assert head_and_body(await read_answer(reader))[2] == b'"/v1/next"'
            assert b"hidden" not in upstream.received()

    run(main())
