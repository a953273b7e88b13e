"""Clients that do not read, upstreams that do not end, and requests after the last one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mitmproxy import http
from support.gateway.inprocess import CLOSE, Proxy, head_and_body, read_answer, run, running
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon import failures
from addon.layers.client_http1 import MAX_AHEAD
from addon.plain import response_reader, upstream_connection

MOST_KEPT = 512 * 1024
BODIES = {b"/v1/large": 4 * 1024 * 1024, b"/v1/medium": 500_000}
IN_ONE_PIECE = b"/v1/piece"
PIECE = bytes(100_000)


def answer(conversation: Conversation) -> None:
    """Answer with a body of the path's size."""
    while True:
        path = conversation.read_head().split(b" ")[1]
        if path == IN_ONE_PIECE:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(PIECE)
            conversation.send(head + PIECE)
        elif path in BODIES:
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODIES[path] + bytes(BODIES[path]))
        else:
            conversation.send(OK)


class SilentClient:
    """A client on a connection with little room, which reads only when it is asked to."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        assert isinstance(writer.transport, asyncio.Transport)
        self._transport = writer.transport
        ours = proxy.handler.transports[proxy.handler.client].writer
        assert isinstance(ours, asyncio.StreamWriter)
        self._ours = ours

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, proxy: Proxy, room: int = 65_536) -> AsyncIterator["SilentClient"]:
        async with proxy.connection() as (reader, writer):
            writer.write(proxy.request(headers="").encode())
            assert head_and_body(await read_answer(reader))[2] == b"{}"
            client = cls(proxy, reader, writer)
            for one, buffer in ((writer, socket.SO_RCVBUF), (client._ours, socket.SO_SNDBUF)):
                one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, room)
            client._transport.pause_reading()
            yield client

    @property
    def kept(self) -> int:
        """The bytes that the proxy keeps for this client."""
        return self._ours.transport.get_write_buffer_size()

    async def make_wait(self, data: str) -> None:
        """Send, and wait until the proxy keeps something for this client, and no more for a while."""
        self.writer.write(data.encode())
        before, same = 0, 0
        while same < 20:
            await asyncio.sleep(0.01)
            same = same + 1 if self.kept == before > 0 else 0
            before = self.kept

    async def send_without_end(self) -> None:
        """Send until the connection is closed. Raises ConnectionError."""
        while True:
            self.writer.write(bytes(MAX_AHEAD // 10))
            await self.writer.drain()

    async def read(self) -> bytes:
        """Return the body of the next response."""
        self._transport.resume_reading()
        return head_and_body(await read_answer(self.reader))[2]


def get(proxy: Proxy, path: bytes) -> str:
    return proxy.request(f"GET {path.decode()}", headers="")


def test_a_client_that_does_not_read_holds_up_its_next_requests(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, SilentClient.connect(proxy) as client:
                paths = [b"/v1/medium", b"/v1/large", b"/v1/medium", b"/v1/large"]
                await client.make_wait("".join(get(proxy, path) for path in paths))
                assert client.kept < BODIES[b"/v1/medium"] + MOST_KEPT
                assert upstream.received().count(b"GET ") == 2
                for path in paths:
                    assert await client.read() == bytes(BODIES[path])

    run(main())


def test_an_upstream_of_a_client_that_does_not_read_serves_others(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, SilentClient.connect(proxy, 4096) as client:
                await client.make_wait(get(proxy, IN_ONE_PIECE))
                other = await asyncio.wait_for(proxy.ask(proxy.request()), DEADLINE / 2)
                assert head_and_body(other)[::2] == (200, b"{}")
                assert len(upstream.conversations) == 1
                assert await client.read() == PIECE

    run(main())


def test_a_request_for_the_layers_waits_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, SilentClient.connect(proxy) as client:
                await client.make_wait(get(proxy, b"/v1/medium") + proxy.request(headers=f"Upgrade: x\r\n{CLOSE}"))
                assert upstream.received().count(b"GET ") == 2
                assert await client.read() == bytes(BODIES[b"/v1/medium"])
                assert head_and_body(await client.reader.read())[::2] == (200, b"{}")

    run(main())


def test_a_client_that_does_not_read_may_not_send_without_end(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, SilentClient.connect(proxy) as client:
                await client.make_wait(get(proxy, b"/v1/medium"))
                with pytest.raises(ConnectionError):
                    await asyncio.wait_for(client.send_without_end(), DEADLINE)

    run(main())


@pytest.mark.parametrize("path", [*BODIES, IN_ONE_PIECE])
def test_a_client_that_never_reads_is_cut(tmp_path: Path, path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "LINGER", 0.2)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=1) as proxy,
                SilentClient.connect(proxy, 4096) as client,
            ):
                await client.make_wait(get(proxy, path) * 2)
                while client.kept:
                    await asyncio.sleep(0.01)
            assert upstream.received().count(path) == 1

    run(main())


def test_nothing_is_read_after_the_last_request(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request("POST /v2/x", headers=f"{CLOSE}Content-Length: 3\r\n").encode())
                assert head_and_body(await read_answer(reader))[0] == 404
                writer.write(b"abc" + proxy.request().encode())
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            assert upstream.received() == b""
            assert len(proxy.flows) == 1

    run(main())


def test_interim_responses_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def read_head(data: bytes) -> tuple[http.Response | None, bytes]:
        sizes.append(len(data))
        return response_reader.read_head(data)

    monkeypatch.setattr(upstream_connection, "read_head", read_head)

    async def main() -> None:
        def answer(conversation: Conversation) -> None:
            conversation.read_head()
            for _ in range(40):
                conversation.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
            conversation.send(OK)

        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert head_and_body(await proxy.ask(proxy.request()))[::2] == (200, b"{}")
        assert max(sizes) < MOST_KEPT

    run(main())
