import asyncio
import contextlib
import json
import resource
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from mitmproxy.addons.clientplayback import ClientPlayback
from mitmproxy.addons.view import View
from mitmproxy.proxy.layers.http import Http2Client as UpstreamHttp2
from support.clients.http2 import Http2Client
from support.gateway.inprocess import (
    CLOSE,
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
from support.gateway.judging import REFUSED, Judge
from support.gateway.processes import DEADLINE, free_port
from support.network.certificates import Authority
from support.network.forward_proxy import ForwardProxy
from support.stores.stores import API_KEY
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon.inspector.operator_view import OperatorView
from addon.spool import PIECE
from store.management.tokens import Tokens

MIB = 1024 * 1024
BODY = bytes(range(256)) * (3 * MIB // 256)
LARGE = 16 * MIB
"""More than the sockets on the way take while the upstream does not read."""
LAST_CHUNK = b"\r\n0\r\n\r\n"
"""With the end of the chunk before it: a header may end with a zero, too."""


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    judge = Judge()
    judge.install(monkeypatch)
    return judge


class Reads:
    """Reads each body whole, keeps it, and answers."""

    def __init__(self, response: bytes = OK) -> None:
        self.bodies: list[bytes] = []
        self._response = response

    def __call__(self, conversation: Conversation) -> None:
        while True:
            head = conversation.read_head().lower()
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), None)
            self.bodies.append(_chunked(conversation) if length is None else _plain(conversation, length))
            conversation.send(self._response)


class Upstream(RawUpstream):
    """It reads all bodies, and answers."""

    def __init__(self, response: bytes = OK) -> None:
        self._reads = Reads(response)
        super().__init__(self._reads)

    @property
    def bodies(self) -> list[bytes]:
        return self._reads.bodies


def _plain(conversation: Conversation, length: int) -> bytes:
    body = conversation.received.partition(b"\r\n\r\n")[2]
    rest = bytearray(body)
    while len(rest) < length:
        rest += conversation.sock.recv(MIB) or _gone()
    conversation.received = b""
    return bytes(rest)


def _chunked(conversation: Conversation) -> bytes:
    raw = bytearray(conversation.received.partition(b"\r\n\r\n")[2])
    while not raw.endswith(b"0\r\n\r\n"):
        raw += conversation.sock.recv(MIB) or _gone()
    conversation.received = b""
    body, rest = b"", bytes(raw)
    while rest != b"0\r\n\r\n":
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def _gone() -> bytes:
    raise ConnectionError("the proxy hung up")


def chunks(body: bytes, step: int = 100_000) -> bytes:
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def head(proxy: Proxy, framing: str, *, headers: str = "") -> bytes:
    return proxy.request("POST /v1/x", headers=f"{framing}\r\n{headers}").encode()


def upload(proxy: Proxy, body: bytes = BODY, *, headers: str = "") -> bytes:
    return head(proxy, f"Content-Length: {len(body)}", headers=headers) + body


def chunked(proxy: Proxy, body: bytes = BODY, *, headers: str = "") -> bytes:
    return head(proxy, "Transfer-Encoding: chunked", headers=headers) + chunks(body)


async def answered(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(read_answer(reader), DEADLINE)


async def assert_ended(proxy: Proxy, judge: Judge) -> None:
    """Check that the exchange ends, and its spool with it."""
    await until(lambda: not proxy.exchanges)
    assert all(spool.is_closed for spool in judge.spools)


def counted(proxy: Proxy) -> int:
    return Tokens(proxy.store).get(proxy.token.id).request_count


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("make", [upload, chunked])
def test_a_body_is_seen_whole_and_passes_unchanged(
    tmp_path: Path, judge: Judge, make: Callable[[Proxy], bytes]
) -> None:
    async def main() -> None:
        hooks = Hooks()
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, addons=[hooks]) as proxy,
                proxy.connection() as (reader, writer),
            ):
                for _ in range(2):  # over one connection
                    writer.write(make(proxy))
                    assert head_and_body(await answered(reader))[0] == 200
                await assert_ended(proxy, judge)
                assert counted(proxy) == 2
                assert [flow.request.raw_content for flow in proxy.flows] == [None, None]
            assert upstream.bodies == [BODY, BODY]
            assert len(upstream.conversations) == 1
            assert API_KEY.encode() not in b"".join(upstream.bodies)
        assert hooks.of(Hooks.OF_FLOWS) == ["requestheaders", "request", "responseheaders", "response"] * 2
        assert judge.asked == len(judge.spools) == 2

    run(main())


