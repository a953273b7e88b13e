"""Streams pass as they come, in both directions, and so do hang-ups."""

import asyncio
import statistics
import time

import httpx
import pytest
from support.clients.raw_client import RawClient
from support.gateway.gateway import Gateway, bearer
from support.gateway.relay import Relay
from support.upstreams.upstreams import OK, Conversation, DemoUpstream

EVENTS = 20
MAX_DELAY = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream_timestamps(conversation: Conversation) -> None:
    """Send events that each say when they were sent, on the clock that all processes of a machine share."""
    while True:
        conversation.read_head()
        conversation.send(HEAD)
        for _ in range(EVENTS):
            conversation.send(chunk(b"data: %d\n\n" % time.monotonic_ns()))
            time.sleep(0.01)  # the pace of this upstream
        conversation.send(b"0\r\n\r\n")


def delays_of_a_stream(relay: Relay) -> list[float]:
    """Return how many seconds after it was sent each event of a stream came."""
    relay.expect(stream_timestamps)
    with httpx.stream("GET", f"{relay.gateway.url}/v1/stream", headers=bearer(relay.token)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        events = (line.removeprefix("data: ") for line in response.iter_lines() if line)
        delays = [(time.monotonic_ns() - int(event)) / 1e9 for event in events]
    assert len(delays) == EVENTS
    return delays


def test_each_event_arrives_within_50_ms(relay: Relay) -> None:
    streams = [delays_of_a_stream(relay) for _ in range(5)]
    for event_of_each_stream in zip(*streams, strict=True):
        assert statistics.median(event_of_each_stream) < MAX_DELAY  # a busy machine may hold up one


@pytest.mark.parametrize(
    ("headers", "buffering"),
    [
        (b"Content-Type: text/event-stream; charset=utf-8\r\n", ["no"]),
        (b"Content-Type: text/event-stream\r\nx-accel-buffering: yes\r\n", ["yes"]),
        (b"Content-Type: application/json\r\n", []),
    ],
)
def test_a_header_asks_balancers_not_to_buffer_events(relay: Relay, headers: bytes, buffering: list[str]) -> None:
    """A header of the upstream takes precedence. Other responses pass unchanged."""
    answer = b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 2\r\n\r\n{}"
    assert relay.send("GET", "/v1/stream", answer=answer).response.headers.get_list("x-accel-buffering") == buffering


def test_parallel_streams_do_not_delay_each_other(relay: Relay) -> None:
    async def read(client: httpx.AsyncClient) -> int:
        async with client.stream("GET", "/v1/stream", headers=bearer(relay.token)) as response:
            return len([line async for line in response.aiter_lines() if line])

    async def read_all() -> list[int]:
        async with httpx.AsyncClient(base_url=relay.gateway.url) as client:
            return await asyncio.gather(*(read(client) for _ in range(30)))

    relay.expect(stream_timestamps)
    assert asyncio.run(read_all()) == [EVENTS] * 30


def test_a_long_stream_passes_whole(gateway: Gateway) -> None:
    body = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "at length"}]}
    headers = {**bearer(gateway.make_token()), "X-Demo-Words": "5000"}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response:
        events = [line for line in response.iter_lines() if line]
    assert len(events) > 5000
    assert events[-1] == "data: [DONE]"


def test_a_client_that_hangs_up_closes_the_upstream_connection(gateway: Gateway, upstream: DemoUpstream) -> None:
    body = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "hang up"}]}
    headers = {**bearer(gateway.make_token()), "X-Demo-Words": "10000", "X-Demo-Chunk-Delay": "0.01"}
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers) as response:
        next(response.iter_lines())
        request_id = response.headers["x-request-id"]
    hung_up = upstream.wait_for_last(lambda request: bool(request["id"] == request_id and request["hung_up"]))
    assert not hung_up["finished"]


def test_a_waiting_client_that_hangs_up_closes_the_upstream_connection(relay: Relay) -> None:
    relay.expect(wait)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{relay.gateway.url}/v1/models", headers=bearer(relay.token), timeout=0.5)
    assert relay.upstream.conversations[0].closed.wait(5)


def wait(conversation: Conversation) -> None:
    """Take a request and never answer it."""
    conversation.read_head()
    conversation.wait_until_closed()


def test_a_client_sees_that_the_upstream_broke_off(relay: Relay) -> None:
    def break_off(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(HEAD + chunk(b"data: one\n\n"))

    relay.expect(break_off)
    token = relay.gateway.make_token()
    received: list[bytes] = []
    with (
        httpx.stream("GET", f"{relay.gateway.url}/v1/stream", headers=bearer(token)) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        received.extend(response.iter_raw())
    assert received == [b"data: one\n\n"]
    assert relay.gateway.token(token["id"])["request_count"] == 1


def test_an_upload_reaches_the_upstream_while_it_is_sent(relay: Relay) -> None:
    def take_first_part(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read_body(5)
        conversation.send(OK)
        conversation.wait_until_closed()

    relay.expect(take_first_part)
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked") + chunk(b"hello"))
        assert client.read_answer()[1] == b"{}"  # while the body has not ended
