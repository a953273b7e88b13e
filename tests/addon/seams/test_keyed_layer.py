import asyncio
import json
import threading
from collections.abc import Coroutine
from pathlib import Path

import pytest
from mitmproxy import http
from support.http2 import Http2Client
from support.inprocess import CLOSE, head_and_body, running
from support.processes import DEADLINE, free_port
from support.stores import API_KEY
from support.upstreams import OK, Conversation, RawUpstream, answer_all

from addon.exchange import Exchanges
from store.projects import Projects
from store.tokens import Tokens

CHUNKED = "Transfer-Encoding: chunked\r\n" + CLOSE
EXPECT = "Expect: 100-continue\r\n" + CLOSE


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 2 * DEADLINE))


def assert_json_error(answer: bytes, status: int, code: str) -> dict[str, str]:
    told, headers, body = head_and_body(answer)
    assert told == status, answer
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["code"] == code
    assert headers["x-llm-proxy-request-id"]
    return headers


def test_the_wire_has_the_key_and_the_flow_never(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[str] = []

        def answer(conversation: Conversation) -> None:
            conversation.read_head()
            seen.append(repr(proxy.flows[-1].get_state()))  # in flight
            conversation.send(OK)

        with RawUpstream(answer) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                status, headers, body = head_and_body(await proxy.ask(proxy.request()))
                flow = await proxy.end_of_flow()
            assert (status, body) == (200, b"{}")
            assert f"authorization: Bearer {API_KEY}\r\n".encode() in upstream.received()
            assert proxy.token.value.encode() not in upstream.received()
        for state in (*seen, repr(flow.get_state())):
            assert API_KEY not in state
            assert proxy.token.value not in state
        assert API_KEY not in str(headers)
        assert len(proxy.exchanges) == 0

    run(main())


def test_requests_of_a_connection_share_one_to_the_upstream(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                for _ in range(3):
                    writer.write(proxy.request(headers="").encode())
                    await reader.readuntil(b"{}")
            assert len(upstream.conversations) == 1
            assert upstream.received().count(f"Bearer {API_KEY}\r\n".encode()) == 3

    run(main())


def test_a_replaced_key_is_sent_on_the_open_connection(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(proxy.request(headers="").encode())
                await reader.readuntil(b"{}")
                Projects(proxy.store).update(proxy.token.project_id, {"api_key": "sk-new"})
                writer.write(proxy.request(headers="").encode())
                await reader.readuntil(b"{}")
            assert b"Bearer sk-new\r\n" in upstream.received()
            assert len(upstream.conversations) == 1

    run(main())


def test_a_refused_request_opens_no_connection(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                Tokens(proxy.store).revoke(proxy.token.id)
                refused = assert_json_error(await proxy.ask(proxy.request()), 401, "token_inactive")
                assert refused["www-authenticate"] == "Bearer"
                assert_json_error(await proxy.ask(proxy.request("GET /v2")), 404, "not_found")
                large = proxy.request("POST /v1/x", headers=f"{CLOSE}Content-Length: 9999999\r\n")
                assert_json_error(await proxy.ask_and_stay(large), 401, "token_inactive")
                chunked = proxy.request("POST /v1/x", headers=CHUNKED)
                assert_json_error(await proxy.ask_and_stay(chunked), 401, "token_inactive")
            assert upstream.conversations == []

    run(main())


class Redirect:
    """What an operator may do in mitmweb: change where a request goes, after it was admitted."""

    def __init__(self, port: int | None = None, path: str | None = None) -> None:
        self.port = port
        self.path = path

    def request(self, flow: http.HTTPFlow) -> None:
        if self.port is not None:
            flow.request.port = self.port
        if self.path is not None:
            flow.request.path = self.path


def test_a_grant_holds_for_its_own_destination_only(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream, RawUpstream(answer_all()) as attacker:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Redirect(port=attacker.port))
                assert_json_error(await proxy.ask(proxy.request()), 403, "destination_refused")
            assert attacker.conversations == upstream.conversations == []

    run(main())


def test_a_request_that_was_edited_past_the_edge_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Redirect(path="/admin"))
                assert_json_error(await proxy.ask(proxy.request()), 404, "not_found")
            assert upstream.conversations == []

    run(main())


def test_without_a_grant_there_is_no_connection(tmp_path: Path) -> None:
    class Forget:
        def __init__(self, exchanges: Exchanges) -> None:
            self._exchanges = exchanges

        def request(self, flow: http.HTTPFlow) -> None:
            self._exchanges.close(flow.id)

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                proxy.master.addons.add(Forget(proxy.exchanges))
                assert_json_error(await proxy.ask(proxy.request()), 500, "internal_error")
            assert upstream.conversations == []

    run(main())


@pytest.mark.parametrize("way", ["read whole", "streamed", "expect", "expect, streamed"])
def test_an_upstream_that_is_down_is_told_in_json(tmp_path: Path, way: str) -> None:
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


def test_an_upstream_that_is_back_is_tried_again_on_the_same_connection(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        async with running(tmp_path, f"http://127.0.0.1:{port}") as proxy, proxy.connection() as (reader, writer):
            for _ in range(2):
                writer.write(proxy.request(headers="").encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                await reader.readuntil(b"}")
            with RawUpstream(answer_all(), port) as upstream:
                writer.write(proxy.request(headers="").encode())
                assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
                assert len(upstream.conversations) == 1

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
def test_a_broken_answer_that_has_not_begun_is_a_503(tmp_path: Path, answer: bytes) -> None:
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


def test_an_answer_that_has_begun_is_cut(tmp_path: Path) -> None:
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
def test_malformed_http_is_answered_in_json_and_closed(tmp_path: Path, headers: str) -> None:
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
def test_what_cannot_be_parsed_is_answered_in_json_and_closed(tmp_path: Path, request_: bytes) -> None:
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
def test_an_upstream_that_does_not_answer_is_given_up(tmp_path: Path, body: str) -> None:
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


def test_a_slow_answer_in_time_is_not_given_up(tmp_path: Path) -> None:
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


def test_trailers_of_a_client_end_its_connection(tmp_path: Path) -> None:
    """mitmproxy does not know trailers and raises; a client must not hang for it, nor a stop wait for it."""

    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                request = proxy.request("POST /v1/x", headers=CHUNKED) + "3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
                await proxy.ask(request)
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0
                assert len(proxy.errors.messages) == 1
                proxy.errors.messages.clear()

    run(main())


def test_trailers_of_the_upstream_cut_the_answer(tmp_path: Path) -> None:
    def send(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n")
        conversation.wait_until_closed()

    async def main() -> None:
        with RawUpstream(send) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                _, _, body = head_and_body(await proxy.ask(proxy.request(headers="")))
                assert not body.endswith(b"0\r\n\r\n")  # it does not look complete
                await proxy.end_of_flow()
                assert len(proxy.exchanges) == 0
                assert len(proxy.errors.messages) == 1
                proxy.errors.messages.clear()

    run(main())


class HoldConnections:
    """Holds up every connection to the upstream until it is told to go on."""

    def __init__(self) -> None:
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def server_connect(self, _: object) -> None:
        self.held.set()
        await self.go_on.wait()


def test_a_stream_that_is_reset_while_it_connects_harms_no_other(tmp_path: Path) -> None:
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


def test_streams_of_one_connection_are_admitted_each(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy:
                Tokens(proxy.store).update(proxy.token.id, {"max_requests": 3})
                async with Http2Client.connect(proxy.port) as client:
                    streams = [client.get("/v1/models", proxy.token.value) for _ in range(5)]
                    statuses = [await client.status(stream) for stream in streams]
                assert sorted(statuses) == [200, 200, 200, 429, 429]
            assert upstream.received().count(f"Bearer {API_KEY}\r\n".encode()) == 3
            assert proxy.token.value.encode() not in upstream.received()

    run(main())