@pytest.mark.parametrize("body", [BODY, b"small"])
def test_a_body_over_http2_is_seen_whole(tmp_path: Path, judge: Judge, body: bytes) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                stream = client.begin("POST", "/v1/x", proxy.token.value)
                await client.send_all(stream, body)
                assert await client.status(stream) == 200
                await assert_ended(proxy, judge)
                assert counted(proxy) == 1
            assert judge.asked == 1
            assert upstream.bodies == [body]

    run(main())


@pytest.mark.parametrize("ends_with_headers", [False, True])
def test_an_empty_body_over_http2_is_none(tmp_path: Path, judge: Judge, ends_with_headers: bool) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                stream = client.begin("POST", "/v1/x", proxy.token.value, end_stream=ends_with_headers)
                if not ends_with_headers:
                    await client.send_all(stream, b"")
                assert await client.status(stream) == 200
                await assert_ended(proxy, judge)
                assert counted(proxy) == 1
            assert judge.asked == 1
            assert b"transfer-encoding" not in upstream.received().lower()

    run(main())


def test_nothing_goes_upstream_before_the_body_has_been_judged(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        judge.may_decide = asyncio.Event()
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                request = upload(proxy)
                writer.write(request[:-1])
                await until(lambda: proxy.exchanges)
                await until(lambda: _spooled(proxy) == len(BODY) - 1)
                assert not judge.has_body.is_set()
                writer.write(request[-1:])
                await asyncio.wait_for(judge.has_body.wait(), DEADLINE)
                assert (upstream.conversations, counted(proxy)) == ([], 0)
                judge.may_decide.set()
                assert head_and_body(await answered(reader))[0] == 200
                await assert_ended(proxy, judge)
            assert upstream.bodies == [BODY]

    run(main())


def _spooled(proxy: Proxy) -> int:
    """Return the bytes in the spool of the only exchange that is under way; 0 if it has none yet."""
    exchanges = [proxy.exchanges.get(flow_id) for flow_id in proxy.exchanges.all()]
    return sum(exchange.spool.size for exchange in exchanges if exchange and exchange.spool)


@pytest.mark.paths("on", "off")
@pytest.mark.parametrize("make", [upload, chunked])
def test_a_body_that_is_refused_leaves_the_connection_usable(
    tmp_path: Path, judge: Judge, make: Callable[..., bytes]
) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(make(proxy, REFUSED + BODY))
                assert_json_error(await answered(reader), 403, "endpoint_not_allowed")
                await assert_ended(proxy, judge)
                assert (upstream.conversations, counted(proxy)) == ([], 0)
                writer.write(make(proxy))
                assert head_and_body(await answered(reader))[0] == 200
            assert upstream.bodies == [BODY]

    run(main())


def test_a_body_that_is_refused_over_http2_harms_no_other_stream(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                streams = [client.begin("POST", "/v1/x", proxy.token.value) for _ in range(3)]
                for stream, start in zip(streams, (b"", REFUSED, b""), strict=True):
                    await client.send_all(stream, start + BODY)
                assert [await client.status(stream) for stream in streams] == [200, 403, 200]
                assert json.loads(client.body(streams[1]))["code"] == "endpoint_not_allowed"
                await assert_ended(proxy, judge)
            assert upstream.bodies == [BODY, BODY]

    run(main())


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_length_above_the_limit_is_refused_at_once(tmp_path: Path, judge: Judge, expect: str) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, max_spool=2 * MIB) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(head(proxy, f"Content-Length: {2 * MIB + 1}", headers=expect))
                answer = await answered(reader)
                assert_json_error(answer, 413, "request_too_large")
                message = json.loads(head_and_body(answer)[2])["message"]
                assert "policies" in message
                assert f"{2 * MIB} bytes" in message
                assert "MAX_SPOOL" in message
                await assert_ended(proxy, judge)
                assert counted(proxy) == 0
            assert upstream.conversations == []

    run(main())


def test_a_length_at_the_limit_passes(tmp_path: Path) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, max_spool=len(BODY)) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(upload(proxy))
                assert head_and_body(await answered(reader))[0] == 200
            assert upstream.bodies == [BODY]

    run(main())


