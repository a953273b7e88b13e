"""Cuts as clients and upstreams meet them: what runs for a token ends within a second of the token's end."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway, bearer
from support.gateway.processes import DEADLINE, wait_until
from support.gateway.relay import Relay
from support.upstreams.upstreams import Conversation
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

LATEST = 1.0
"""Seconds from the answer of the management API to the end of what ran."""
MARGIN = 1.0
"""Seconds more that a busy machine may take."""

MINI = "gpt-4o-mini"
QUESTION: list[Any] = [{"role": "user", "content": "Hello!"}]
PAST = "2001-01-01T00:00:00Z"

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

CHAT = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MINI}
WORD = {**CHAT, "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: object, name: str = "") -> bytes:
    return f"{f'event: {name}\n' if name else ''}data: {json.dumps(data)}\n\n".encode()


class Endless:
    """An upstream that streams an event each 20 ms, and notes when the gateway hangs up."""

    def __init__(self, sent: bytes, head: bytes = CHUNKED) -> None:
        self.closed_at: list[float] = []
        self.has_begun = threading.Event()
        self._head = head
        self._piece = chunk(sent) if b"chunked" in head else sent

    def __call__(self, conversation: Conversation) -> None:
        conversation.read_message()
        conversation.send(self._head)
        try:
            while True:
                conversation.send(self._piece)
                self.has_begun.set()
                time.sleep(0.02)
        finally:
            self.closed_at.append(time.monotonic())


def revoke(gateway: Gateway, token: dict[str, Any]) -> None:
    gateway.manage("DELETE", f"/manage/tokens/{token['id']}").raise_for_status()


def expire(gateway: Gateway, token: dict[str, Any]) -> None:
    gateway.manage("PATCH", f"/manage/tokens/{token['id']}", {"expires_at": PAST}).raise_for_status()


def switch_off(gateway: Gateway, token: dict[str, Any]) -> None:
    gateway.manage("PATCH", f"/manage/projects/{token['project_id']}", {"is_active": False}).raise_for_status()


def delete(gateway: Gateway, token: dict[str, Any]) -> None:
    gateway.manage("DELETE", f"/manage/projects/{token['project_id']}").raise_for_status()


type End = Callable[[Gateway, dict[str, Any]], None]

ENDS: list[tuple[End, str]] = [
    (revoke, "token_inactive"),
    (expire, "token_expired"),
    (switch_off, "project_inactive"),
    (delete, "invalid_token"),
]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def in_time(since: float, *ends: float) -> bool:
    return all(end - since < LATEST + MARGIN for end in ends)


def read(gateway: Gateway, token: dict[str, Any], *, is_upload: bool = False) -> tuple[bytes, float]:
    """Read a stream to its end, and return its bytes and when it ended. An upload is for the layers on either path."""
    body = json.dumps({"model": MINI, "messages": QUESTION, "stream": True}).encode()
    with (
        httpx.Client(timeout=DEADLINE) as client,
        client.stream(
            "POST",
            f"{gateway.url}/v1/chat/completions",
            headers={**bearer(token), "Content-Type": "application/json"},
            content=iter([body]) if is_upload else body,
        ) as response,
    ):
        data = response.read()
        ended = time.monotonic()
        response.close()
        again = client.get(f"{gateway.url}/health")  # over the same connection, which is whole
        assert again.status_code == 200
    return data, ended


def row(gateway: Gateway, token: dict[str, Any]) -> dict[str, Any]:
    """Return the only row of a token, once it is settled."""
    path = f"/manage/requests?tokenId={token['id']}"

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = gateway.manage("GET", path).json()["data"]
        return found

    wait_until(lambda: any(each["usage_source"] for each in rows()))
    (found,) = rows()
    return found


@pytest.mark.parametrize("is_upload", [False, True], ids=["plain", "upload"])
@pytest.mark.parametrize(("end", "code"), ENDS, ids=[code for _, code in ENDS])
def test_a_stream_ends_between_two_events_with_an_error(
    relay: Relay, pool: ThreadPoolExecutor, end: End, code: str, is_upload: bool
) -> None:
    gateway, upstream = relay.gateway, Endless(event(WORD))
    relay.expect(upstream)
    token, other = gateway.make_token(), gateway.make_token()
    going_on = pool.submit(read, gateway, other)
    running = pool.submit(read, gateway, token, is_upload=is_upload)
    wait_until(lambda: len(relay.upstream.conversations) == 2 and upstream.has_begun.is_set())
    time.sleep(0.1)
    end(gateway, token)
    ended_at = time.monotonic()
    data, closed_at = running.result(DEADLINE)
    wait_until(lambda: len(upstream.closed_at) == 1)
    assert in_time(ended_at, closed_at, *upstream.closed_at)
    *words, last, nothing = data.split(b"\n\n")
    assert nothing == b""
    assert {json.loads(each.removeprefix(b"data: "))["choices"][0]["delta"]["content"] for each in words} == {" word"}
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == code
    assert not going_on.done()  # that of another token
    revoke(gateway, other)
    assert json.loads(going_on.result(DEADLINE)[0].split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
    if end is not delete:
        settled = row(gateway, token)
        assert (settled["status"], settled["code"], settled["model"]) == (200, code, MINI)
    (line,) = [line for line in gateway.logs().splitlines() if token["id"] in line and "path=/v1/" in line]
    assert f"code={code}" in line


def chat(client: openai.OpenAI) -> None:
    for _ in client.chat.completions.create(model=MINI, messages=QUESTION, stream=True):
        pass


def respond(client: openai.OpenAI) -> None:
    for _ in client.responses.create(model=MINI, input="Hello!", stream=True):
        pass


DELTA_TYPE = "response.output_text.delta"
DELTA = {"type": DELTA_TYPE, "item_id": "1", "output_index": 0, "content_index": 0}
TEXT = {**DELTA, "delta": " word", "logprobs": [], "sequence_number": 1}


@pytest.mark.parametrize(
    ("ask", "sent"),
    [(chat, event(WORD)), (respond, event(TEXT, DELTA_TYPE))],
    ids=["chat", "responses"],
)
def test_openais_sdk_raises_the_error(
    relay: Relay, pool: ThreadPoolExecutor, ask: Callable[[openai.OpenAI], None], sent: bytes
) -> None:
    upstream = Endless(sent)
    relay.expect(upstream)
    token = relay.gateway.make_token()
    with openai.OpenAI(base_url=f"{relay.gateway.url}/v1", api_key=token["token"], max_retries=0) as client:
        running: Future[None] = pool.submit(ask, client)
        assert upstream.has_begun.wait(DEADLINE)
        revoke(relay.gateway, token)
        with pytest.raises(openai.APIError) as raised:
            running.result(DEADLINE)
    assert type(raised.value) is openai.APIError
    assert (raised.value.code, raised.value.message) == ("token_inactive", "The token has been revoked.")


def test_anthropics_sdk_raises_the_error(relay: Relay, pool: ThreadPoolExecutor) -> None:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}
    upstream = Endless(event(delta, "content_block_delta"))
    relay.expect(upstream)
    token = relay.gateway.make_token()
    client = anthropic.Anthropic(base_url=relay.gateway.url, auth_token=token["token"], api_key=None, max_retries=0)

    def ask() -> None:
        for _ in client.messages.create(model="claude-haiku-4-5", max_tokens=100, messages=QUESTION, stream=True):
            pass

    running: Future[None] = pool.submit(ask)
    assert upstream.has_begun.wait(DEADLINE)
    revoke(relay.gateway, token)
    with pytest.raises(anthropic.APIStatusError, match=r"The token has been revoked\."):
        running.result(DEADLINE)
    client.close()


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 10000000\r\n\r\n",
        HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["of a length", "compressed", "audio"],
)
@pytest.mark.parametrize("is_upload", [False, True], ids=["plain", "upload"])
def test_what_cannot_end_between_events_is_broken_off(
    relay: Relay, pool: ThreadPoolExecutor, head: bytes, is_upload: bool
) -> None:
    upstream = Endless(event(WORD), head)
    relay.expect(upstream)
    token = relay.gateway.make_token()
    body = iter([b"{}"]) if is_upload else b"{}"

    def ask() -> float:
        with httpx.stream(
            "POST", f"{relay.gateway.url}/v1/audio/speech", headers=bearer(token), content=body, timeout=DEADLINE
        ) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in response.iter_raw():
                    pass
            return time.monotonic()

    running = pool.submit(ask)
    assert upstream.has_begun.wait(DEADLINE)
    revoke(relay.gateway, token)
    ended_at = time.monotonic()
    assert in_time(ended_at, running.result(DEADLINE))
    assert row(relay.gateway, token)["code"] == "token_inactive"


@pytest.mark.parametrize("comes", [True, False], ids=["in time", "too late"])
@pytest.mark.parametrize("is_upload", [False, True], ids=["plain", "upload"])
def test_the_end_of_an_event_is_waited_for_a_while(
    relay: Relay, pool: ThreadPoolExecutor, comes: bool, is_upload: bool
) -> None:
    sent, has_begun = event(WORD), threading.Event()

    def half(conversation: Conversation) -> None:
        conversation.read_message()
        conversation.send(CHUNKED + chunk(sent) + chunk(sent[:-10]))
        has_begun.set()
        while comes:  # in small pieces: the cut may come at any moment
            conversation.send(chunk(sent[-10:-1]))
            conversation.send(chunk(b"\n: a comment"))
            time.sleep(0.05)
            conversation.send(chunk(b"\n\n" + sent[:-10]))
        conversation.wait_until_closed()

    relay.expect(half)
    token = relay.gateway.make_token()
    running = pool.submit(read, relay.gateway, token, is_upload=is_upload)
    assert has_begun.wait(DEADLINE)
    revoke(relay.gateway, token)
    ended_at = time.monotonic()
    if comes:
        data, closed_at = running.result(DEADLINE)
        assert json.loads(data.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "token_inactive"
        assert data.count(b'"choices"') == data.count(b'"finish_reason": null}]}\n') >= 1
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            running.result(DEADLINE)
        closed_at = time.monotonic()
    assert in_time(ended_at, closed_at)


@pytest.mark.parametrize("is_upload", [False, True], ids=["plain", "upload"])
def test_a_request_without_a_response_yet_is_answered(relay: Relay, pool: ThreadPoolExecutor, is_upload: bool) -> None:
    asked, closed = threading.Event(), threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.read_message()
        asked.set()
        conversation.wait_until_closed()
        closed.set()

    relay.expect(wait)
    token = relay.gateway.make_token()
    url, body = f"{relay.gateway.url}/v1/chat/completions", iter([b"{}"]) if is_upload else b"{}"
    running = pool.submit(httpx.post, url, headers=bearer(token), content=body, timeout=DEADLINE)
    assert asked.wait(DEADLINE)
    revoke(relay.gateway, token)
    ended_at = time.monotonic()
    response = running.result(DEADLINE)
    assert in_time(ended_at, time.monotonic())
    assert (response.status_code, response.json()["code"]) == (401, "token_inactive")
    assert closed.wait(DEADLINE)
    settled = row(relay.gateway, token)
    assert (settled["status"], settled["code"]) == (401, "token_inactive")


def events_until(socket: Connection, kind: str) -> list[dict[str, Any]]:
    """Read events up to the first one of a type."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(socket.recv(DEADLINE)))
    return events


