import asyncio
import contextlib
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mitmproxy.addons.clientplayback import ClientPlayback
from support.clients.http2 import Http2Client
from support.gateway.inprocess import (
    CLOSE,
    Proxy,
    assert_json_error,
    head_and_body,
    read_answer,
    run,
    running,
)
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import OK, Conversation, RawUpstream
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from addon import rejection
from addon.rejection import MAX_BODY
from store.database.models import Request
from store.management.projects import Projects

pytestmark = [pytest.mark.paths("on", "off"), pytest.mark.usefixtures("_rows_at_once")]

KEY = "sk-q0Zx7Wv2Lk9Rt4Yb8NcPd3Hf6Js1Mg5Aa"
QUOTED = f"{KEY[:8]}***{KEY[-4:]}"
BODY = json.dumps({"error": {"message": f"Incorrect key: {QUOTED}, {KEY}", "code": "invalid_api_key"}}).encode()
HEAD = (
    f"HTTP/1.1 401 {QUOTED}\r\nX-Request-ID: req_1\r\nWWW-Authenticate: Bearer error={QUOTED}\r\nX-Key: {KEY}\r\n"
    "Content-Type: application/json\r\n"
).encode()
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def saying(*pieces: bytes, stays: bool = False) -> Callable[[Conversation], None]:
    """Answer each request with these pieces; then hang up, unless it `stays`."""

    def answer(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            for piece in pieces:
                conversation.send(piece)
            if not stays:
                return

    return answer


@contextlib.asynccontextmanager
async def rejecting(folder: Path, answer: Callable[[Conversation], None]) -> AsyncIterator[tuple[Proxy, RawUpstream]]:
    """Run a proxy before an upstream that rejects the key of the project."""
    with RawUpstream(answer) as upstream:
        async with running(folder, upstream.url, addons=[ClientPlayback()]) as proxy:
            Projects(proxy.store).update(proxy.token.project_id, {"api_key": KEY})
            yield proxy, upstream


def assert_rejected(answer: bytes, code: str | None = "invalid_api_key") -> None:
    """Check that a client gets the details that it may see, and nothing else of the upstream."""
    headers = assert_json_error(answer, 503, "upstream_key_rejected")
    _, _, body = head_and_body(answer)
    assert json.loads(body).get("description") == code
    assert headers["x-should-retry"] == "false"
    assert headers["x-request-id"] == "req_1"
    assert int(headers["x-llm-proxy-remote-duration-ms"]) >= 0
    assert not headers.keys() & {"www-authenticate", "x-key"}
    assert_quotes_nothing(answer)


def assert_quotes_nothing(shown: object) -> None:
    text = shown.decode() if isinstance(shown, bytes) else repr(shown)
    assert not any(KEY[start : start + 4] in text for start in range(len(KEY) - 3))


async def assert_flow_is_clean(proxy: Proxy) -> None:
    flow = await proxy.end_of_flow()
    assert flow.response is None
    assert flow.error is not None
    assert_quotes_nothing(flow.get_state())


async def row(proxy: Proxy) -> Request:
    """Wait until the newest request is settled, and return its row."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with proxy.store.database.read():
                found: Request = Request.select().order_by(Request.id.desc()).get()
            if found.settled_at is not None:
                return found
            await asyncio.sleep(0.01)


ANSWERS = {
    "whole": (WHOLE,),
    "chunked": (HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(BODY), BODY), b"0\r\n\r\n"),
    "gzip": (HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(BODY)[:30], gzip.compress(BODY)[30:]),
    "until the end": (HEAD + b"\r\n" + BODY,),
    "byte by byte": tuple(bytes([byte]) for byte in WHOLE),
    "cut behind its text": (HEAD + b"Content-Length: 9999\r\n\r\n" + BODY,),
}


@pytest.mark.parametrize("way", ANSWERS)
def test_a_401_becomes_a_503(tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "addon")

    async def main() -> None:
        async with rejecting(tmp_path, saying(*ANSWERS[way])) as (proxy, _):
            assert_rejected(await proxy.ask(proxy.request()))
            await assert_flow_is_clean(proxy)
            settled = await row(proxy)
            assert (settled.status, settled.upstream_request_id, settled.usage_source) == (401, "req_1", "unknown")
            assert settled.first_byte_ms is not None
            assert (settled.streamed, settled.response_bytes) == (False, None)
            assert len(proxy.exchanges) == 0

    run(main())
    (record,) = caplog.records
    assert record.getMessage() == "the upstream rejected a project's key"
    assert vars(record)["text"] == "Incorrect key: *** ***"
    assert_quotes_nothing(vars(record))


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"\r\n",),
        (HEAD + b"Content-Length: 9999\r\n\r\n" + BODY[:20],),
        (HEAD + b"Content-Length: 500\r\n\r\nIncorrect: " + KEY.encode(),),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",),
        (HEAD + b"Content-Length: %d\r\n\r\n" % (2 * MAX_BODY) + BODY + b" " * (2 * MAX_BODY - len(BODY)),),
        (HEAD + b"Content-Type: text/event-stream\r\n\r\ndata: " + BODY + b"\n\n",),
    ],
    ids=["nothing", "half a body", "text", "no chunks", "too large", "events"],
)
def test_a_401_whose_code_cannot_be_read_is_a_503_without(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with rejecting(tmp_path, saying(*pieces)) as (proxy, _):
            assert_rejected(await proxy.ask(proxy.request()), None)
            await assert_flow_is_clean(proxy)
            assert (await row(proxy)).status == 401

    run(main())


@pytest.mark.parametrize("body", [b"", BODY[:20], BODY])
def test_a_401_without_an_end_is_a_503_soon(tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "BODY_TIMEOUT", 0.1)

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        if body:
            conversation.send(b"%x\r\n%s\r\n" % (len(body), body))
        conversation.wait_until_closed()

    async def main() -> None:
        async with rejecting(tmp_path, answer) as (proxy, upstream):
            assert_rejected(await proxy.ask(proxy.request()), "invalid_api_key" if body == BODY else None)
            await assert_flow_is_clean(proxy)
            assert upstream.conversations[0].closed.wait(DEADLINE)

    run(main())


def test_a_head_request_gets_the_503_without_a_body(tmp_path: Path) -> None:
    async def main() -> None:
        async with rejecting(tmp_path, saying(HEAD + b"Content-Length: 99\r\n\r\n")) as (proxy, _):
            status, headers, body = head_and_body(await proxy.ask(proxy.request("HEAD /v1/models")))
            assert (status, headers["x-request-id"], headers["x-should-retry"], body) == (503, "req_1", "false", b"")
            await assert_flow_is_clean(proxy)

    run(main())


@pytest.mark.parametrize("pieces", [ANSWERS["whole"], ANSWERS["chunked"]])
def test_both_connections_are_usable_after_a_401(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        for piece in pieces:
            conversation.send(piece)
        conversation.read_head()
        conversation.send(OK)
        conversation.wait_until_closed()

    async def main() -> None:
        async with (
            rejecting(tmp_path, answer) as (proxy, upstream),
            proxy.connection() as (reader, writer),
        ):
            writer.write(proxy.request(headers="").encode())
            assert_rejected(await asyncio.wait_for(read_answer(reader), DEADLINE))
            writer.write(proxy.request(headers="").encode())
            assert (await asyncio.wait_for(read_answer(reader), DEADLINE)).endswith(b"{}")
            assert len(upstream.conversations) == 1

    run(main())


def test_after_a_body_that_is_too_large_the_next_request_gets_a_connection_of_its_own(tmp_path: Path) -> None:
    large = HEAD + b"Content-Length: %d\r\n\r\n" % (2 * MAX_BODY) + b" " * (MAX_BODY + 1)

    async def main() -> None:
        async with (
            rejecting(tmp_path, saying(large, stays=True)) as (proxy, upstream),
            proxy.connection() as (reader, writer),
        ):
            for _ in range(2):
                writer.write(proxy.request(headers="").encode())
                assert_rejected(await asyncio.wait_for(read_answer(reader), DEADLINE), None)
            assert len(upstream.conversations) == 2

    run(main())


@pytest.mark.parametrize("length", ["Content-Length: 3000000\r\n", "Transfer-Encoding: chunked\r\n"])
def test_an_upload_is_answered_before_its_end(tmp_path: Path, length: str) -> None:
    async def main() -> None:
        async with (
            rejecting(tmp_path, saying(WHOLE, stays=True)) as (proxy, upstream),
            proxy.connection() as (reader, writer),
        ):
            writer.write(proxy.request("POST /v1/files", headers=length).encode())
            assert_rejected(await asyncio.wait_for(read_answer(reader), DEADLINE))
            await assert_flow_is_clean(proxy)
            assert upstream.conversations[0].closed.wait(DEADLINE)  # the rest of the body would be taken for a request

    run(main())


def test_a_websockets_opening_gets_the_503(tmp_path: Path) -> None:
    async def main() -> None:
        async with rejecting(tmp_path, saying(WHOLE)) as (proxy, _):
            with pytest.raises(InvalidStatus) as refused:
                await connect(
                    f"ws://127.0.0.1:{proxy.port}/v1/realtime",
                    additional_headers={"x-api-key": proxy.token.value, "OpenAI-Organization": "org-1"},
                )
            response = refused.value.response
            body = json.loads(response.body or b"")
            assert (response.status_code, body["code"]) == (503, "upstream_key_rejected")
            assert body["description"] == "invalid_api_key"
            assert "OpenAI-Organization" in body["message"]
            assert response.headers["x-should-retry"] == "false"
            assert_quotes_nothing((response.headers, response.reason_phrase, body))
            await assert_flow_is_clean(proxy)
            assert (await row(proxy)).status == 401

    run(main())


def test_streams_of_http2_get_the_503_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with rejecting(tmp_path, saying(WHOLE)) as (proxy, _), Http2Client.connect(proxy.port) as client:
            streams = [client.get("/v1/models", proxy.token.value) for _ in range(3)]
            for stream in streams:
                headers = await client.answer(stream)
                assert headers is not None
                assert (headers[":status"], headers["x-request-id"]) == ("503", "req_1")
                assert json.loads(client.body(stream))["description"] == "invalid_api_key"
                assert_quotes_nothing((headers, client.body(stream)))
                await assert_flow_is_clean(proxy)
            assert len(proxy.exchanges) == 0

    run(main())


def has_begun(proxy: Proxy) -> bool:
    """Tell whether the head of an upstream's response has come."""
    exchanges = [proxy.exchanges.get(flow.id) for flow in proxy.flows]
    return any(exchange is not None and exchange.upstream_request_id for exchange in exchanges)


def test_a_client_that_hangs_up_over_a_401_is_accounted_for(tmp_path: Path) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(HEAD + b"Content-Length: 9999\r\n\r\n" + BODY)
        conversation.wait_until_closed()

    async def main() -> None:
        async with rejecting(tmp_path, answer) as (proxy, upstream):
            async with proxy.connection() as (_, writer):
                writer.write(proxy.request(headers="").encode())
                async with asyncio.timeout(DEADLINE):
                    while not has_begun(proxy):
                        await asyncio.sleep(0.01)
            await assert_flow_is_clean(proxy)
            assert (await row(proxy)).status == 401
            assert upstream.conversations[0].closed.wait(DEADLINE)

    run(main())


def test_a_replay_of_a_401_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with rejecting(tmp_path, saying(WHOLE)) as (proxy, _):
            await proxy.ask(proxy.request())
            proxy.master.commands.call("replay.client", [await proxy.end_of_flow()])
            await assert_flow_is_clean(proxy)

    run(main())


@pytest.mark.parametrize("status", [b"400 Bad", b"403 Forbidden", b"407 Proxy", b"429 Slowly", b"500 Fault"])
def test_a_response_of_any_other_status_passes(tmp_path: Path, status: bytes) -> None:
    async def main() -> None:
        answer = WHOLE.replace(b"401 " + QUOTED.encode(), status)
        async with rejecting(tmp_path, saying(answer)) as (proxy, _):
            answered, headers, body = head_and_body(await proxy.ask(proxy.request(headers=CLOSE)))
            assert (answered, headers["x-request-id"], body) == (int(status[:3]), "req_1", BODY)

    run(main())