@pytest.mark.parametrize("max_spool", [10, 2 * MIB])
def test_a_chunked_body_that_outgrows_the_limit_is_refused_while_it_comes(
    tmp_path: Path, judge: Judge, max_spool: int
) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, max_spool=max_spool) as proxy,
                proxy.connection() as (reader, writer),
            ):
                sent = max_spool + 1
                writer.write(head(proxy, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (sent, bytes(sent)))
                answer = await answered(reader)  # the last chunk has not come
                assert_json_error(answer, 413, "request_too_large")
                assert b"MAX_SPOOL" in answer
                await assert_ended(proxy, judge)
                writer.write(b"5\r\nabcde\r\n0\r\n\r\n" + proxy.request("GET /health", headers=CLOSE).encode())
                assert head_and_body(await asyncio.wait_for(reader.read(), DEADLINE))[0] == 200
            assert (upstream.conversations, judge.spools) == ([], [])

    run(main())


def test_a_body_over_http2_that_outgrows_the_limit_is_refused_while_it_comes(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, max_spool=100) as proxy,
                Http2Client.connect(proxy.port) as client,
            ):
                stream = client.begin("POST", "/v1/x", proxy.token.value)
                client.send(stream, bytes(101))
                assert await client.status(stream) == 413
                assert b"MAX_SPOOL" in client.body(stream)
                await assert_ended(proxy, judge)
            assert upstream.conversations == []

    run(main())


