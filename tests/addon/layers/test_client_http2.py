import asyncio
import json
import threading
from pathlib import Path

import h2.errors
import pytest
from hyperframe.frame import GoAwayFrame, RstStreamFrame
from support.clients.http2 import Http2Client
from support.gateway.inprocess import Proxy, run, running, until
from support.gateway.processes import DEADLINE
from support.upstreams.strict_upstream import StrictUpstream
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon import exchange
from addon.layers import client_http2
from store.errors import TokenInactive
from store.management.tokens import Tokens

LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + 200_000 * b"x"
"""A response that is larger than the client's flow-control window."""


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [("/v1/x", ("x", "y" * 100_000), 431), (f"/v1/{'y' * 100_000}", ("x", "y"), 431), ("/v1/x", ("n(me", "y"), 400)],
    ids=["a large header", "a large path", "a malformed header"],
)
def test_a_rejected_request_leaves_the_others_intact(
    tmp_path: Path, path: str, header: tuple[str, str], status: int
) -> None:
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        go_on.wait(DEADLINE)
        conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                good = client.get("/v1/good", proxy.token.value)
                while not upstream.conversations:
                    await asyncio.sleep(0)
                refused = client.begin("GET", path, proxy.token.value, header, end_stream=True)
                assert await client.status(refused) == status
                go_on.set()
                assert await client.status(good) == 200
                assert len(proxy.exchanges) == 0

    run(main())


def headers(proxy: Proxy, *more: tuple[str, str], method: str = "POST") -> list[tuple[str, str]]:
    pseudo = [(":method", method), (":scheme", "https"), (":authority", "proxy"), (":path", "/v1/x")]
    return [*pseudo, ("authorization", f"Bearer {proxy.token.value}"), *more]


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
def test_a_length_without_a_body_is_reset_and_not_counted(tmp_path: Path, method: str) -> None:
    async def main() -> None:
        with StrictUpstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                stream = client.request(headers(proxy, ("content-length", "5"), method=method))
                assert await client.answer(stream) is None
                assert upstream.conversations == []
                assert Tokens(proxy.store).get(proxy.token.id).request_count == 0
                assert await client.status(client.get("/v1/models", proxy.token.value)) == 200

    run(main())


@pytest.mark.parametrize("pieces", [(b"",), (b"hello",), (b"GET /v1/models", b" HTTP/1.1\r\n\r\n")])
def test_a_body_without_a_length_is_sent_in_chunks(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async def main() -> None:
        with StrictUpstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                assert await client.status(client.request(headers(proxy), *pieces)) == 200
            (request,) = upstream.seen
            assert request.body == b"".join(pieces)
            assert request.values("transfer-encoding") == ["chunked"]
            assert upstream.malformed == []

    run(main())


def test_a_malformed_request_leaves_the_others_intact(tmp_path: Path) -> None:
    async def main() -> None:
        with StrictUpstream() as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                bad = client.request(headers(proxy, ("content-length", "05")), b"hello")
                good = client.get("/v1/models", proxy.token.value)
                assert await client.status(bad) == 400
                assert await client.status(good) == 200

    run(main())


def test_goaway_is_sent_when_the_process_ends_and_the_responses_are_complete(tmp_path: Path) -> None:
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        head = conversation.read_head()
        if head.startswith(b"GET /v1/slow"):
            go_on.wait(DEADLINE)
        conversation.send(LARGE)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                assert await client.status(client.get("/v1/before", proxy.token.value)) == 200
                slow = client.get("/v1/slow", proxy.token.value)
                while len(proxy.exchanges) < 1:
                    await asyncio.sleep(0)
                drained = asyncio.create_task(proxy.exchanges.drain())
                await asyncio.sleep(0)
                last = client.get("/v1/quick", proxy.token.value)
                assert await client.status(last) == 200
                assert client.last_stream is None
                go_on.set()
                assert await client.status(slow) == 200
                await client.until_goaway()
                assert client.last_stream == last
                await drained

    run(main())


def test_goaway_is_sent_after_a_while_to_a_client_that_always_waits_for_a_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_http2, "BUSY", 0.0)
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        if conversation.read_head().startswith(b"GET /v1/slow"):
            go_on.wait(DEADLINE)
        conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                client.get("/v1/slow", proxy.token.value)
                while len(proxy.exchanges) < 1:
                    await asyncio.sleep(0)
                drained = asyncio.create_task(proxy.exchanges.drain())
                await asyncio.sleep(0)
                quick = client.get("/v1/quick", proxy.token.value)
                await client.until_sent(GoAwayFrame(0, last_stream_id=quick).serialize())
                go_on.set()
                await drained

    run(main())


