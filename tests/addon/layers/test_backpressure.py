import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mitmproxy.connection import Client
from support.clients.http2 import Http2Client
from support.gateway.inprocess import HoldConnections, Proxy, read_answer, run, running
from support.gateway.processes import DEADLINE
from support.stores.stores import foreign_lock
from support.upstreams.upstreams import Conversation, RawUpstream

from addon.layers import backpressure
from addon.layers.backpressure import MOST, Backlog, PatientReader
from addon.layers.client_http2 import ClientHttp2

SIZE = 20_000_000
READ_AT_ONCE = 65_536
UPLOAD = f"Content-Length: {SIZE}\r\n"


def answer_upload(conversation: Conversation) -> None:
    conversation.read_head()
    received = len(conversation.received)
    while received < SIZE:  # not kept: that takes long
        received += len(conversation.sock.recv(1_000_000))
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def waiting(proxy: Proxy) -> int:
    """Return how many bytes wait before streams that wait themselves."""
    queues = [stream._paused_event_queue for stream in proxy.layer.streams.values()]  # noqa: SLF001
    return sum(len(getattr(event, "data", b"")) for queue in queues for event in queue)


@contextlib.asynccontextmanager
async def uploading(writer: asyncio.StreamWriter, proxy: Proxy) -> AsyncIterator[None]:
    writer.write(proxy.request("POST /v1/x", headers=UPLOAD).encode() + bytes(SIZE))
    draining = asyncio.create_task(writer.drain())
    yield
    await asyncio.wait_for(draining, DEADLINE)


async def assert_bounded(proxy: Proxy) -> None:
    await asyncio.sleep(0.5)
    assert MOST < waiting(proxy) <= MOST + READ_AT_ONCE


def test_an_upload_that_waits_for_the_store_is_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_upload) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                with foreign_lock(proxy.store) as lock:
                    async with uploading(writer, proxy):
                        await assert_bounded(proxy)
                        lock.execute("ROLLBACK")
                assert (await asyncio.wait_for(read_answer(reader), DEADLINE)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_an_upload_that_waits_for_a_connection_is_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_upload) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                hold = HoldConnections()
                proxy.master.addons.add(hold)
                async with uploading(writer, proxy):
                    await assert_bounded(proxy)
                    hold.go_on.set()
                assert (await asyncio.wait_for(read_answer(reader), DEADLINE)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_a_client_that_leaves_while_it_is_held_is_released(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_upload) as upstream:
            async with running(tmp_path, upstream.url, connect_timeout=0.3) as proxy:
                proxy.master.addons.add(HoldConnections())
                async with proxy.connection() as (_, writer):
                    writer.write(proxy.request("POST /v1/x", headers=UPLOAD).encode() + bytes(SIZE))
                    await asyncio.sleep(0.1)
                    writer.transport.abort()
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_response_that_an_http2_client_does_not_read_is_not_read_either(tmp_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode() + bytes(SIZE))
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                stream = client.get("/v1/x", proxy.token.value)
                await asyncio.sleep(0.5)
                codec = proxy.layer.connections[proxy.layer.context.client]
                assert isinstance(codec, ClientHttp2)
                kept = sum(len(piece.data) for pieces in codec.h2_conn.stream_buffers.values() for piece in pieces)
                assert 0 < kept <= READ_AT_ONCE
                assert await client.status(stream) == 200  # it reads all of it

    run(main())


def test_reading_goes_on_after_data_is_processed_or_its_stream_ends() -> None:
    async def main() -> None:
        client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2))
        reader = asyncio.StreamReader()
        reader.feed_data(b"abc")
        patient, backlog = PatientReader(reader, client), Backlog(client)
        backlog.add(1, MOST)
        assert await patient.read(1) == b"a"
        backlog.add(3, 1)
        reading = asyncio.create_task(patient.read(1))
        await asyncio.sleep(0)
        assert not reading.done()
        backlog.clear(3)
        assert await asyncio.wait_for(reading, 1) == b"b"
        backlog.add(1, 1)
        backpressure.release(client)
        assert await asyncio.wait_for(patient.read(1), 1) == b"c"

    run(main())