@pytest.mark.parametrize("make", [upload, chunked])
def test_a_client_that_waits_for_100_continue_is_asked_for_its_body(tmp_path: Path, make: Callable[..., bytes]) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                start, _, body = make(proxy, headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
                writer.write(start + b"\r\n\r\n")
                interim = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
                assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
                assert upstream.conversations == []
                writer.write(body)
                assert head_and_body(await answered(reader))[0] == 200
            assert upstream.bodies == [BODY]

    run(main())


def test_a_client_that_hangs_up_while_it_sends_leaves_nothing(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                async with proxy.connection() as (_, writer):
                    writer.write(upload(proxy)[:-1])
                    await until(lambda: _spooled(proxy) == len(BODY) - 1)
                    (exchange,) = [proxy.exchanges.get(flow_id) for flow_id in proxy.exchanges.all()]
                    assert exchange is not None
                    spool = exchange.spool
                await assert_ended(proxy, judge)
                assert spool is not None
                assert spool.is_closed
                assert counted(proxy) == 0
            assert upstream.conversations == []

    run(main())


def test_a_client_that_hangs_up_while_its_body_is_judged_leaves_nothing(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        judge.may_decide = asyncio.Event()
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                async with proxy.connection() as (_, writer):
                    writer.write(upload(proxy))
                    await asyncio.wait_for(judge.has_body.wait(), DEADLINE)
                await until(lambda: proxy.exchanges.all() and proxy.exchanges.get(proxy.exchanges.all()[0]).abandoned)  # type: ignore[union-attr]
                judge.may_decide.set()
                await assert_ended(proxy, judge)
            assert upstream.received() == b""

    run(main())


def test_a_client_that_hangs_up_while_a_connection_is_opened_leaves_nothing(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        hold = HoldConnections()
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url, addons=[hold], connect_timeout=0.5) as proxy:
                async with proxy.connection() as (_, writer):
                    writer.write(upload(proxy))
                    await asyncio.wait_for(hold.held.wait(), DEADLINE)
                await assert_ended(proxy, judge)
            assert upstream.received() == b""

    run(main())


class Stuck:
    """An upstream that reads a request's head, and the rest once it may."""

    def __init__(self, response: bytes = b"") -> None:
        self.may_read = threading.Event()
        self.has_head = threading.Event()
        self.received = 0
        self._response = response

    def __call__(self, conversation: Conversation) -> None:
        conversation.read_head()
        self.received = len(conversation.received.partition(b"\r\n\r\n")[2])
        if self._response:
            conversation.send(self._response)
        self.has_head.set()
        self.may_read.wait(DEADLINE)
        while data := conversation.sock.recv(MIB):
            self.received += len(data)
            if self.received == LARGE:
                conversation.send(OK)


@contextlib.asynccontextmanager
async def uploading_to(acts: Stuck, folder: Path, **settings: Any) -> AsyncIterator[tuple[Proxy, asyncio.StreamReader]]:
    """Yield a proxy whose upstream does not take a large body, and the reader of its client."""
    with RawUpstream(acts) as upstream:
        async with running(folder, upstream.url, **settings) as proxy, proxy.connection() as (reader, writer):
            writer.write(upload(proxy, bytes(LARGE)))
            await asyncio.wait_for(writer.drain(), DEADLINE)
            await until(acts.has_head.is_set)
            try:
                yield proxy, reader
            finally:
                acts.may_read.set()


def buffered(proxy: Proxy) -> int:
    """Return the bytes that wait in the buffers of the only client's upstream sockets."""
    handler = proxy.handler
    transports = [io.writer.transport for peer, io in handler.transports.items() if peer is not handler.client]  # type: ignore[union-attr]
    return sum(transport.get_write_buffer_size() for transport in transports)


def test_a_slow_upstream_gets_one_piece_at_a_time(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        slow = Stuck()
        async with uploading_to(slow, tmp_path) as (proxy, reader):
            await until(lambda: buffered(proxy) > 0)
            await asyncio.sleep(0.1)
            assert 0 < buffered(proxy) <= 2 * PIECE
            slow.may_read.set()
            assert head_and_body(await answered(reader))[0] == 200
            assert slow.received == LARGE
            await assert_ended(proxy, judge)

    run(main())


def test_a_client_that_hangs_up_while_its_body_goes_upstream_cuts_the_upstream(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        slow = Stuck()
        with RawUpstream(slow) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                async with proxy.connection() as (_, writer):
                    writer.write(upload(proxy, bytes(LARGE)))
                    await until(slow.has_head.is_set)
                await assert_ended(proxy, judge)
                slow.may_read.set()
                await until(upstream.conversations[0].closed.is_set)
                assert slow.received < LARGE
                assert counted(proxy) == 1

    run(main())


def test_an_http2_client_that_resets_a_stream_harms_no_other(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        slow = Stuck()
        with RawUpstream(slow) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                coming, going = [client.begin("POST", "/v1/x", proxy.token.value) for _ in range(2)]
                client.send(coming, b"some of it")
                await client.send_all(going, bytes(LARGE))
                await until(slow.has_head.is_set)
                assert len(proxy.exchanges) == 2
                client.reset(coming)
                client.reset(going)
                await assert_ended(proxy, judge)
                slow.may_read.set()
                await until(upstream.conversations[0].closed.is_set)
                assert slow.received < LARGE
                upstream.answer = reads = Reads()
                stream = client.begin("POST", "/v1/x", proxy.token.value)
                await client.send_all(stream, BODY)
                assert await client.status(stream) == 200
                assert reads.bodies == [BODY]

    run(main())


def test_an_upstream_that_rejects_the_key_before_it_has_read_the_body_is_a_503(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        rejects = Stuck(OK.replace(b"200 OK", b"401 Unauthorized"))
        async with uploading_to(rejects, tmp_path) as (proxy, reader):
            assert_json_error(await answered(reader), 503, "upstream_key_rejected")
            await assert_ended(proxy, judge)
            rejects.may_read.set()

    run(main())


def test_an_upstream_that_stops_reading_is_given_up(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        async with uploading_to(Stuck(), tmp_path, idle_timeout=0.5) as (proxy, reader):
            assert_json_error(await answered(reader), 504, "upstream_timeout")
            await assert_ended(proxy, judge)

    run(main())


def test_an_upstream_that_answers_before_it_has_read_the_body_ends_the_request(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        full = Stuck(OK.replace(b"200 OK", b"413 Too Large"))
        async with uploading_to(full, tmp_path) as (proxy, reader):
            assert head_and_body(await answered(reader))[0] == 413
            await assert_ended(proxy, judge)
            full.may_read.set()

    run(main())


def test_the_connection_of_a_client_is_usable_after_an_early_response(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        early = b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        full = Stuck(early)
        with RawUpstream(full) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(upload(proxy, bytes(LARGE)))
                answer = await asyncio.wait_for(reader.readuntil(LAST_CHUNK), DEADLINE)  # its end, too
                assert answer.startswith(b"HTTP/1.1 413 ")
                await assert_ended(proxy, judge)
                full.may_read.set()
                await until(upstream.conversations[0].closed.is_set)
                assert full.received < LARGE
                upstream.answer = Reads()
                writer.write(upload(proxy))
                assert head_and_body(await answered(reader))[0] == 200
                assert len(upstream.conversations) == 2

    run(main())


def test_a_response_that_begins_early_does_not_stop_the_body(tmp_path: Path, judge: Judge) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        size = len(_plain(conversation, LARGE))
        text = b"data: %d\n\n" % size
        conversation.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(upload(proxy, bytes(LARGE)))
                assert b"data: %d" % LARGE in await asyncio.wait_for(reader.readuntil(LAST_CHUNK), DEADLINE)
                await assert_ended(proxy, judge)

    run(main())


def test_an_upstream_that_closes_while_it_gets_the_body_is_a_503(tmp_path: Path, judge: Judge) -> None:
    def close(conversation: Conversation) -> None:
        conversation.read_head()

    async def main() -> None:
        with RawUpstream(close) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for _ in range(2):  # over one connection
                    writer.write(upload(proxy, bytes(LARGE)))
                    assert_json_error(await answered(reader), 503, "service_unavailable")
                    await assert_ended(proxy, judge)

    run(main())


def test_an_upstream_that_is_down_is_a_503_and_the_connection_stays_usable(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        async with (
            running(tmp_path, f"http://127.0.0.1:{free_port()}") as proxy,
            proxy.connection() as (reader, writer),
        ):
            for make in (upload, chunked):
                writer.write(make(proxy))
                assert_json_error(await answered(reader), 503, "service_unavailable")
                await assert_ended(proxy, judge)

    run(main())


def test_a_connection_that_does_not_open_in_time_is_a_503(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, addons=[HoldConnections()], connect_timeout=0.3) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(upload(proxy))
                assert_json_error(await answered(reader), 503, "service_unavailable")
                await assert_ended(proxy, judge)

    run(main())


def test_the_time_of_the_first_byte_begins_with_the_end_of_the_body_towards_the_upstream(
    tmp_path: Path, judge: Judge
) -> None:
    slow = Stuck()

    async def main() -> None:
        async with uploading_to(slow, tmp_path, first_byte_timeout=0.4) as (proxy, reader):
            await asyncio.sleep(0.6)  # longer than it, while the body goes upstream
            assert len(proxy.exchanges) == 1
            slow.may_read.set()
            assert head_and_body(await answered(reader))[0] == 200
            await assert_ended(proxy, judge)

    run(main())


def test_an_upstream_that_does_not_answer_is_a_504(tmp_path: Path, judge: Judge) -> None:
    def read(conversation: Conversation) -> None:
        conversation.read_head()
        _plain(conversation, len(BODY))
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(read) as upstream:
            async with (
                running(tmp_path, upstream.url, first_byte_timeout=0.4, idle_timeout=60) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(upload(proxy))
                assert_json_error(await answered(reader), 504, "upstream_timeout")
                await assert_ended(proxy, judge)

    run(main())


def test_a_client_that_does_not_go_on_is_a_408(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=0.5) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(upload(proxy)[:-1])
                assert_json_error(await answered(reader), 408, "request_timeout")
                await assert_ended(proxy, judge)
                assert counted(proxy) == 0
            assert upstream.conversations == []

    run(main())


def test_a_client_that_sends_malformed_chunks_gets_a_400(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                answer = await proxy.ask(head(proxy, "Transfer-Encoding: chunked") + b"3\r\nabc\r\nnonsense\r\n")
                assert_json_error(answer, 400, "invalid_request")
                await assert_ended(proxy, judge)
            assert upstream.conversations == []

    run(main())


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 8 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_body_for_which_there_is_no_room_is_a_503(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(upload(proxy, bytes(LARGE)))
                answer = await answered(reader)
                assert_json_error(answer, 503, "service_unavailable")
                assert b"cannot keep the request's body" in answer
                await assert_ended(proxy, judge)
                assert counted(proxy) == 0
                assert proxy.errors.messages == ["a request's body cannot be kept: File too large"]
                proxy.errors.messages.clear()
            assert upstream.conversations == []

    run(main())


def test_a_spool_that_fails_on_the_way_cuts_the_upstream(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        slow = Stuck()
        async with uploading_to(slow, tmp_path) as (proxy, reader):
            judge.spools[0]._file.truncate(0)  # noqa: SLF001 - as a broken disk would
            slow.may_read.set()
            assert_json_error(await answered(reader), 503, "service_unavailable")
            await assert_ended(proxy, judge)
            assert slow.received < LARGE
            assert len(proxy.errors.messages) == 1
            proxy.errors.messages.clear()

    run(main())


def test_a_process_that_ends_waits_for_a_body_that_still_comes(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                request = upload(proxy)
                writer.write(request[:-1])
                await until(lambda: _spooled(proxy) == len(BODY) - 1)
                draining = asyncio.create_task(proxy.exchanges.drain())
                writer.write(request[-1:])
                status, headers, _ = head_and_body(await answered(reader))
                assert (status, headers["connection"]) == (200, "close")
                await asyncio.wait_for(draining, DEADLINE)
                await assert_ended(proxy, judge)

    run(main())


def test_the_usage_is_read_and_mitmweb_copies_the_body(tmp_path: Path) -> None:
    asked = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 2 * MIB}]}).encode()
    used = json.dumps({"model": "gpt-4o-mini-2024-07-18", "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(used)}\r\n\r\n{used}".encode()

    async def main() -> None:
        with Upstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                proxy.master.addons.add(OperatorView(proxy.gateway._settings, View()))  # noqa: SLF001
                writer.write(
                    proxy.request(
                        "POST /v1/chat/completions",
                        headers=f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n",
                    ).encode()
                    + asked
                )
                assert head_and_body(await answered(reader))[0] == 200
                flow = await proxy.end_of_flow()
                assert flow.request.raw_content == asked[:MIB]
                assert flow.metadata["llm_proxy_request_passed"] == len(asked)
                assert flow.metadata["llm_proxy_used"][:3] == ["gpt-4o-mini-2024-07-18", 7, 2]

    run(main())


@pytest.mark.parametrize("forwarded", [False, True], ids=["directly", "through a forward proxy"])
def test_a_slow_upstream_with_tls_gets_one_piece_at_a_time(tmp_path: Path, judge: Judge, forwarded: bool) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        slow = Stuck()
        with RawUpstream(slow, tls=authority.server("localhost")) as upstream, contextlib.ExitStack() as stack:
            settings: dict[str, Any] = {"upstream_ca_file": authority.file}
            if forwarded:
                forward = stack.enter_context(ForwardProxy({f"localhost:{upstream.port}": upstream.port}))
                settings |= {"https_proxy": f"127.0.0.1:{forward.port}", "no_proxy": ""}
            url = f"https://localhost:{upstream.port}"
            async with running(tmp_path, url, **settings) as proxy, proxy.connection() as (reader, writer):
                writer.write(upload(proxy, bytes(LARGE)))
                await until(slow.has_head.is_set)
                if not forwarded:  # the tests' forward proxy reads ahead
                    await until(lambda: buffered(proxy) > 0)
                    await asyncio.sleep(0.1)
                    assert 0 < buffered(proxy) <= 3 * PIECE
                slow.may_read.set()
                assert head_and_body(await answered(reader))[0] == 200
                assert slow.received == LARGE
                await assert_ended(proxy, judge)

    run(main())


class Http2Upstream:
    """Speaks HTTP/2 over TLS: it reads a body, and opens the window for it once it may."""

    def __init__(self) -> None:
        self.may_read = threading.Event()
        self.received = 0

    def __call__(self, conversation: Conversation) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        conversation.send(connection.data_to_send())
        unread: list[tuple[int, int]] = []
        conversation.sock.settimeout(0.01)
        while True:
            with contextlib.suppress(TimeoutError):
                for event in connection.receive_data(conversation.sock.recv(MIB) or _gone()):
                    if isinstance(event, h2.events.DataReceived):
                        self.received += len(event.data)
                        unread.append((event.flow_controlled_length, event.stream_id))
                    elif isinstance(event, h2.events.StreamEnded):
                        connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "2")])
                        connection.send_data(event.stream_id, b"{}", end_stream=True)
            while self.may_read.is_set() and unread:
                connection.acknowledge_received_data(*unread.pop())
            conversation.send(connection.data_to_send())


def test_an_upstream_whose_http2_window_is_used_up_gets_one_piece_at_a_time(tmp_path: Path, judge: Judge) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        tls, slow = authority.server("localhost"), Http2Upstream()
        tls.set_alpn_protocols(["h2"])
        with RawUpstream(slow, tls=tls) as upstream:
            url = f"https://localhost:{upstream.port}"
            async with (
                running(tmp_path, url, upstream_ca_file=authority.file) as proxy,
                Http2Client.connect(proxy.port) as client,
            ):
                streams = [client.begin("POST", "/v1/x", proxy.token.value) for _ in range(2)]
                for stream in streams:
                    await client.send_all(stream, BODY)
                await until(lambda: _waiting(proxy))
                await asyncio.sleep(0.1)
                assert 0 < _waiting(proxy) <= 2 * PIECE
                slow.may_read.set()
                assert [await client.status(stream) for stream in streams] == [200, 200]
                assert slow.received == 2 * len(BODY)
                await assert_ended(proxy, judge)
                assert len(upstream.conversations) == 1

    run(main())


def test_an_upstream_whose_http2_window_stays_used_up_is_given_up(tmp_path: Path, judge: Judge) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        tls = authority.server("localhost")
        tls.set_alpn_protocols(["h2"])
        with RawUpstream(Http2Upstream(), tls=tls) as upstream:
            async with (
                running(
                    tmp_path,
                    f"https://localhost:{upstream.port}",
                    upstream_ca_file=authority.file,
                    idle_timeout=0.5,
                ) as proxy,
                Http2Client.connect(proxy.port) as client,
            ):
                stream = client.begin("POST", "/v1/x", proxy.token.value)
                await client.send_all(stream, BODY)
                assert await client.status(stream) == 504
                await assert_ended(proxy, judge)
                assert _waiting(proxy) == 0

    run(main())


def _waiting(proxy: Proxy) -> int:
    """Return the bytes that wait for the upstream's HTTP/2 windows."""
    codecs = [connection.context.layers[-1] for connection in proxy.layer.connections.values()]
    buffers = [codec.h2_conn.stream_buffers for codec in codecs if isinstance(codec, UpstreamHttp2)]
    return sum(len(piece.data) for pieces in buffers for waiting in pieces.values() for piece in waiting)


def test_a_replay_whose_body_is_asked_for_is_read_the_same_way(tmp_path: Path, judge: Judge) -> None:
    async def main() -> None:
        with Upstream() as upstream:
            async with (
                running(tmp_path, upstream.url, addons=[ClientPlayback()]) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(upload(proxy))
                assert head_and_body(await answered(reader))[0] == 200
                flow = await proxy.end_of_flow()
                flow.request.content = BODY
                flow.metadata.pop("llm_proxy_request_passed")
                judge.asks_replays = True
                proxy.master.commands.call("replay.client", [flow])
                assert await proxy.end_of_flow() is flow
                assert flow.response is not None
                assert flow.response.status_code == 200
                await assert_ended(proxy, judge)
                assert counted(proxy) == 2
            assert upstream.bodies == [BODY, BODY]

    run(main())
