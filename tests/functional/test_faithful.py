"""Requests and responses pass byte for byte, but for the headers that docs/reference/compatibility.md lists."""

import gzip
import json
import re
import secrets
import zlib
from pathlib import Path

import httpx
import pytest
from support.clients.raw_client import RawClient
from support.gateway.gateway import Gateway, bearer
from support.gateway.relay import Relay
from support.upstreams.upstreams import KEY, OK, Conversation, RawUpstream, answer_all, json_response


def test_the_target_passes_as_it_was_written(relay: Relay) -> None:
    target = "/v1/models/org%2Fname?limit=2&a=%2F&b=a+b&c"
    assert relay.send("GET", target).received.startswith(f"GET {target} HTTP/1.1\r\n".encode())


def test_a_path_in_the_upstream_url_precedes_v1_or_replaces_it(tmp_path: Path) -> None:
    paths = {"/api": "/api/v1/x", "/openai/v1": "/openai/v1/x", "/v1/": "/v1/x"}
    with RawUpstream(answer_all()) as upstream, Gateway.start(tmp_path, upstream.url, proxies=0) as gateway:
        token = gateway.make_token()
        for prefix, path in paths.items():
            gateway.env["UPSTREAM_URL"] = upstream.url + prefix
            proxy = gateway.start_proxy()
            upstream.forget()
            httpx.get(f"{proxy.url}/v1/x", headers=bearer(token)).raise_for_status()
            assert upstream.received().startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_headers_pass_except_the_listed_ones(relay: Relay) -> None:
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
        "x-api-key": "sk-other",
        "api-key": "other",
        "X-Goog-Api-Key": "other",
        "xi-api-key": "other",
    }
    lines = relay.send("GET", "/v1/x", headers={**passing, **dropped}).received.decode().split("\r\n")[1:-2]
    sent = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in lines}
    assert {name.lower(): value for name, value in passing.items()}.items() <= sent.items()
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent.keys() - {name.lower() for name in passing} == {"host", "accept", "user-agent", "authorization"}


@pytest.mark.parametrize("location", ["{upstream}/v1/files?a=%2F", "/v1/files?a=%2F", "files?a=%2F"])
def test_a_redirect_of_the_upstream_leads_back_to_the_gateway(relay: Relay, location: str) -> None:
    def answer(conversation: Conversation) -> None:
        if conversation.read_head().startswith(b"GET /v1/old "):
            to = location.format(upstream=relay.upstream.url)
            conversation.send(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())
            conversation.read_head()
        conversation.send(OK)

    relay.expect(answer)
    with httpx.Client(headers=bearer(relay.token), follow_redirects=True) as client:
        response = client.get(f"{relay.gateway.url}/v1/old")
    assert (response.status_code, str(response.url)) == (200, f"{relay.gateway.url}/v1/files?a=%2F")
    assert b"GET /v1/files?a=%2F HTTP/1.1\r\n" in relay.upstream.received()


def test_framing_headers_named_in_connection_still_pass(relay: Relay) -> None:
    headers = {"Connection": "content-length, authorization, host"}
    received = relay.send("POST", "/v1/x", content=b"hello", headers=headers).received
    assert b"content-length: 5\r\n" in received.lower()
    assert f"authorization: Bearer {KEY}\r\n".encode() in received


MULTIPART = (
    b'--limit\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xbc.bin"\r\n\r\n'
    + bytes(range(256)) * 8
    + b"\r\n--limit--\r\n"
)


