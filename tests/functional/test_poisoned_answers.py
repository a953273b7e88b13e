"""Poisoned responses: each request gets its own response, once, for any bytes of an upstream.

Response splitting, response queue poisoning and ambiguous framing, as published with request smuggling; see
`support/attacks/desync.py` for the collections.
"""

import contextlib
import json
import threading
from collections.abc import Iterator

import h11
import pytest
from support.clients.raw_client import RawClient
from support.gateway.gateway import Gateway
from support.gateway.processes import DEADLINE
from support.gateway.relay import Relay
from support.upstreams.upstreams import Conversation, RawUpstream, answer_all, json_response

POISON = json_response({"poison": True}, headers="X-Poison: 1\r\n")
RIGHT = json_response({"right": True})
OK_HEAD = b"HTTP/1.1 200 OK\r\n"
HANGS_UP = b"0\r\n"
"""Stands for the end of an upstream's connection, after this."""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Relay]:
    folder = tmp_path_factory.mktemp("poisoned")
    with RawUpstream(answer_all()) as upstream, Gateway.start(folder, upstream.url, PLAIN_PATH=path) as gateway:
        yield Relay(gateway, upstream)
        assert "Traceback" not in gateway.logs()


def head(*headers: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *headers, b"", b""])


FRAMED_TWICE = {
    "CL and TE": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "TE and CL": (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "CL and identity": (b"Content-Length: 5", b"Transfer-Encoding: identity"),
    "two CLs": (b"Content-Length: 5", b"Content-Length: 50"),
    "two CLs, reversed": (b"Content-Length: 50", b"Content-Length: 5"),
    "one CL twice": (b"Content-Length: 5", b"Content-Length: 5"),
    "two TEs": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "one TE twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
} | {
    f"CL {value!r}": (b"Content-Length: " + value,)
    for value in (
        b"+5",
        b"-5",
        b"0x5",
        b"5_0",
        b"5, 5",
        b"5,6",
        b"5 0",
        b"5;a",
        b"",
        b"x",
        b"5\0",
        b"\xa05",
        b"\xd9\xa5",
    )
}
UNKNOWN_CODINGS = {
    f"TE {value!r}": (b"Transfer-Encoding: " + value,)
    for value in (
        *(
            b"chunked, chunked",
            b"chunked, gzip",
            b"xchunked",
            b"chunked;a",
            b'"chunked"',
            b",chunked",
            b"cow",
            b"chunked\0",
        ),
        *(b"\xa0chunked", b"chunked\xff", b"identity, chunked", b"\xe2\x84\xaahunked"),
    )
}
NO_HEADS = {
    "NUL in a value": head(b"X: a\0b"),
    "CR in a value": head(b"X: a\rSet-Cookie: b"),
    "a folded line": head(b"X: a", b" Content-Length: 5"),
    "a folded length": head(b"Content-Length:", b" 5"),
    "CR in the reason": head(line=b"HTTP/1.1 200 O\rX: K"),
    "NUL in the reason": head(line=b"HTTP/1.1 200 O\0K"),
    "a line without a colon": head(b"X y"),
    "a blank before the colon": head(b"Content-Length : 5"),
    "a blank before a name": head(b" X: y"),
    "no name": head(b": y"),
    "a name of two words": head(b"X Y: z"),
    "CR in a name": head(b"X\rY: z"),
    "another protocol": head(line=b"ICY 200 OK"),
    "another version": head(line=b"HTTP/3.0 200 OK"),
    "an unasked switch": head(b"Upgrade: x", b"Connection: upgrade", line=b"HTTP/1.1 101 Switching Protocols"),
    "no status": head(line=b"HTTP/1.1"),
    "a status of letters": head(line=b"HTTP/1.1 OK"),
    "a negative status": head(line=b"HTTP/1.1 -200 OK"),
    "a status of four digits": head(line=b"HTTP/1.1 2000 OK"),
    "a status with an underscore": head(line=b"HTTP/1.1 2_00 OK"),
    "a status with a sign": head(line=b"HTTP/1.1 +200 OK"),
    "TE in 1.0": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
    "TE in 204": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 204 No Content"),
    "no HTTP": b"hello\r\n\r\n",
    "interim answers with bodies": head(b"Content-Length: 5", line=b"HTTP/1.1 103 Early") + b"hello\r\n\r\n",
}
REFUSALS: dict[str, bytes] = {
    **{name: head(*headers) + b"5\r\nhello\r\n0\r\n\r\n" for name, headers in (FRAMED_TWICE | UNKNOWN_CODINGS).items()},
    **NO_HEADS,
}
PASSES: dict[str, tuple[str, bytes, int, bytes]] = {
    "nothing more": ("GET", head(b"Content-Length: 5") + b"hello", 200, b"hello"),
    "chunked": ("GET", head(b"Transfer-Encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", 200, b"hello"),
    "a padded size": ("GET", head(b"Transfer-Encoding: chunked") + b"5  \r\nhello\r\n0\r\n\r\n", 200, b"hello"),
    "HEAD with a body": ("HEAD", head(b"Content-Length: 5") + b"hello", 200, b""),
    "HEAD with chunks": ("HEAD", head(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 200, b""),
    "204 with a body": ("GET", head(b"Content-Length: 5", line=b"HTTP/1.1 204 No Content") + b"hello", 204, b""),
    "304 with a body": ("GET", head(b"Content-Length: 5", line=b"HTTP/1.1 304 Not Modified") + b"hello", 304, b""),
    "304 with chunks": (
        "GET",
        head(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 304 Not Modified") + b"5\r\nhello\r\n0\r\n\r\n",
        304,
        b"",
    ),
    "304 of chunks": ("GET", head(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 304 Not Modified"), 304, b""),
    "interim answers": ("GET", head(line=b"HTTP/1.1 103 Early Hints") * 3 + head(b"Content-Length: 0"), 200, b""),
    "very many interim answers": (
        "GET",
        head(line=b"HTTP/1.1 100 Continue") * 20_000 + head(b"Content-Length: 0"),
        200,
        b"",
    ),
    "close, in capitals": ("GET", head(b"Connection: Close", b"Content-Length: 5") + b"hello", 200, b"hello"),
}


class Sequel:
    """Answers the first request with some bytes and all others correctly, on any connection."""

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.requests = 0

    def __call__(self, conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            self.requests += 1
            conversation.send(self.first if self.requests == 1 else RIGHT)
            if self.requests == 1 and b"\r\n\r\n" not in self.first:
                return


VICTIMS = pytest.mark.parametrize("victims", [0, 3], ids=["to itself", "to others"])
"""The number of other clients, with open connections, that ask directly after the one that gets the bytes."""


def ask_in_turn(relay: Relay, method: str, first: bytes, victims: int) -> tuple[int, bytes]:
    """Send a request, then one each from other clients, then another one over its connection, if it stays.

    Check the answers to all but the first; return that. The other clients have connections by then.
    """
    relay.expect()
    with contextlib.ExitStack() as clients:
        others = [clients.enter_context(RawClient(relay.gateway.port)) for _ in range(victims)]
        for other in others:
            assert ask(relay, other, "GET") == (200, b"{}", True)
        relay.expect(Sequel(first))
        client = clients.enter_context(RawClient(relay.gateway.port))
        got = ask(relay, client, method)
        for other in others:
            check_right(relay, other)
        if got is None:
            return 0, b""
        status, body, stays = got
        if stays:
            check_right(relay, client)
        else:
            assert client.read_to_end() == b""
    with RawClient(relay.gateway.port) as client:
        check_right(relay, client)
    return status, body


def check_right(relay: Relay, client: RawClient) -> None:
    got = ask(relay, client, "GET")
    assert got is not None
    status, body, _ = got
    assert status == 200
    assert json.loads(body) == {"right": True}


def ask(relay: Relay, client: RawClient, method: str) -> tuple[int, bytes, bool] | None:
    """Send a request and read its answer, by h11; return True if the connection stays."""
    client.send(relay.head(f"{method} /v1/models HTTP/1.1"))
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    status, body = 0, b""
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            reader.receive_data(client.sock.recv(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
            assert not any(b"\r" in value or b"\0" in value for _, value in event.headers)
            assert not any(name == b"x-poison" for name, _ in event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert reader.trailing_data[0] == b""
            return status, body, reader.their_state is h11.DONE
        else:
            return None


@VICTIMS
@pytest.mark.parametrize("more", [b"", POISON], ids=["", "and another answer"])
@pytest.mark.parametrize("name", REFUSALS)
def test_an_ambiguous_upstream_response_is_503(relay: Relay, name: str, more: bytes, victims: int) -> None:
    status, body = ask_in_turn(relay, "GET", REFUSALS[name] + more, victims)
    assert status == 503
    assert json.loads(body)["code"] == "service_unavailable"


@VICTIMS
@pytest.mark.parametrize("more", [b"", POISON, POISON * 2, b"\r\n", b"\0", b"hello"], ids=repr)
@pytest.mark.parametrize("name", PASSES)
def test_bytes_after_a_response_never_reach_the_next_request(
    relay: Relay, name: str, more: bytes, victims: int
) -> None:
    method, first, status, body = PASSES[name]
    assert ask_in_turn(relay, method, first + more, victims) == (status, body)


@VICTIMS
@pytest.mark.parametrize("more", [POISON, b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"\0"], ids=repr)
def test_bytes_between_two_requests_never_reach_a_client(relay: Relay, more: bytes, victims: int) -> None:
    answered = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        while len(relay.upstream.conversations) > 1:
            conversation.send(RIGHT)
            conversation.read_head()
        conversation.send(head(b"Content-Length: 5") + b"hello")
        answered.wait()
        conversation.send(more)
        conversation.wait_until_closed()

    relay.expect(answer)
    with RawClient(relay.gateway.port) as client:
        assert ask(relay, client, "GET") == (200, b"hello", True)
        answered.set()
        assert relay.upstream.conversations[0].closed.wait(DEADLINE)
        for _ in range(victims):
            with RawClient(relay.gateway.port) as other:
                check_right(relay, other)
        check_right(relay, client)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("more", [b"", POISON, b"hello", HANGS_UP], ids=repr)
def test_a_response_before_the_end_of_an_upload_is_passed_once(relay: Relay, more: bytes, later: bool) -> None:
    answered = threading.Event()

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        if len(relay.upstream.conversations) == 1:
            conversation.send(head(b"Content-Length: 5") + b"hello" + (b"" if later else more))
            answered.wait()
            conversation.send(more if later else b"")
            if more == HANGS_UP:
                return
            while b"GET " not in conversation.received:
                conversation.read_more()
        conversation.send(RIGHT)
        conversation.wait_until_closed()

    relay.expect(answer)
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("POST /v1/files HTTP/1.1", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        _, body = client.read_answer()
        assert body == b"hello"
        answered.set()
        if later and more:
            assert relay.upstream.conversations[0].closed.wait(DEADLINE)
        client.send(b"0\r\n\r\n")
        # It may have been closed by now; if not, what comes next belongs to the next request.
        client.send(relay.head("GET /v1/models HTTP/1.1"))
        if rest := client.sock.recv(65536):
            assert b"X-Poison" not in rest
    with RawClient(relay.gateway.port) as client:
        check_right(relay, client)


@pytest.mark.parametrize("more", [b"", POISON, HANGS_UP], ids=repr)
def test_a_response_before_the_request_was_read_is_passed_once(relay: Relay, more: bytes) -> None:
    is_over = threading.Event()

    def answer(conversation: Conversation) -> None:
        while len(relay.upstream.conversations) > 1:
            conversation.read_head()
            conversation.send(RIGHT)
        conversation.read_head()
        conversation.send(head(b"Content-Length: 5") + b"hello")
        if more != HANGS_UP:
            conversation.send(more)
            is_over.wait()

    body = b"x" * 1_000_000
    relay.expect(answer)
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("POST /v1/files HTTP/1.1", f"Content-Length: {len(body)}") + body)
        _, got = client.read_answer()
        assert got == b"hello" or json.loads(got)["code"] == "service_unavailable"
        for _ in range(3):
            with RawClient(relay.gateway.port) as other:
                check_right(relay, other)
        check_right(relay, client)
    is_over.set()


def test_an_upstream_that_speaks_first_answers_no_other_client(relay: Relay) -> None:
    def answer(conversation: Conversation) -> None:
        if len(relay.upstream.conversations) == 1:
            conversation.send(POISON * 2)
        while True:
            conversation.read_head()
            conversation.send(RIGHT)

    relay.expect(answer)
    with RawClient(relay.gateway.port) as client:
        client.send(relay.head("GET /v1/models HTTP/1.1"))
        client.read_answer()
    for _ in range(3):
        with RawClient(relay.gateway.port) as other:
            check_right(relay, other)
