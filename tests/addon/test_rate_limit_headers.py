"""The headers of a window of requests: their form, and every way in which a client gets them."""

import dataclasses
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clients.http2 import Http2Client
from support.gateway.inprocess import CHUNKED, Proxy, head_and_body, run, running
from support.gateway.requests import fields
from support.upstreams.upstreams import OK, Conversation, RawUpstream
from websockets.asyncio.client import connect
from websockets.utils import accept_key

from addon import rate_limit_headers, responses
from addon.exchange import Exchange
from store.admission.admission import Admission, Reader
from store.admission.decision import Admitted
from store.errors import NotFound, RateLimited, ServiceUnavailable, TooManyParallel
from store.limits.window import Standing
from store.management.projects import Projects
from store.request import Opening

WINDOW = Standing(60, 59, 59_500_000)
TOLD = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "59.5s",
}
OF_THE_UPSTREAM = (
    b"X-RateLimit-Limit-Requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
    b"x-ratelimit-reset-requests: 8.64s\r\nx-ratelimit-used-requests: 1\r\n"
    b"x-ratelimit-limit-tokens: 200000\r\nx-ratelimit-remaining-tokens: 199000\r\n"
    b"x-ratelimit-reset-tokens: 6m0s\r\nx-ratelimit-limit-project-tokens: 5\r\n"
)
OF_TOKENS = {
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-tokens": "199000",
    "x-ratelimit-reset-tokens": "6m0s",
    "x-ratelimit-limit-project-tokens": "5",
}
EVENTS = b'data: {"id": "1"}\n\ndata: [DONE]\n\n'
PARTS = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?|(\d+)ms")


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (120_000, "120ms"),
        (999_001, "1s"),
        (1_000_000, "1s"),
        (8_640_000, "8.64s"),
        (59_999_999, "1m0s"),
        (360_000_000, "6m0s"),
        (90_500_000, "1m30.5s"),
        (3_600_000_000, "1h0m0s"),
        (85_656_648_000, "23h47m36.648s"),
        (86_400_000_000, "24h0m0s"),
    ],
)
def test_a_time_is_written_as_openai_writes_it(microseconds: int, text: str) -> None:
    assert rate_limit_headers.duration(microseconds) == text


@given(st.integers(0, 2 * 86_400_000_000))
def test_a_time_is_at_most_a_millisecond_later(microseconds: int) -> None:
    parts = PARTS.fullmatch(rate_limit_headers.duration(microseconds))
    assert parts is not None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in parts.groups())
    told = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    assert 0 <= told / timedelta(microseconds=1) - microseconds < 1000


def test_the_upstreams_headers_of_requests_are_replaced_and_no_others() -> None:
    headers = fields(("x-ratelimit-limit-requests", "1"), ("X-RateLimit-Reset-Requests", "1s"), ("x-requests", "2"))
    responses.add_request_headers(headers, Exchange(windows=[WINDOW]))
    assert headers.get_all("x-ratelimit-limit-requests") == ["60"]
    assert headers.get_all("x-ratelimit-reset-requests") == ["59.5s"]
    assert headers["x-requests"] == "2"


def test_a_window_of_tokens_has_headers_of_its_own() -> None:
    headers = fields(("x-ratelimit-limit-requests", "1"), ("x-ratelimit-limit-tokens", "2"))
    responses.add_request_headers(headers, Exchange(windows=[Standing(1000, 400, 2_000_000, "tokens")]))
    assert told(dict(headers.items())) == {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "400",
        "x-ratelimit-reset-tokens": "2s",
    }


def test_a_windows_refusal_tells_that_window() -> None:
    refusal = RateLimited("Too many.", Standing(2, 0, 1_500_000))
    refusal.wait_for(1_200_100)
    response = responses.error(refusal, Exchange(windows=[WINDOW]), "POST")
    assert told(dict(response.headers.items())) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1.5s",
    }
    assert (response.headers["retry-after-ms"], response.headers["retry-after"]) == ("1201", "2")


def test_other_errors_tell_the_window_only_of_an_admitted_request() -> None:
    assert told(dict(responses.error(NotFound(), Exchange(), "GET").headers.items())) == {}
    assert told(dict(responses.error(ServiceUnavailable(), Exchange(windows=[WINDOW]), "GET").headers.items())) == TOLD


def test_a_refusal_without_a_slot_is_to_be_tried_again_in_a_second() -> None:
    response = responses.error(TooManyParallel(), Exchange(), "POST")
    assert (response.headers["retry-after"], told(dict(response.headers.items()))) == ("1", {})


