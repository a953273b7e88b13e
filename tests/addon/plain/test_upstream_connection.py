import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.test.tutils import treq, tresp
from support.gateway.inprocess import run, until
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import OK, Conversation, RawUpstream, answer_all

from addon.plain.response_reader import BadResponse
from addon.plain.upstream_connection import DEFAULT_IDLE, LONGEST_IDLE, MAX_AHEAD, UpstreamConnection, idle_time

READ_AT_ONCE = 256 * 1024
MESSAGE = b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n"


def request(method: bytes = b"GET") -> http.Request:
    return treq(method=method, path=b"/v1/x", headers=http.Headers([(b"Host", b"a")]), content=b"")


@contextlib.asynccontextmanager
async def connected(
    answer: Callable[[Conversation], None],
) -> AsyncIterator[tuple[UpstreamConnection, RawUpstream, list[UpstreamConnection]]]:
    """Connect to an upstream. The list gets the connection when it has ended."""
    ended: list[UpstreamConnection] = []
    with RawUpstream(answer) as upstream:
        server = Server(address=("127.0.0.1", upstream.port))
        connection = UpstreamConnection(server, ended.append)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", upstream.port)
        try:
            yield connection, upstream, ended
        finally:
            connection.close()
            await until(lambda: ended)
    assert ended == [connection]
    assert server.state is ConnectionState.CLOSED


async def ask(connection: UpstreamConnection, message: bytes = MESSAGE) -> http.Response:
    head: asyncio.Future[http.Response] = asyncio.get_running_loop().create_future()
    connection.send(request(), message, head)
    return await asyncio.wait_for(head, DEADLINE)


async def body(connection: UpstreamConnection) -> bytes:
    pieces: list[bytes] = []
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.read_body(pieces.append, end)
    await asyncio.wait_for(end, DEADLINE)
    return b"".join(pieces)


def test_requests_go_one_after_another() -> None:
    async def main() -> None:
        async with connected(answer_all()) as (connection, upstream, _):
            for _ in range(3):
                assert connection.is_fresh
                assert (await ask(connection)).status_code == 200
                assert not connection.is_fresh
                assert await body(connection) == b"{}"
                assert connection.release()
            assert upstream.received() == 3 * MESSAGE

    run(main())


def test_a_connection_is_not_reusable_within_a_response() -> None:
    async def main() -> None:
        async with connected(answer_all(OK)) as (connection, *_):
            await ask(connection)
            assert not connection.release()

    run(main())


@pytest.mark.parametrize("later", [False, True])
def test_data_behind_a_response_makes_a_connection_useless(later: bool) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(OK if later else OK + b"x")
        if later:
            conversation.read_head()
            conversation.send(b"x")
        conversation.wait_until_closed()

    async def main() -> None:
        async with connected(answer) as (connection, upstream, ended):
            await ask(connection)
            assert await body(connection) == b"{}"
            if later:
                assert connection.release()
                connection.write_raw(MESSAGE)
                await until(lambda: ended)
                assert not connection.is_fresh
            else:
                assert not connection.release()
            assert len(upstream.conversations) == 1

    run(main())


def test_a_response_that_comes_before_its_request_is_sent_makes_a_connection_useless() -> None:
    """Otherwise the next request would be read as the rest of this one's body."""

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(OK)
        conversation.closed.wait(DEADLINE)

    async def main() -> None:
        async with connected(answer) as (connection, upstream, _):
            assert connection._transport is not None  # noqa: SLF001
            sock = connection._transport.get_extra_info("socket")  # noqa: SLF001
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await ask(connection, MESSAGE + bytes(20_000_000))
            assert await body(connection) == b"{}"
            assert connection._transport.get_write_buffer_size()  # noqa: SLF001
            assert not connection.release()
            assert not connection.is_fresh
            connection.close()
            upstream.conversations[0].closed.set()

    run(main())


