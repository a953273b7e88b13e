import asyncio
import contextlib
import logging
import threading
from pathlib import Path

import pytest
from support.clients.http2 import Http2Client
from support.gateway.inprocess import (
    CHUNKED,
    CLOSE,
    HoldConnections,
    Proxy,
    assert_json_error,
    head_and_body,
    read_answer,
    run,
    running,
)
from support.gateway.processes import DEADLINE, free_port
from support.stores.stores import API_KEY, UNKNOWN_TOKEN, foreign_lock
from support.upstreams.upstreams import CLOSING, OK, Conversation, RawUpstream, answer_all
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.utils import accept_key

from addon import failures
from store.management.tokens import Tokens

pytestmark = pytest.mark.paths("on", "off")


@pytest.mark.parametrize("way", ["read whole", "streamed", "expect", "expect, streamed"])
def test_an_upstream_that_is_down_is_answered_in_json(tmp_path: Path, way: str) -> None:
    async def main() -> None:
        async with running(tmp_path, f"http://127.0.0.1:{free_port()}") as proxy:
            expect = "Expect: 100-continue\r\n" if "expect" in way else ""
            if "streamed" in way:
                request = proxy.request("POST /v1/x", headers=expect + CHUNKED) + "3\r\nabc\r\n0\r\n\r\n"
            else:
                request = proxy.request("POST /v1/x", headers=expect + CLOSE, body="abc")
            answer = await proxy.ask(request)
            assert_json_error(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"), 503, "service_unavailable")
            assert answer.startswith(b"HTTP/1.1 100") == bool(expect)
            await proxy.end_of_flow()
            assert len(proxy.exchanges) == 0

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["nothing", "nonsense", "half a body", "two framings", "no length"],
)
def test_a_broken_upstream_response_that_has_not_begun_is_a_503(tmp_path: Path, answer: bytes) -> None:
    def send(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(answer)

    async def main() -> None:
        with RawUpstream(send) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_response_that_has_begun_is_cut(tmp_path: Path) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 50\r\n\r\ndata: x\n\n"

    def send(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(begun)

    async def main() -> None:
        with RawUpstream(send) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                status, headers, body = head_and_body(await proxy.ask(proxy.request()))
                assert (status, headers["content-length"], body) == (200, "50", b"data: x\n\n")
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0

    run(main())


@pytest.mark.parametrize(
    "headers",
    ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n", "Na me: x\r\n"],
)
def test_rejects_malformed_http_in_json_and_closes(tmp_path: Path, headers: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                answer = await proxy.ask(proxy.request("POST /v1/x", headers=headers))
                assert assert_json_error(answer, 400, "invalid_request")["connection"] == "close"
                assert Tokens(proxy.store).get(proxy.token.id).request_count == 0
            assert upstream.conversations == []

    run(main())


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nnonsense\r\n\r\n",
        b"GET /v1/models SPDY/1\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nContent-Length: x\r\n\r\nabc",
        b"POST /v1/models HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    ],
    ids=["request line", "header line", "version", "length", "lengths"],
)
def test_rejects_unparsable_requests_in_json_and_closes(tmp_path: Path, request_: bytes) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                answer = await proxy.ask(request_)
                assert assert_json_error(answer, 400, "invalid_request")["connection"] == "close"
                assert b"mitmproxy" not in answer
                assert len(proxy.exchanges) == 0
            assert upstream.conversations == []

    run(main())


@pytest.mark.parametrize("body", ["", "abc"])
def test_an_upstream_that_does_not_respond_is_given_up(tmp_path: Path, body: str) -> None:
    hung_up = threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.wait_until_closed()
        hung_up.set()

    async def main() -> None:
        with RawUpstream(wait) as upstream:
            async with running(tmp_path, upstream.url, first_byte_timeout=0.1) as proxy:
                assert_json_error(await proxy.ask(proxy.request("POST /v1/x", body=body)), 504, "upstream_timeout")
                assert await asyncio.to_thread(hung_up.wait, DEADLINE)
                assert len(proxy.exchanges) == 0

    run(main())


def test_an_upstream_that_does_not_connect_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            url = upstream.url.replace("http:", "https:")
            async with running(tmp_path, url, connect_timeout=0.1) as proxy:
                assert_json_error(await proxy.ask(proxy.request()), 503, "service_unavailable")
                assert API_KEY.encode() not in upstream.received()

    run(main())


def test_a_slow_response_that_begins_in_time_is_not_given_up(tmp_path: Path) -> None:
    """The deadline is for the headers: an answer that has begun may take its time."""
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nbegun\n")
        go_on.wait(DEADLINE)
        conversation.send(b"ended\n")

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with (
                running(tmp_path, upstream.url, first_byte_timeout=0.05) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(proxy.request().encode())
                await reader.readuntil(b"begun\n")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.2)  # past the deadline, nothing comes
                go_on.set()
                assert await reader.read() == b"ended\n"

    run(main())


def test_a_client_that_hangs_up_ends_the_exchange_and_the_upstreams_work(tmp_path: Path) -> None:
    asked, hung_up = threading.Event(), threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.read_head()
        asked.set()
        conversation.wait_until_closed()
        hung_up.set()

    async def main() -> None:
        with RawUpstream(wait) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                async with proxy.connection() as (_, writer):
                    writer.write(proxy.request().encode())
                    assert await asyncio.to_thread(asked.wait, DEADLINE)
                assert (await proxy.end_of_flow()).error is not None
                assert await asyncio.to_thread(hung_up.wait, DEADLINE)
                assert len(proxy.exchanges) == 0

    run(main())


def test_trailers_of_a_client_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                request = proxy.request("POST /v1/x", headers=CHUNKED) + "3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
                assert_json_error(await proxy.ask(request), 400, "invalid_request")
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0
            assert upstream.conversations == []  # it was all there before a connection was asked for

    run(main())


def test_trailers_that_come_later_leave_the_upstreams_request_without_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request("POST /v1/x", headers=CHUNKED).encode() + b"3\r\nabc\r\n")
                while b"abc" not in upstream.received():
                    await asyncio.sleep(0)
                writer.write(b"0\r\nX-Trailer: 1\r\n\r\n")
                assert_json_error(await reader.read(), 400, "invalid_request")
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert upstream.received().endswith(b"\r\n3\r\nabc\r\n")
                assert len(proxy.exchanges) == 0

    run(main())


def test_trailers_of_the_upstream_are_dropped(tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"

    async def main() -> None:
        with RawUpstream(answer_all(chunked + b"X-Trailer: 1\r\n\r\n")) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for _ in range(2):
                    writer.write(proxy.request(headers="").encode())
                    answer = await reader.readuntil(b"\r\n0\r\n\r\n")
                    assert head_and_body(answer)[2] == b"3\r\nabc\r\n0\r\n\r\n"
            assert len(upstream.conversations) == 1

    run(main())


@pytest.mark.parametrize("piece", [b"5;" + bytes(100_000), b"nonsense\r\n", b"-1\r\n", b"5\r\nhelloworld\r\n"])
@pytest.mark.parametrize("later", [False, True])
def test_malformed_chunks_are_refused(tmp_path: Path, piece: bytes, later: bool) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request("POST /v1/x", headers=CHUNKED).encode())
                while later and not upstream.conversations:
                    await asyncio.sleep(0)
                writer.write(piece)
                assert_json_error(await reader.read(), 400, "invalid_request")
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_refusal_before_the_first_hook_precedes_the_hooks_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The body comes with the headers: it is refused while the hook, which refuses the token, has not begun."""
    caplog.set_level(logging.INFO, "addon.access_log")

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy:
            request = proxy.request("POST /v1/x", headers=CHUNKED).replace(proxy.token.value, UNKNOWN_TOKEN)
            assert_json_error(await proxy.ask(request + "nonsense\r\n"), 400, "invalid_request")
            await proxy.end_of_flow()
            assert len(proxy.exchanges) == 0

    run(main())
    (line,) = [vars(record) for record in caplog.records if record.name == "addon.access_log"]
    assert (line["status"], line["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ("\r\n", 400, "invalid_request"),
        ("Host: a\r\nHost: a\r\n\r\n", 400, "invalid_request"),
        (f"Host: a\r\nX: {'x' * 70_000}\r\n\r\n", 431, "headers_too_large"),
        (f"Host: a\r\n{'X: x\r\n' * 20_000}\r\n", 431, "headers_too_large"),
        (f"Host: a\r\nX: {'x' * 200_000}", 431, "headers_too_large"),
    ],
    ids=["no host", "two hosts", "a large header", "many headers", "a header without end"],
)
def test_rejects_bad_headers_and_closes(tmp_path: Path, headers: str, status: int, code: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                request = f"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {proxy.token.value}\r\n{headers}"
                assert_json_error(await proxy.ask(request), status, code)
            assert upstream.conversations == []

    run(main())


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.2"])
def test_rejects_other_versions_of_http(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                answer = await proxy.ask(proxy.request().replace("HTTP/1.1", version))
                assert_json_error(answer, 400, "invalid_request")
            assert upstream.conversations == []

    run(main())


def test_blank_lines_before_a_request_are_ignored(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                assert (await proxy.ask("\r\n\r\n" + proxy.request())).startswith(b"HTTP/1.1 200 ")

    run(main())


@pytest.mark.parametrize("begun", ["GET /v1/mod", "GET /v1/models HTTP/1.1\r\nHost: x\r\n"])
def test_headers_that_come_too_slowly_are_given_up(tmp_path: Path, begun: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "HEADERS_TIMEOUT", 0.1)

    async def dribble(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            writer.write(begun.encode())
            dribbling = asyncio.create_task(dribble(writer))
            answer = await reader.read()
            dribbling.cancel()
            assert_json_error(answer, 408, "request_timeout")

    run(main())


@pytest.mark.parametrize("headers", ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_that_does_not_go_on_is_given_up(tmp_path: Path, headers: str) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=0.1) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(proxy.request("POST /v1/x", headers=headers).encode() + b"1\r\nx\r\n")
                assert_json_error(await read_answer(reader), 408, "request_timeout")
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_body_that_is_slow_but_goes_on_is_not_given_up(tmp_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read_body(15)
        conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=1) as proxy,
                proxy.connection() as (reader, writer),
            ):
                writer.write(proxy.request("POST /v1/x", headers="Content-Length: 15\r\n").encode())
                for _ in range(15):
                    await asyncio.sleep(0.1)
                    writer.write(b"x")
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_a_response_that_does_not_go_on_is_given_up(tmp_path: Path) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(begun)
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url, idle_timeout=0.1) as proxy:
                assert_json_error(await proxy.ask_and_stay(proxy.request(headers="")), 504, "upstream_timeout")
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_stream_that_does_not_go_on_is_cut(tmp_path: Path) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(begun)
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url, idle_timeout=0.1) as proxy:
                _, _, body = head_and_body(await proxy.ask(proxy.request(headers="")))
                assert body == b"3\r\nabc\r\n"  # and no end
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_body_with_a_length_that_is_too_large_is_refused_at_its_headers(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, max_body=1000) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request("POST /v1/x", headers="Content-Length: 1001\r\n").encode())
                assert_json_error(await read_answer(reader), 413, "request_too_large")
                assert Tokens(proxy.store).get(proxy.token.id).request_count == 0
                writer.write(bytes(1001) + proxy.request("POST /v1/x", headers="", body="x" * 1000).encode())
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_a_body_that_becomes_too_large_is_refused_there(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url, max_body=1000) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request("POST /v1/x", headers=CHUNKED).encode() + b"3e8\r\n" + bytes(1000) + b"\r\n")
                while bytes(1000) not in upstream.received():
                    await asyncio.sleep(0)
                writer.write(b"1\r\nx\r\n")
                assert_json_error(await read_answer(reader), 413, "request_too_large")
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert upstream.received().endswith(bytes(1000) + b"\r\n")
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0

    run(main())


def test_a_small_upload_is_refused_before_its_body(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
            assert_json_error(await read_answer(reader), 401, "invalid_token")
            writer.write(b"hello" + proxy.request("GET /v2", headers="").encode())
            assert_json_error(await read_answer(reader), 404, "not_found")

    run(main())


def test_a_client_that_never_ends_its_refused_request_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "LINGER", 0.1)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            writer.write(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
            assert_json_error(await read_answer(reader), 401, "invalid_token")
            assert await reader.read() == b""

    run(main())


def test_an_answered_upload_is_read_to_its_end_and_closed_at_once(tmp_path: Path) -> None:
    """The client sends all of it before it reads, and reads to the end: LINGER is not waited for."""

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy:
            upload = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 20000000\r\n\r\n"
            async with proxy.connection() as (reader, writer):
                writer.write(upload + bytes(20_000_000))
                await writer.drain()
                assert_json_error(await asyncio.wait_for(reader.read(), 3), 401, "invalid_token")

    run(main())


def test_a_request_that_is_refused_while_it_connects_goes_no_further(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url, max_body=1000) as proxy, proxy.connection() as (reader, writer):
                hold = HoldConnections()
                proxy.master.addons.add(hold)
                writer.write(proxy.request("POST /v1/x", headers="Transfer-Encoding: chunked\r\n").encode())
                await asyncio.wait_for(hold.held.wait(), DEADLINE)
                writer.write(b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n")
                await asyncio.sleep(0.1)
                hold.go_on.set()
                assert_json_error(await read_answer(reader), 413, "request_too_large")
                writer.write(proxy.request(headers="").encode())
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
            assert b"POST" not in upstream.received()

    run(main())


def test_a_response_over_http2_that_does_not_go_on_ends_the_upstreams_work(tmp_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nabc")
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=0.2) as proxy,
                Http2Client.connect(proxy.port) as cl,
            ):
                cl.get("/v1/x", proxy.token.value)
                await proxy.end_of_flow()
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert proxy.layer.streams == {}
                assert len(proxy.exchanges) == 0

    run(main())


def test_trailers_over_http2_leave_the_upstreams_request_without_an_end(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                stream = client.begin("POST", "/v1/x", proxy.token.value)
                client.send(stream, b"abc")
                while b"abc" not in upstream.received():
                    await asyncio.sleep(0)
                client.end_with_trailers(stream)
                assert await client.status(stream) == 400
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert upstream.received().endswith(b"\r\n3\r\nabc\r\n")

    run(main())


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_connection_without_requests_is_closed_even_if_pings_come(tmp_path: Path, version: str) -> None:
    async def ping(client: Http2Client) -> None:
        while True:
            client.ping()
            await asyncio.sleep(0.05)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9", idle_timeout=0.3) as proxy:
            if version == "2":
                async with Http2Client.connect(proxy.port) as client:
                    assert await client.status(client.get("/v2", proxy.token.value)) == 404
                    pinging = asyncio.create_task(ping(client))
                    with contextlib.suppress(ConnectionResetError):  # a ping may cross with the close
                        await client.end()
                    pinging.cancel()
            else:
                async with proxy.connection() as (reader, writer):
                    writer.write(proxy.request("GET /v2", headers="").encode())
                    await read_answer(reader)
                    assert await asyncio.wait_for(reader.read(), DEADLINE) == b""

    run(main())


@pytest.mark.paths("off")
@pytest.mark.parametrize("answer", [OK, CLOSING])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_nothing_grows_on_a_connection_that_stays(tmp_path: Path, answer: bytes, version: str) -> None:
    async def main() -> None:
        with RawUpstream(answer_all(answer)) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                if version == "2":
                    async with Http2Client.connect(proxy.port) as client:
                        for _ in range(50):
                            assert await client.status(client.get("/v1/x", proxy.token.value)) == 200
                        assert_nothing_grew(proxy)
                else:
                    async with proxy.connection() as (reader, writer):
                        for _ in range(50):
                            writer.write(proxy.request(headers="").encode())
                            await read_answer(reader)
                        assert_nothing_grew(proxy)

    def assert_nothing_grew(proxy: Proxy) -> None:
        layer = proxy.layer
        held = {name: len(value) for name, value in vars(layer).items() if isinstance(value, dict | set | list)}
        grown = {name: size for name, size in held.items() if size > 2 and name != "_limited"}
        assert grown == {}
        assert len(proxy.handler.wakeup_timer) <= 3  # one for TLS
        codec = layer.connections[layer.context.client]
        assert len(getattr(codec, "streams", {})) <= 1

    run(main())


def test_a_client_that_leaves_while_its_request_is_admitted_is_accounted_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "addon.access_log")

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                with foreign_lock(proxy.store):
                    async with proxy.connection() as (_, writer):
                        writer.write(proxy.request(headers="").encode())
                        while not proxy.exchanges:
                            await asyncio.sleep(0.01)
                    await asyncio.sleep(0.1)  # it is gone, and the store still waits
                await proxy.end_of_flow()
                assert Tokens(proxy.store).get(proxy.token.id).request_count == 1
                assert len(proxy.exchanges) == 0
            (line,) = [record for record in caplog.records if record.name == "addon.access_log"]
            assert vars(line)["token_id"] == proxy.token.id

    run(main())


def test_the_flow_of_a_failed_request_holds_the_cause(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, f"http://127.0.0.1:{free_port()}") as proxy:
            await proxy.ask(proxy.request())
            error = (await proxy.end_of_flow()).error
            assert error is not None
            assert error.msg.startswith("Service temporarily unavailable (")
            assert "Connect call failed" in error.msg
            await proxy.ask("GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
            error = (await proxy.end_of_flow()).error
            assert error is not None
            assert error.msg == "There is nothing at this path; the API is at /v1/."

    run(main())


def test_headers_that_were_sent_ahead_have_a_deadline_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "HEADERS_TIMEOUT", 0.1)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            writer.write(proxy.request("GET /health", headers="").encode() + b"GET /v1/mod")
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
            assert_json_error(await reader.read(), 408, "request_timeout")

    run(main())


def test_a_client_that_floods_the_connection_while_it_waits_is_hung_up_on(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(Conversation.wait_until_closed) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode() + bytes(2_000_000))
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                await proxy.end_of_flow()

    run(main())


def test_responses_close_their_connections_while_the_gateway_drains(tmp_path: Path) -> None:
    go_on = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        go_on.wait(DEADLINE)
        conversation.send(OK)

    async def main() -> None:
        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                while not upstream.conversations:
                    await asyncio.sleep(0)
                drained = asyncio.create_task(proxy.exchanges.drain())
                await asyncio.sleep(0)
                go_on.set()
                status, headers, _ = head_and_body(await reader.read())
                assert (status, headers["connection"]) == (200, "close")
                await drained

    run(main())


def test_a_stream_that_is_reset_while_it_connects_does_not_disturb_others(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                hold = HoldConnections()
                proxy.master.addons.add(hold)
                async with Http2Client.connect(proxy.port) as client:
                    gone = client.get("/v1/gone", proxy.token.value)
                    await asyncio.wait_for(hold.held.wait(), DEADLINE)
                    client.reset(gone)
                    refused = client.get("/v2", proxy.token.value)
                    assert await client.status(refused) == 404  # so the reset has arrived
                    other = client.get("/v1/other", proxy.token.value)
                    while len(proxy.flows) < 3:
                        await asyncio.sleep(0)
                    hold.go_on.set()
                    assert await client.status(other) == 200
                    assert await client.status(client.get("/v1/last", proxy.token.value)) == 200
                    assert len(proxy.exchanges) == 0

    run(main())


def accept_websocket(conversation: Conversation) -> None:
    head = conversation.read_head().decode("latin-1").lower().splitlines()
    key = next(
        line.partition(":")[2].strip()
        for line in conversation.received.decode("latin-1").splitlines()
        if line.lower().startswith("sec-websocket-key:")
    )
    assert "upgrade: websocket" in head
    conversation.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
    )
    conversation.wait_until_closed()


def test_a_websocket_that_one_side_keeps_busy_is_not_cut_and_an_idle_one_is(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(accept_websocket) as upstream:
            async with (
                running(tmp_path, upstream.url, idle_timeout=1) as proxy,
                connect(
                    f"ws://127.0.0.1:{proxy.port}/v1/realtime",
                    additional_headers={"Authorization": f"Bearer {proxy.token.value}"},
                    ping_interval=None,
                ) as websocket,
            ):
                for _ in range(15):
                    await websocket.send("busy")
                    await asyncio.sleep(0.1)  # longer than the timeout in all
                assert not upstream.conversations[0].closed.is_set()
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(websocket.recv(), DEADLINE)
                assert await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                assert len(proxy.exchanges) == 0

    run(main())
