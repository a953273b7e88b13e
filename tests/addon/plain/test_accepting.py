import random
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.net.http import validate
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import ReceiveHttp, RequestData, RequestEndOfMessage, RequestHeaders
from support.attacks.strict_http import read_strictly

from addon.exchange import Exchanges
from addon.layers.client_http1 import ClientCodec
from addon.plain import accepting
from addon.plain.accepting import END_OF_HEAD, Origin
from addon.streaming import LARGE
from addon.validation import MAX_HEADERS

ORIGIN = Origin(b"https", "upstream.test", 8443, b"upstream.test:8443")

type Fields = tuple[tuple[str, str], ...]

GET = b"GET /v1/models HTTP/1.1\r\nHost: proxy\r\n\r\n"
POST = b"POST /v1/x?a=b#c HTTP/1.1\r\nHost: proxy:80\r\nContent-Length: 5\r\nX-A: \xe4 b  c\r\n\r\n"
CLOSING = b"DELETE / HTTP/1.1\r\nconnection: Close\r\nHOST:[::1]:80\r\nAccept:\r\nContent-Length:\t 0\r\n\r\n"
KEPT = b"HEAD /%2F?? HTTP/1.1\r\nHost:\r\nConnection: keep-alive\r\nConnection: Keep-Alive\r\n\r\n"
PUT = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\nCookie: a=b; c\r\nCookie: d\r\n\r\n"
OPTIONS = b"OPTIONS /v1/x HTTP/1.1\r\nHost: proxy\r\nOrigin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n"
GOOD = [GET, POST, CLOSING, KEPT, PUT, OPTIONS]


def test_a_usual_request_is_read() -> None:
    accepted = accepting.read(POST, ORIGIN)
    assert accepted is not None
    request = accepted.request
    assert (request.method, request.path, request.http_version) == ("POST", "/v1/x?a=b#c", "HTTP/1.1")
    assert (request.scheme, request.host, request.port) == ("https", "upstream.test", 8443)
    assert request.headers.fields == (
        (b"Host", b"upstream.test:8443"),
        (b"Content-Length", b"5"),
        (b"X-A", b"\xe4 b  c"),
    )
    assert request.raw_content is None
    assert (accepted.length, accepted.is_last) == (5, False)


@pytest.mark.parametrize(
    ("head", "length", "is_last"),
    [(GET, 0, False), (CLOSING, 0, True), (KEPT, 0, False), (PUT, LARGE, False)],
    ids=["GET", "close", "keep-alive", "large"],
)
def test_the_length_and_the_last_request_are_told(head: bytes, length: int, is_last: bool) -> None:
    accepted = accepting.read(head, ORIGIN)
    assert accepted is not None
    assert (accepted.length, accepted.is_last) == (length, is_last)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        *((b"GET", method) for method in (b"get", b"options", b"PROPFIND", b"TRACE", b"CONNECT", b"G ET", b"PRI", b"")),
        *(
            (b"/v1/models", target)
            for target in (b"", b"*", b"v1", b"http://a/v1", b"/a b", b"/\x7f", b"/\xe4", b"a:1")
        ),
        *((b"HTTP/1.1", version) for version in (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b"HTTP/1.2")),
        *((b"\r\n", end) for end in (b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b"\r\n ")),
        *((b"Host: proxy", host) for host in (b"Host: a b", b"Host: a@b", b"Host: a/", b"Host : a", b" Host: a")),
        *((b"Host: proxy", host) for host in (b"X: y", b"Host: a\r\nHost: a", b"Host: a, b", b"Host: [::1", b"Host")),
        *(
            (b"Host: proxy", b"Host: proxy\r\n" + field)
            for field in (
                *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Upgrade: h2c", b"Trailer: x"),
                *(b"Expect: 100-continue", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Connection: Upgrade"),
                *(b"Connection: close, te", b"Connection:", b"Connection: keep-alive, close"),
                *(b"Content-Length: 1048577", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5, 5"),
                *(b"Content-Length: 05", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length:"),
                *(b"Content-Length: -1", b"Content-Length: 5_0", b"Content-Length: " + b"9" * 20),
                *(b"X", b": y", b"X Y: z", b"X : y", b"X: y ", b"X: y\t", b"X: a\0b", b"X: a\rb", b"X: a\nb"),
                *(
                    b"X:\x0by",
                    b"X:\x0b",
                    b"X: y\r\n z",
                    b"X\x80: y",
                    b"X: \x7f",
                    b'"X": y',
                    b"X: " + b"y" * MAX_HEADERS,
                ),
            )
        ),
    ],
)
def test_an_unusual_request_is_left_to_the_layers(good: bytes, bad: bytes) -> None:
    assert accepting.read(GET.replace(good, bad, 1), ORIGIN) is None


@pytest.mark.parametrize("head", GOOD)
def test_a_good_beginning_is_waited_for(head: bytes) -> None:
    assert [end for end in range(1, len(head) - 1) if not accepting.may_begin(head[:end])] == []


@pytest.mark.parametrize(
    "data",
    [
        *(b"\r\n", b"\n", b" GET", b"get", b"PRI * HTTP/2.0", b"OPTIONSX", b"TRACE ", b"\x16\x03\x01", b"GETS"),
        *(b"GET / HTTP/1.1\nHost: a", b"GET / HTTP/1.1\r\nHost: a\n", b"GET " + b"/" * MAX_HEADERS),
    ],
)
def test_a_beginning_that_the_layers_answer_is_not_waited_for(data: bytes) -> None:
    assert not accepting.may_begin(data)


class Read(NamedTuple):
    """A request as some reader understands it; the host is aside, as the gateway sets its own."""

    method: str
    target: str
    fields: Fields
    length: int


PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x85",
        b"\xa0",
        b"\xff",
        b":",
        b",",
        b";",
    ),
    *(b"%00", b"%0d%0a", b"//", b"..", b"?", b"#", b"@", b"HTTP/1.0", b"HTTP/1.1", b"GET ", b"HEAD ", b"/", b"0", b"5"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Host: other\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"X: y\r\n", b"close"),
    *(b"A: b\r\nC: d\r\n", b"http://other/", b"_", b"-", b"+", b"[::1]", b"\r\n\r\n", b"x" * 100),
]