def test_a_close_is_seen_although_the_event_loop_has_not_seen_it() -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(OK)

    async def main() -> None:
        async with connected(answer) as (connection, upstream, _):
            await ask(connection)
            assert await body(connection) == b"{}"
            reusable = connection.release()
            upstream.conversations[0].closed.wait(DEADLINE)  # the loop stands
            assert not connection.is_fresh
            assert reusable or connection._failure  # noqa: SLF001

    run(main())


def test_a_request_on_a_closed_connection_is_answered_with_a_failure() -> None:
    async def main() -> None:
        async with connected(lambda _: None) as (connection, _, ended):
            await until(lambda: ended)
            with pytest.raises(BadResponse, match="hung up"):
                await ask(connection)

    run(main())


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "hung up"),
        (OK[:20], "hung up"),
        (b"nonsense\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes(300_000), "headers"),
    ],
)
def test_a_response_that_is_no_use_fails_its_request(response: bytes, reason: str) -> None:
    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(response.replace(b"\0", b"x"))

    async def main() -> None:
        async with connected(answer) as (connection, *_):
            with pytest.raises(BadResponse, match=reason):
                await ask(connection)
            assert not connection.release()

    run(main())


@pytest.mark.parametrize("is_asked_late", [False, True])
@pytest.mark.parametrize(
    ("head", "is_whole"),
    [(b"\r\n", True), (b"Content-Length: 9\r\n\r\n", False), (b"Transfer-Encoding: chunked\r\n\r\n", False)],
)
def test_the_end_of_a_connection_ends_a_body_without_a_length_only(
    head: bytes, is_whole: bool, is_asked_late: bool
) -> None:
    sent = b"5\r\nhello\r\n" if b"chunked" in head else b"hello"

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\n" + head + sent)

    async def main() -> None:
        async with connected(answer) as (connection, upstream, ended):
            await ask(connection)
            if is_asked_late:
                await asyncio.to_thread(upstream.conversations[0].closed.wait, DEADLINE)
                await until(lambda: ended)
            if is_whole:
                assert await body(connection) == b"hello"
            else:
                with pytest.raises(BadResponse, match="hung up"):
                    await body(connection)
            assert not connection.release()

    run(main())


def test_a_body_that_is_not_asked_for_is_not_read_without_bound() -> None:
    size = 30_000_000

    def answer(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        conversation.send(bytes(size))
        conversation.wait_until_closed()

    async def main() -> None:
        async with connected(answer) as (connection, *_):
            await ask(connection)
            await asyncio.sleep(0.3)
            assert MAX_AHEAD <= len(connection._buffer) <= MAX_AHEAD + READ_AT_ONCE  # noqa: SLF001
            assert len(await body(connection)) == size
            assert connection.release()

    run(main())


@pytest.mark.parametrize(
    ("version", "fields", "status", "seconds"),
    [
        (b"HTTP/1.1", {}, 200, DEFAULT_IDLE),
        (b"HTTP/1.1", {"Keep-Alive": "timeout=5, max=1"}, 200, 4),
        (b"HTTP/1.1", {"Keep-Alive": "max=1, TIMEOUT=1"}, 200, 0.5),
        (b"HTTP/1.1", {"Keep-Alive": "timeout=100000"}, 200, LONGEST_IDLE),
        (b"HTTP/1.1", {"Keep-Alive": "timeout=-1"}, 200, DEFAULT_IDLE),
        (b"HTTP/1.1", {"Keep-Alive": "timeout=0"}, 200, 0),
        (b"HTTP/1.1", {"Connection": "keep-alive, Close"}, 200, 0),
        (b"HTTP/1.0", {"Connection": "keep-alive"}, 200, 0),
        (b"HTTP/1.1", {}, 101, 0),
    ],
)
def test_the_time_that_a_connection_is_kept(
    version: bytes, fields: dict[str, str], status: int, seconds: float
) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    response = tresp(http_version=version, status_code=status, headers=http.Headers(encoded))
    assert idle_time(response) == seconds