def told(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-ratelimit-")}


# Every way to a client.


@pytest.fixture
def windowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every admission is in a window."""
    admit = Admission.admit

    async def admit_in_window(self: Admission, token_value: str, opening: Opening, reader: Reader) -> Admitted:
        return dataclasses.replace(await admit(self, token_value, opening, reader), windows=[WINDOW])

    monkeypatch.setattr(Admission, "admit", admit_in_window)


def with_limits(response: bytes) -> bytes:
    """Add the upstream's own headers to a response."""
    line, end, rest = response.partition(b"\r\n")
    return line + end + OF_THE_UPSTREAM + rest


def once(*pieces: bytes) -> Callable[[Conversation], None]:
    """Answer one request, and hang up."""

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        for piece in pieces:
            conversation.send(piece)

    return answer


def silent(conversation: Conversation) -> None:
    conversation.wait_until_closed()


@asynccontextmanager
async def before(
    folder: Path, answer: Callable[[Conversation], None], plain_path: str, **settings: Any
) -> AsyncIterator[Proxy]:
    with RawUpstream(answer) as upstream:
        async with running(folder, upstream.url, plain_path=plain_path, **settings) as proxy:
            yield proxy


ANSWERS = {
    "a document": ("GET /v1/models", with_limits(OK), 200),
    "HEAD": ("HEAD /v1/models", with_limits(OK.removesuffix(b"{}")), 200),
    "an error": ("GET /v1/models", with_limits(OK.replace(b"200 OK", b"429 Slowly")), 429),
    "a stream": ("GET /v1/x", with_limits(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n") + EVENTS, 200),
    "behind interim responses": ("GET /v1/x", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + with_limits(OK), 200),
}
each_path = pytest.mark.parametrize("plain_path", ["on", "off"])


@pytest.mark.usefixtures("windowed")
@each_path
@pytest.mark.parametrize("name", ANSWERS)
def test_an_admitted_answer_tells_the_window(tmp_path: Path, name: str, plain_path: str) -> None:
    line, response, status = ANSWERS[name]

    async def main() -> None:
        async with before(tmp_path, once(response), plain_path) as proxy:
            answered, headers, _ = head_and_body(await proxy.ask(proxy.request(line)))
            assert (answered, told(headers)) == (status, TOLD | OF_TOKENS)
            assert proxy.served == (plain_path == "on")

    run(main())


@pytest.mark.usefixtures("windowed")
def test_so_does_the_answer_to_a_streamed_upload(tmp_path: Path) -> None:
    async def main() -> None:
        async with before(tmp_path, once(with_limits(OK)), "on") as proxy:
            request = proxy.request("POST /v1/files", headers=CHUNKED) + "0\r\n\r\n"
            _, headers, _ = head_and_body(await proxy.ask(request))
            assert told(headers) == TOLD | OF_TOKENS

    run(main())


FAILURES = {
    "hangs up": (once(), 503, "service_unavailable"),
    "speaks nonsense": (once(b"nonsense\r\n\r\n"), 503, "service_unavailable"),
    "rejects the key": (once(with_limits(OK.replace(b"200 OK", b"401 No"))), 503, "upstream_key_rejected"),
    "is silent": (silent, 504, "upstream_timeout"),
    "stops within a document": (once(with_limits(OK[:-1])), 503, "service_unavailable"),
}


@pytest.mark.usefixtures("windowed")
@each_path
@pytest.mark.parametrize("name", FAILURES)
def test_so_do_the_gateways_own_errors_after_the_admission(tmp_path: Path, name: str, plain_path: str) -> None:
    answer, status, code = FAILURES[name]

    async def main() -> None:
        async with before(tmp_path, answer, plain_path, first_byte_timeout=0.2) as proxy:
            answered, headers, body = head_and_body(await proxy.ask(proxy.request()))
            assert (answered, json.loads(body)["code"], told(headers)) == (status, code, TOLD)

    run(main())


@pytest.mark.usefixtures("windowed")
def test_so_do_the_answers_to_streams_of_http2(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            before(tmp_path, once(with_limits(OK)), "on") as proxy,
            Http2Client.connect(proxy.port) as client,
        ):
            assert told(await client.answer(client.get("/v1/models", proxy.token.value)) or {}) == TOLD | OF_TOKENS

    run(main())


@pytest.mark.usefixtures("windowed")
@each_path
def test_so_does_the_handshake_of_a_websocket(tmp_path: Path, plain_path: str) -> None:
    def accept(conversation: Conversation) -> None:
        head = conversation.read_head().decode("latin-1")
        key = accept_key(dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])["Sec-WebSocket-Key"])
        conversation.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + OF_THE_UPSTREAM
            + f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
        )
        conversation.wait_until_closed()

    async def main() -> None:
        async with (
            before(tmp_path, accept, plain_path) as proxy,
            connect(
                f"ws://127.0.0.1:{proxy.port}/v1/realtime", additional_headers={"x-api-key": proxy.token.value}
            ) as client,
        ):
            assert client.response is not None
            assert client.response.status_code == 101
            headers = {name.lower(): value for name, value in client.response.headers.raw_items()}
            assert told(headers) == TOLD | OF_TOKENS

    run(main())


@each_path
def test_without_a_window_the_upstreams_headers_pass(tmp_path: Path, plain_path: str) -> None:
    async def main() -> None:
        async with before(tmp_path, once(with_limits(OK)), plain_path) as proxy:
            assert OF_THE_UPSTREAM in await proxy.ask(proxy.request())

    run(main())


@each_path
def test_without_a_window_the_gateways_errors_tell_none(tmp_path: Path, plain_path: str) -> None:
    async def main() -> None:
        async with before(tmp_path, once(), plain_path) as proxy:
            assert told(head_and_body(await proxy.ask(proxy.request()))[1]) == {}
            Projects(proxy.store).update(proxy.token.project_id, {"is_active": False})
            assert told(head_and_body(await proxy.ask(proxy.request()))[1]) == {}

    run(main())


@each_path
def test_a_refusal_by_a_window_is_told_on_the_wire(
    tmp_path: Path, plain_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> Admitted:
        refusal = RateLimited("Too many requests in a minute.", Standing(60, 0, 60_000_000))
        refusal.wait_for(1_000_000)
        raise refusal

    monkeypatch.setattr(Admission, "admit", refuse)

    async def main() -> None:
        async with before(tmp_path, once(), plain_path) as proxy:
            for line in ("POST /v1/x", "HEAD /v1/x"):
                status, headers, body = head_and_body(await proxy.ask(proxy.request(line)))
                assert status == 429
                assert headers["retry-after"] == "1"
                assert told(headers)["x-ratelimit-remaining-requests"] == "0"
                assert told(headers)["x-ratelimit-reset-requests"] == "1m0s"
                assert not body or json.loads(body)["error"]["code"] == "rate_limit_exceeded"

    run(main())