def mutated(seed: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311 - no secret
    head = chance.choice(GOOD)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        start = chance.randrange(len(head) - 1)
        end = min(len(head) - 2, start + chance.choice([0, 0, 0, 1, 2, 5]))
        piece = chance.choice(PIECES) if chance.random() < 0.8 else bytes([chance.randrange(256)])
        head = head[:start] + piece + head[end:]
    return head.partition(END_OF_HEAD)[0] + END_OF_HEAD


_NAME = st.text("!#$%&'*+-.^_`|~0aZ", min_size=1, max_size=6).map(str.encode)
_VALUE = st.text('\t !a0:,;"\\\x7f\x80\xff\x0b\r\n', max_size=8).map(lambda text: text.encode("latin-1"))
_FIELD = st.builds(lambda name, blank, value: name + b":" + blank + value, _NAME, st.sampled_from([b"", b" "]), _VALUE)
_LINE = st.sampled_from([b"Host: a", b"Content-Length: 3", b"Connection: close"]) | _FIELD
_TARGET = st.text("/a?#%:@. \x7f\xe4*", max_size=8).map(lambda text: text.encode("latin-1"))
_RANDOM = st.builds(
    lambda method, target, lines: b"%b /%b HTTP/1.1\r\n%b\r\n\r\n" % (method, target, b"\r\n".join(lines)),
    st.sampled_from([b"GET", b"POST", b"HEAD"]),
    _TARGET,
    st.lists(_LINE, min_size=1, max_size=4).map(lambda lines: [b"Host: a", *lines]),
)


@given(st.integers(0, 2**32).map(mutated) | _RANDOM)
@example(GET)
@example(POST)
@example(CLOSING)
@example(KEPT)
@example(OPTIONS)
def test_all_readers_read_an_accepted_request_alike(data: bytes) -> None:
    head, end, _ = data.partition(END_OF_HEAD)
    accepted = accepting.read(head + end, ORIGIN)
    if accepted is None:
        return
    body = bytes(accepted.length)
    request = accepted.request
    read = Read(request.method, request.path, _fields(request.headers.fields), accepted.length)
    (strict,) = read_strictly(head + end + body + GET)[0][:1]
    assert read == Read(strict.method, strict.target, _without_host(strict.fields), len(strict.body))
    assert read == layers_read(head + end + body)
    assert accepting.may_begin(head)
    assert accepted.is_last == (read_strictly(head + end + body).end == "closed")


@pytest.mark.parametrize("head", GOOD)
def test_mutations_are_accepted_often_enough_to_compare(head: bytes) -> None:
    """Otherwise the property test says nothing."""
    assert accepting.read(head, ORIGIN) is not None
    assert sum(accepting.read(mutated(seed), ORIGIN) is not None for seed in range(1000)) > 100


def layers_read(data: bytes) -> Read:
    """Read the only request in some bytes with the codec of the layers."""
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    codec = ClientCodec(Context(client, Options()), Exchanges(lambda *_: None))
    said = [*codec.handle_event(events.Start()), *codec.handle_event(events.DataReceived(client, data))]
    assert not [command for command in said if isinstance(command, commands.SendData | commands.CloseConnection)]
    parts = [command.event for command in said if isinstance(command, ReceiveHttp)]
    head, last = parts[0], parts[-1]
    assert isinstance(head, RequestHeaders)
    assert isinstance(last, RequestEndOfMessage)
    validate.validate_headers(head.request)  # as the layer above the codec does
    length = sum(len(part.data) for part in parts if isinstance(part, RequestData))
    return Read(head.request.method, head.request.path, _fields(head.request.headers.fields), length)


def _fields(fields: tuple[tuple[bytes, bytes], ...]) -> Fields:
    return _without_host(tuple((name.lower().decode(), value.decode("latin-1")) for name, value in fields))


def _without_host(fields: Fields) -> Fields:
    return tuple(field for field in fields if field[0] != "host")
