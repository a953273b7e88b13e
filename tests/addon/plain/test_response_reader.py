import random
from typing import Literal, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.net.http import validate
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ReceiveHttp,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.test.tutils import treq

from addon.layers.upstream_http1 import MAX_HEADERS, UpstreamCodec
from addon.plain.response_reader import BadResponse, Body, read_head

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
EMPTY = b"HTTP/1.1 204 No Content\r\nX-A: \xe4 b  c\r\n\r\n"
LONE = b"HTTP/1.0 404 Not found \nContent-Length:  2 \nSet-Cookie: a=b\nSet-Cookie: c\n\n{}"
GOOD = [OK, CHUNKED, UNTIL_CLOSE, INTERIM, EMPTY, LONE]


def request(method: str = "GET") -> http.Request:
    return treq(method=method.encode(), path=b"/v1/x", headers=http.Headers([(b"Host", b"a")]), content=b"")


type End = Literal["whole", "surplus", "refused", "wants more", "until close"]


class Read(NamedTuple):
    """A response as a reader understands it, and the end of it."""

    status: int
    reason: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    end: End


NOTHING = Read(0, "", (), b"", "wants more")
REFUSED = NOTHING._replace(end="refused")


def read(pieces: list[bytes], method: str = "GET") -> Read:
    """Read a response that comes in pieces."""
    ahead, result, body = b"", NOTHING, None
    try:
        for piece in pieces:
            if body is None:
                response, ahead = read_head(ahead + piece)
                if response is None:
                    continue
                result = result._replace(
                    status=response.status_code, reason=response.reason, fields=response.headers.fields
                )
                body = Body(request(method), response)
                piece = ahead  # noqa: PLW2901
            for part in body.feed(piece):
                result = result._replace(body=result.body + part)
    except BadResponse:
        return result._replace(end="refused")
    if body is None or (not body.is_complete and not body.may_end):
        return result
    if not body.is_complete:
        return result._replace(end="until close")
    return result._replace(end="surplus" if body.surplus else "whole")


@pytest.mark.parametrize(
    ("data", "body", "end"),
    [
        (OK, b"hello", "whole"),
        (OK + b"H", b"hello", "surplus"),
        (OK[:-1], b"hell", "wants more"),
        (CHUNKED, b"abcde", "whole"),
        (CHUNKED + b"0", b"abcde", "surplus"),
        (CHUNKED[:-1], b"abcde", "wants more"),
        (UNTIL_CLOSE, b"data: x\n\n", "until close"),
        (INTERIM, b"hello", "whole"),
        (EMPTY, b"", "whole"),
        (EMPTY + b"x", b"", "surplus"),
        (LONE, b"{}", "whole"),
        (CHUNKED.replace(b"3\r\n", b"-3\r\n"), b"", "refused"),
        (CHUNKED.replace(b"abc\r\n", b"abcd\r\n"), b"abc", "refused"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_response_in_any_pieces_is_read(data: bytes, body: bytes, end: End, step: int) -> None:
    result = read([data[start : start + step] for start in range(0, len(data), step)])
    assert (result.body, result.end) == (body, end)


def test_a_response_to_head_has_no_body() -> None:
    assert read([OK.removesuffix(b"hello")], "HEAD").end == "whole"
    assert read([OK], "HEAD").end == "surplus"


def test_a_part_of_a_head_is_waited_for_without_the_interim_responses_before_it() -> None:
    start = INTERIM.index(b"HTTP/1.1 200")
    for end in range(start, len(INTERIM) - len(b"hello")):
        assert read_head(INTERIM[:end]) == (None, INTERIM[start:end])


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\r\n" + OK,
        b"HTTP/1.1 +200 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 2_0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX Y: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEADERS,
    ],
)
def test_a_malformed_or_ambiguous_response_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse) as refused:
        read_into_body(data)
    assert "200" not in str(refused.value)


def read_into_body(data: bytes) -> None:
    response, _ = read_head(data)
    if response is not None:
        Body(request(), response)


PIECES = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b"\x85", b"\xff", b":", b",", b";", b"0", b"5", b"a", b"+"),
    *(b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"200", b"100", b"101", b"204", b"304", b"401", b"Content-Length: 5\r\n"),
    *(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"chunked"),
    *(b"Content-Length: \r\n", b"content-length: 05\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5 \r\n", b""),
    *(b"HTTP/1.1 200  OK", b"HTTP/1.1 200 \t", b"HTTP/1.1 200 OK "),
    *(b"Connection: close\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\n\r\n", b" x"),
]


def mutated(seed: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311 - no secret
    data = chance.choice(GOOD)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice([0, 0, 0, 1, 2, 5]))
        data = data[:start] + chance.choice(PIECES) + data[end:]
    return data


@given(st.integers(0, 2**32).map(mutated), st.lists(st.integers(1, 60), max_size=8), st.sampled_from(["GET", "HEAD"]))
@example(OK, [1] * 30, "GET")
@example(CHUNKED, [50, 3, 1, 1, 1, 1], "GET")
@example(UNTIL_CLOSE, [], "GET")
@example(INTERIM, [10, 20], "GET")
@example(LONE, [7], "HEAD")
@example(b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK, [27], "GET")
def test_the_codec_of_the_layers_reads_the_same(data: bytes, sizes: list[int], method: str) -> None:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    pieces = [piece for piece in [*pieces, data] if piece]
    assert read(pieces, method) == layers_read(pieces, method)


def layers_read(pieces: list[bytes], method: str) -> Read:
    """Read with the codec of the layers."""
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    context = Context(client, Options())
    server = context.server = Server(address=("upstream.test", 80))
    server.state = ConnectionState.OPEN
    codec = UpstreamCodec(context)
    for event in (events.Start(), RequestHeaders(1, request(method), True), RequestEndOfMessage(1)):
        [*codec.handle_event(event)]
    result, left = NOTHING, [*pieces]
    while left and result.end != "refused":
        for command in codec.handle_event(events.DataReceived(server, left.pop(0))):
            try:
                result = _noted(result, command)
            except ValueError:  # the layer above the codec refuses it
                return result._replace(end="refused")
        if result.end == "whole":
            return result._replace(end="surplus" if left or codec.buf else "whole")
    if result.end == "wants more" and result.status and codec.state == codec.read_body:
        ends = [*codec.handle_event(events.ConnectionClosed(server))]
        if any(isinstance(one, ReceiveHttp) and isinstance(one.event, ResponseEndOfMessage) for one in ends):
            return result._replace(end="until close")
    return result


def _noted(result: Read, command: commands.Command) -> Read:
    event = command.event if isinstance(command, ReceiveHttp) else None
    match event:
        case ResponseHeaders(response=response):
            validate.validate_headers(response)
            return result._replace(status=response.status_code, reason=response.reason, fields=response.headers.fields)
        case ResponseData(data=data):
            return result._replace(body=result.body + data)
        case ResponseEndOfMessage():
            return result._replace(end="whole")
        case ResponseProtocolError():
            return result._replace(end="refused")
    return result