def utf8_json(size: int) -> bytes:
    """Make a JSON document of `size` bytes, with characters of one to four bytes."""
    text = "a\u2028ü\U0001f600" * (size // 10)
    return b'{"t":"%s"}' % text.encode()[: size - 8].decode(errors="ignore").encode().ljust(size - 8)


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (utf8_json(2**20), {"Content-Type": "application/json; charset=utf-8"}),
        (utf8_json(2**20 + 1), {"Content-Type": "application/json; charset=utf-8"}),  # streamed
        (MULTIPART, {"Content-Type": "multipart/form-data; boundary=limit"}),
        (gzip.compress(b"x" * 10_000), {"Content-Encoding": "gzip"}),
        (b"not gzip at all", {"Content-Encoding": "gzip"}),
        (zlib.compress(b"x" * 10_000), {"Content-Encoding": "deflate"}),
        (secrets.token_bytes(3_000_000), {"Content-Type": "application/octet-stream"}),
        (b"\xff\xfe\x00", {"Content-Type": "application/json; charset=latin-1"}),
        (b"", {}),
    ],
    ids=["json", "json-streamed", "multipart", "gzip", "no-gzip", "deflate", "streamed", "other-charset", "empty"],
)
def test_bodies_pass_both_ways(relay: Relay, content: bytes, headers: dict[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()

    def echo(conversation: Conversation) -> None:
        conversation.read_head()
        body = conversation.read_body(len(content))
        conversation.send(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (lines, len(body), body))

    relayed = relay.send("POST", "/v1/x", content=content, headers=headers, answer=echo)
    assert relayed.received.partition(b"\r\n\r\n")[2] == relayed.body == content
    for name, value in headers.items():
        assert f"\r\n{name}: {value}\r\n".encode() in relayed.received
        assert relayed.response.headers[name] == value


@pytest.mark.parametrize("chunks", [[b"hello"], [b"a" * 70_000, b"\x00", b"0\r\n\r\n", b"z"], []])
def test_an_upload_of_unknown_length_passes_in_chunks(relay: Relay, chunks: list[bytes]) -> None:
    def take_all(conversation: Conversation) -> None:
        conversation.read_head()
        while not conversation.received.endswith(b"0\r\n\r\n"):
            conversation.read_more()
        conversation.send(OK)

    relay.expect(take_all)
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked"))
        for data in [*chunks, b""]:
            client.send(b"%x\r\n%s\r\n" % (len(data), data))
        assert client.read_answer()[1] == b"{}"
    head, _, body = relay.upstream.received().partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert b"content-length" not in head.lower()
    assert unchunked(body) == b"".join(chunks)


def unchunked(body: bytes) -> bytes:
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return content


OURS = re.compile(rb"\r\n(X-LLM-Proxy-Request-Id|X-Request-ID|X-LLM-Proxy-Remote-Duration-Ms): [0-9a-f-]+(?=\r\n|$)")


def test_responses_of_every_status_pass_byte_for_byte(relay: Relay) -> None:
    """Names in their own case, repeated ones in their own order, odd blanks and all. A 401 never passes."""

    def answer(conversation: Conversation) -> None:
        while True:
            conversation.send(answers[int(conversation.read_head().split(b" ")[1].rpartition(b"/")[2])])

    fields = b"X-One: 1\r\nsEt-CoOkIe: a=1\r\nX-Two: \xc3\xbc\r\nSet-Cookie: b=2\r\nSet-Cookie: a=1\r\nX-Empty: \r\n"
    answers = {status: b"HTTP/1.1 %d Theirs (%d)\r\n%s" % (status, status, fields) for status in range(200, 600)}
    del answers[401]
    for status in answers:
        answers[status] += b"\r\n" if status in {204, 304} else b"Content-Length: 4\r\n\r\n\x00\xff\r\n"
    relay.expect(answer)
    with RawClient(relay.gateway.port) as client:
        for status, sent in answers.items():
            client.send(relay.head(f"GET /v1/status/{status} HTTP/1.1"))
            came = client.read_head() + b"\r\n\r\n"
            came += b"" if status in {204, 304} else client.read(4)
            assert len(OURS.findall(came)) == 3
            assert OURS.sub(b"", came) == sent
    assert relay.gateway.token(relay.token["id"])["request_count"] >= len(answers)


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n',
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}",  # an empty reason
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["304", "204", "empty", "no-reason", "chunked", "chunked-empty"],
)
def test_the_framing_of_responses_passes_and_the_connection_stays(relay: Relay, answer: bytes) -> None:
    relay.expect(answer)
    with RawClient(relay.gateway.port) as client:
        for _ in range(2):
            client.send(relay.head("GET /v1/x HTTP/1.1"))
            came = client.read_head() + b"\r\n\r\n"
            came += client.read(len(answer) - len(OURS.sub(b"", came)))
            assert OURS.sub(b"", came) == answer


def test_the_upstreams_own_request_id_passes(relay: Relay) -> None:
    answer = json_response(
        {"error": {"message": "theirs"}}, status="429 Too Many", headers="X-Request-ID: req_theirs\r\n"
    )
    response = relay.send("GET", "/v1/x", answer=answer).response
    assert response.headers.get_list("x-request-id") == ["req_theirs"]
    assert response.headers["x-llm-proxy-request-id"] != "req_theirs"


def test_repeated_request_headers_pass_in_their_order(relay: Relay) -> None:
    sent = ["X-A: 1", "x-b: 2", "X-A: 3", "Accept: a", "X-a: 1", "ACCEPT: b", "X-Blank:"]
    relay.expect()
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("GET /v1/x HTTP/1.1", *sent))
        client.read_answer()
    lines = relay.upstream.received().decode().split("\r\n")
    assert [
        line.removesuffix(" ")
        for line in lines
        if line.partition(":")[0].lower() in {"x-a", "x-b", "accept", "x-blank"}
    ] == sent


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"]
)
def test_interim_responses_are_dropped(relay: Relay, interim: bytes) -> None:
    def answer(conversation: Conversation) -> None:
        while True:
            target = conversation.read_head().split(b" ")[1]
            conversation.send(interim + interim[:20])
            conversation.send(interim[20:] + json_response({"target": target.decode()}))

    relay.expect(answer)
    with httpx.Client(base_url=relay.gateway.url, headers=bearer(relay.token)) as client:
        for target in ("/v1/one", "/v1/two"):
            assert client.get(target).json() == {"target": target}


def test_a_response_without_a_request_id_gets_the_gateways(relay: Relay) -> None:
    response = relay.send("GET", "/v1/x", headers={"X-Request-ID": "mine"}).response
    assert response.headers["x-request-id"] == response.headers["x-llm-proxy-request-id"] != "mine"


def test_a_response_that_ends_with_its_connection_passes(relay: Relay) -> None:
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
