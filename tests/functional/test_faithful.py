"""What is sent arrives, byte for byte, in both directions; what is taken out is what the README lists."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from support.gateway import Gateway, bearer
from support.upstreams import KEY, OK, Conversation, RawUpstream, answer_all, json_response

NO_HEADERS: Mapping[str, str] = {}


class Relayed(NamedTuple):
    """What the upstream got, and what the client got: its body as it came, not decoded."""

    received: bytes
    response: httpx.Response
    body: bytes


class Relay:
    """A gateway before a raw upstream."""

    def __init__(self, gateway: Gateway, upstream: RawUpstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.token = gateway.make_token()

    def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        answer: bytes | Callable[[Conversation], None] = OK,
    ) -> Relayed:
        """Send one request over a connection of its own."""
        self.upstream.conversations.clear()
        self.upstream.answer = answer if callable(answer) else answer_all(answer)
        with (
            httpx.Client(base_url=self.gateway.url, headers=bearer(self.token)) as client,
            client.stream(method, target, headers=headers, content=content) as response,
        ):
            body = b"".join(response.iter_raw())
        return Relayed(self.upstream.received(), response, body)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with (
        RawUpstream(answer_all()) as upstream,
        Gateway.start(tmp_path_factory.mktemp("relay"), upstream.url) as gateway,
    ):
        yield Relay(gateway, upstream)


def test_the_raw_target_passes(relay: Relay) -> None:
    target = "/v1/models/org%2Fname?limit=2&a=%2F&b=a+b&c"
    assert relay.send("GET", target).received.startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(("prefix", "path"), [("/api", "/api/v1/x"), ("/openai/v1", "/openai/v1/x"), ("/v1/", "/v1/x")])
def test_a_path_of_the_upstream_goes_before_v1_or_replaces_it(tmp_path: Path, prefix: str, path: str) -> None:
    with RawUpstream(answer_all()) as upstream, Gateway.start(tmp_path, upstream.url + prefix) as gateway:
        httpx.get(f"{gateway.url}/v1/x", headers=bearer(gateway.make_token())).raise_for_status()
    assert upstream.received().startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_headers_pass_but_for_those_that_must_not(relay: Relay) -> None:
    passing = {
        "OpenAI-Organization": "org",
        "X-Request-ID": "mine",
        "Accept-Encoding": "br",
        "X-Stainless-Lang": "python",
    }
    dropped = {
        "Cookie": "a=b",
        "Connection": "keep-alive, X-Of-This-Hop",
        "X-Of-This-Hop": "1",
        "Keep-Alive": "timeout=5",
        "Proxy-Authorization": "Basic x",
        "TE": "trailers",
        "Upgrade": "websocket",  # one that is not valid: it has no key
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Anything": "1",
        "Forwarded": "for=10.0.0.1",
        "X-Real-IP": "10.0.0.1",
        "True-Client-IP": "10.0.0.1",
    }
    lines = relay.send("GET", "/v1/x", headers={**passing, **dropped}).received.decode().split("\r\n")[1:-2]
    sent = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in lines}
    assert {name.lower(): value for name, value in passing.items()}.items() <= sent.items()
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent.keys() - {name.lower() for name in passing} == {"host", "accept", "user-agent", "authorization"}


def test_framing_headers_cannot_be_named_away(relay: Relay) -> None:
    headers = {"Connection": "content-length, authorization, host"}
    received = relay.send("POST", "/v1/x", content=b"hello", headers=headers).received
    assert b"content-length: 5\r\n" in received.lower()
    assert f"authorization: Bearer {KEY}\r\n".encode() in received


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"text": "\u2028 Grüße \U0001f600" * 1000}, ensure_ascii=False).encode(),
        gzip.compress(b"x" * 10_000),
        bytes(range(256)) * 10,
        bytes(range(256)) * 10_000,  # streamed
        b"",
    ],
    ids=["json", "gzip", "bytes", "streamed", "empty"],
)
def test_bodies_pass_both_ways(relay: Relay, content: bytes) -> None:
    def echo(conversation: Conversation) -> None:
        conversation.read_head()
        body = conversation.read_body(len(content))
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        conversation.send(head.encode() + body)

    relayed = relay.send("POST", "/v1/x", content=content, headers={"Content-Encoding": "gzip"}, answer=echo)
    assert relayed.received.partition(b"\r\n\r\n")[2] == relayed.body == content
    assert b"content-encoding: gzip\r\n" in relayed.received.lower()
    assert relayed.response.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", [201, 202, 204, 301, 304, 400, 404, 409, 418, 429, 500, 503, 529])
def test_upstream_answers_pass_unchanged(relay: Relay, status: int) -> None:
    headers = "X-Request-ID: req_theirs\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nRetry-After: 7\r\n"
    answer = json_response({"error": {"message": "theirs"}}, status=f"{status} Theirs", headers=headers)
    if status in {204, 304}:
        answer = f"HTTP/1.1 {status} Theirs\r\n{headers}\r\n".encode()
    _, response, body = relay.send("GET", "/v1/x", answer=answer)
    assert (response.status_code, response.reason_phrase) == (status, "Theirs")
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-request-id"] == "req_theirs"
    assert response.headers["x-llm-proxy-request-id"] != "req_theirs"
    assert int(response.headers["x-llm-proxy-remote-duration-ms"]) >= 0
    assert body == answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"]
)
def test_interim_answers_are_passed_over(relay: Relay, interim: bytes) -> None:
    def answer(conversation: Conversation) -> None:
        while True:
            target = conversation.read_head().split(b" ")[1]
            conversation.send(interim + interim[:20])
            conversation.send(interim[20:] + json_response({"target": target.decode()}))

    relay.upstream.answer = answer
    with httpx.Client(base_url=relay.gateway.url, headers=bearer(relay.token)) as client:
        for target in ("/v1/one", "/v1/two"):
            assert client.get(target).json() == {"target": target}


def test_an_answer_without_an_id_gets_ours(relay: Relay) -> None:
    response = relay.send("GET", "/v1/x", headers={"X-Request-ID": "mine"}).response
    assert response.headers["x-request-id"] == response.headers["x-llm-proxy-request-id"] != "mine"


def test_an_answer_that_ends_with_its_connection(relay: Relay) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")

    assert relay.send("GET", "/v1/x", answer=answer).body == b"until the end"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_methods_and_bodies_of_any_endpoint_pass(relay: Relay, method: str) -> None:
    relayed = relay.send(method, "/v1/an/endpoint/of/tomorrow", answer=json_response({"any": method}))
    assert relayed.received.startswith(f"{method} /v1/an/endpoint/of/tomorrow HTTP/1.1\r\n".encode())
    assert json.loads(relayed.body) == {"any": method}


def test_head_passes(relay: Relay) -> None:
    relayed = relay.send("HEAD", "/v1/models", answer=b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    assert relayed.received.startswith(b"HEAD /v1/models ")
    assert (relayed.response.headers["content-length"], relayed.body) == ("1234", b"")