def test_a_request_that_crosses_with_goaway_is_reset_as_refused_stream(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                client.get("/v1/last", proxy.token.value)
                while len(proxy.exchanges) < 1:
                    await asyncio.sleep(0)
                await proxy.exchanges.drain()
                crossing = client.get("/v1/crossing", proxy.token.value)  # before the word is read
                refused = RstStreamFrame(crossing, error_code=h2.errors.ErrorCodes.REFUSED_STREAM)
                await client.until_sent(refused.serialize())
                assert Tokens(proxy.store).get(proxy.token.id).request_count == 1

    run(main())


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"id": 1}\n\n'


@pytest.mark.parametrize("is_between", [True, False])
def test_a_stream_that_is_cut_ends_alone_with_an_error_or_is_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_between: bool
) -> None:
    monkeypatch.setattr(exchange, "PATIENCE", 0.05)
    sent = EVENT if is_between else EVENT + EVENT[:5]

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(STREAM + b"%x\r\n%b\r\n" % (len(sent), sent))
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                cut, kept = (client.get("/v1/x", proxy.token.value) for _ in range(2))
                for stream in (cut, kept):
                    await client.until_body(stream, sent)
                first, other = (proxy.exchanges.get(flow_id) for flow_id in proxy.exchanges.all())
                assert first is not None
                first.cut(TokenInactive())
                assert await client.ends_well(cut) is is_between
                last = client.body(cut).removeprefix(sent)
                if is_between:
                    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "token_inactive"
                else:
                    assert last == b""
                assert client.body(kept) == sent
                assert [proxy.exchanges.get(flow_id) for flow_id in proxy.exchanges.all()] == [other]
                assert await client.status(client.get("/health", proxy.token.value)) == 200
                client.reset(kept)
                while len(proxy.exchanges):
                    await asyncio.sleep(0.001)

    run(main())


def test_a_client_whose_window_is_full_gets_the_last_event_once_it_reads(tmp_path: Path) -> None:
    first, second = EVENT * 3000, EVENT * 2000  # together they are more than the window; the gateway reads no more then
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(STREAM + b"%x\r\n%b\r\n" % (len(first), first))
        go_on.wait(DEADLINE)
        conversation.send(b"%x\r\n%b\r\n" % (len(second), second))
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                stream = client.get("/v1/x", proxy.token.value)
                await until(lambda: bytes_of(proxy) == len(first))
                go_on.set()
                await until(lambda: bytes_of(proxy) == len(first + second))
                (flow_id,) = proxy.exchanges.all()
                found = proxy.exchanges.get(flow_id)
                assert found is not None
                found.cut(TokenInactive())
                await until(lambda: not len(proxy.exchanges))
                assert await client.ends_well(stream)
                last = client.body(stream).removeprefix(first + second)
                assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "token_inactive"

    run(main())


def bytes_of(proxy: Proxy) -> int:
    """Return the bytes that have come of the only response."""
    found = [proxy.exchanges.get(flow_id) for flow_id in proxy.exchanges.all()]
    return found[0].meter.response_bytes if found and found[0] and found[0].meter else 0