def test_a_websocket_gets_an_error_and_is_closed(gateway: Gateway) -> None:
    token, other = gateway.make_token(), gateway.make_token()
    url = f"{gateway.url.replace('http:', 'ws:')}/v1/realtime?model=gpt-realtime"
    with (
        connect(url, additional_headers=bearer(token), proxy=None) as socket,
        connect(url, additional_headers=bearer(other), proxy=None) as kept,
    ):
        revoke(gateway, token)
        ended_at = time.monotonic()
        assert events_until(socket, "error")[-1]["error"]["code"] == "token_inactive"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(DEADLINE)
        assert in_time(ended_at, time.monotonic())
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "The token has been revoked.")
        kept.send(json.dumps({"type": "response.create"}))
        assert events_until(kept, "response.done")
    settled = row(gateway, token)
    assert (settled["status"], settled["code"]) == (101, "token_inactive")


def test_a_budget_that_is_used_up_ends_the_stream(relay: Relay, pool: ThreadPoolExecutor) -> None:
    words = {**WORD, "choices": [{"index": 0, "delta": {"content": "Some words of the answer. " * 4}}]}
    upstream = Endless(event(words))
    relay.expect(upstream)
    token = relay.gateway.make_token(budgets=[{"usd": "0.005", "per": "day"}])
    data, _ = pool.submit(read, relay.gateway, token).result(DEADLINE)
    error = json.loads(data.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
    assert (error["code"], error["type"]) == ("insufficient_quota", "rate_limit_error")
    assert row(relay.gateway, token)["code"] == "insufficient_quota"
    assert relay.gateway.manage("GET", "/manage/requests?code=insufficient_quota", token=MANAGEMENT_TOKEN).json()[
        "data"
    ]
    assert upstream.closed_at
