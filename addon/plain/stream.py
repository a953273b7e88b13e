"""One request on the plain path and its response: the hooks, in mitmproxy's order, and the ways in which it fails.

The steps of `run` are those of mitmproxy's HttpStream, with the rules of `addon/layers`: a request goes out with a
grant only, and the key on a copy only; a 401 of the upstream never reaches the flow; a failure is answered in JSON if
no response has begun.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.net.http import http1

from addon import failures, forwarding, rejection, responses, shown_models
from addon.exchange import Destination, Exchange, Exchanges
from addon.failures import Failure, Limits
from addon.plain.accepting import Accepted
from addon.plain.deadline import Deadline
from addon.plain.pool import ConnectFailed, Pool
from addon.plain.response_reader import UNTIL_CLOSE, BadResponse
from addon.plain.upstream_connection import Sink, UpstreamConnection
from addon.plain.upstream_tls import CallHook
from addon.rejection import Rejection, is_rejection
from store.errors import GatewayError, RequestTimeout, UpstreamTimeout

_log = logging.getLogger(__name__)

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})

_KILLED = mitmproxy_flow.Error.KILLED_MESSAGE
_GONE = "Client disconnected."


class ClientSide(Protocol):
    """The client's connection, for the stream that it serves."""

    client: Client
    deadline: Deadline

    is_gone: bool
    """True once the client has hung up."""
    is_stalled: bool
    """True while the client does not take what has been written."""

    def body(self) -> "bytes | asyncio.Future[bytes]":
        """Return the request's body, or a future for it if it has not come whole."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def end_stream(self, *, is_whole: bool, is_last: bool) -> None:
        """Go on with the next request; or close, after the last one. Cut a response that is not whole."""


class Shared(Protocol):
    """The parts that all streams of a process share."""

    exchanges: Exchanges
    limits: Limits
    pool: Pool

    @property
    def call_hook(self) -> CallHook:
        """Calls the hooks of a name with one argument."""


class _Stopped(Exception):
    """A request goes no further. The text is for operators."""

    def __init__(self, reason: str, failure: Failure = Failure.CUT, cause: GatewayError | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
        self.cause = cause


class Stream:
    """One request and its response."""

    def __init__(self, shared: Shared, side: ClientSide, accepted: Accepted, server: Server) -> None:
        """Take a request, and the server that its flow shows until it has a connection."""
        self._shared = shared
        self._side = side
        self._is_last = accepted.is_last
        self._flow = http.HTTPFlow(side.client, server, live=True)
        self._flow.request = accepted.request
        self._exchange: Exchange = shared.exchanges.open(self._flow)
        self._exchange.stop = self._cut
        self._upstream: UpstreamConnection | None = None
        self._waits: asyncio.Future[Any] | None = None
        self._is_answered = False
        self._has_ended = False
        self._is_chunked = False
        self._cut_by: _Stopped | None = None
        """The reason to go no further, once the gateway has cut it."""
        self._last_event: bytes | None = None
        """The event that ends a response that has begun, when it is cut; None where it is to break off."""

    async def run(self) -> None:
        """Serve the request. Raises nothing."""
        is_whole = False
        try:
            try:
                await self._serve()
            except _Stopped as stopped:
                await self._answer_failure(stopped)
            is_whole = True
        except _Cut:
            pass
        except Exception:
            _log.exception("a connection is cut after a fault")
        finally:
            self._flow.live = False
            if self._upstream is not None:
                self._upstream.close()
            self._side.end_stream(is_whole=is_whole, is_last=self._is_last)

    def stop(self) -> None:
        """Go no further: the client has hung up. A hook is waited for."""
        if self._exchange.sent_at is None:
            self._exchange.abandon()
        self._stop_waiting(_Stopped(_GONE))

    def _cut(self, last_event: bytes | None) -> None:
        """Go no further; end a response that has begun with a last event, or break it off."""
        cause = self._exchange.refusal
        if cause is not None and not self._has_ended:
            self._cut_by, self._last_event = _Stopped(cause.message, cause=cause), last_event
            self._stop_waiting(self._cut_by)

    def pause(self) -> None:
        """Read no more of the response, for a while: the client does not take it."""
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """Read on."""
        if self._upstream is not None:
            self._upstream.resume()

    # -- the steps of a request

    async def _serve(self) -> None:
        flow = self._flow
        await self._hook("requestheaders")
        body = self._side.body()
        if not isinstance(body, bytes):
            self._side.deadline.start(self._shared.limits.idle_timeout, self._give_up(RequestTimeout))
            body = await self._wait(body)
        flow.request.timestamp_end = time.time()
        flow.request.data.content = body
        await self._hook("request")
        if flow.response is None:
            await self._forward()
        else:
            flow.response.timestamp_start = time.time()
            await self._hook("responseheaders")
            await self._complete()

    async def _forward(self) -> None:
        """Send the request to the upstream, and its response to the client."""
        upstream = self._upstream = await self._connected()
        flow, limits = self._flow, self._shared.limits
        flow.server_conn = upstream.server
        received = await self._sent(upstream)
        if is_rejection(received):
            raise await self._rejected(upstream, received)
        flow.response = received
        await self._hook("responseheaders")
        response = flow.response  # a hook may have put another one there
        end: asyncio.Future[None] = self._future()
        self._side.deadline.start(limits.idle_timeout, self._give_up(_idle_error))
        if response.stream and upstream.has_body:
            await self._pass_on(upstream, response, end)
        else:
            response.data.content = await self._whole_body(upstream, end)
        self._release()
        await self._complete()

    async def _connected(self) -> UpstreamConnection:
        """Return a connection to the upstream, for a request that holds a grant for it."""
        flow, exchange = self._flow, self._exchange
        request = flow.request
        destination = Destination(request.host, request.port, request.scheme == "https")
        refusal = forwarding.refusal(request, exchange, None if flow.server_conn.via else destination)
        if refusal is not None:
            raise _Stopped(refusal.message, cause=refusal)
        upstream = self._shared.pool.idle(destination)
        if upstream is not None:
            return upstream
        try:
            upstream = await self._wait(self._shared.pool.open(destination, self._side.client))
        except ConnectFailed as error:
            raise _Stopped(str(error), Failure.NO_RESPONSE) from None
        if self._side.is_gone or exchange.refusal is not None:
            self._shared.pool.give_back(upstream)
            raise _Stopped(_GONE if self._side.is_gone else str(exchange.refusal))
        return upstream

    async def _sent(self, upstream: UpstreamConnection) -> http.Response:
        """Send the request with the key, and return the head of the response."""
        request, exchange = self._flow.request, self._exchange
        if exchange.grant is None:
            raise RuntimeError("a request without a grant reached the wire")
        for_reading = shown_models.is_filtered(exchange, request)
        keyed = forwarding.keyed_request(request, exchange.grant, for_reading=for_reading)
        keyed.data.content = request.data.content or b""
        exchange.note_sent()
        head: asyncio.Future[http.Response] = self._future()
        upstream.send(keyed, _assembled(keyed, request), head)
        self._side.deadline.start(self._shared.limits.first_byte_timeout, self._give_up(UpstreamTimeout))
        return await self._wait(head)

    async def _rejected(self, upstream: UpstreamConnection, response: http.Response) -> _Stopped:
        """Read an upstream's 401. Returns the reason to stop."""
        rejected = Rejection(self._exchange, self._flow.request, response)
        end: asyncio.Future[None] = self._future()

        def feed(data: bytes) -> None:
            if not rejected.feed(data) and not end.done():
                end.set_result(None)

        def give_up() -> None:
            if not end.done():
                end.set_result(None)

        self._side.deadline.start(rejection.BODY_TIMEOUT, give_up)
        upstream.read_body(feed, end)
        try:
            await self._wait(end)
        except _Stopped as stopped:
            if self._side.is_gone:
                return stopped
        self._release()
        refusal = rejected.refusal()
        return _Stopped(refusal.message, cause=refusal)

    async def _pass_on(self, upstream: UpstreamConnection, response: http.Response, end: asyncio.Future[None]) -> None:
        """Pass a response on as it comes, up to its last piece."""
        self._write_head(response)
        feed = self._writing(response)
        upstream.read_body(feed, end)
        if self._side.is_stalled:
            upstream.pause()
        await self._end_of_body(end)
        feed(b"")

    async def _whole_body(self, upstream: UpstreamConnection, end: "asyncio.Future[None]") -> bytes:
        """Return the body of a response that is not passed on before it is whole."""
        pieces: list[bytes] = []
        exchange, put_off, seconds = self._exchange, self._side.deadline.put_off, self._shared.limits.idle_timeout

        def feed(data: bytes) -> None:
            put_off(seconds)
            if exchange.has_room(len(data)):
                pieces.append(data)
            elif not end.done():
                cause = shown_models.too_long(exchange)
                end.set_exception(_Stopped(cause.message, cause=cause))

        upstream.read_body(feed, end)
        await self._end_of_body(end)
        return b"".join(pieces)

    async def _end_of_body(self, end: "asyncio.Future[None]") -> None:
        """Wait for the end of a response's body. Raises _Stopped, also where it has been cut just before that."""
        await self._wait(end)
        if self._cut_by is not None:
            raise self._cut_by

    async def _complete(self) -> None:
        """End the flow, and the response to the client."""
        flow = self._flow
        if flow.response is not None:
            flow.response.timestamp_end = time.time()
        self._has_ended = True
        await self._hook("response")
        if flow.response is not None and not self._is_answered:
            self._write_head(flow.response, flow.response.data.content or b"")
        if self._is_chunked:
            self._side.write(b"0\r\n\r\n")

    # -- writing to the client

    def _write_head(self, response: http.Response, content: bytes = b"") -> None:
        """Write the head of a response, and its content, if that is known by now."""
        exchanges, upstream = self._shared.exchanges, self._exchange.upstream
        passed = forwarding.client_response(response, upstream, closes=exchanges.are_ending)
        self._is_answered = True
        size = _body_size(self._flow.request, passed)
        self._is_chunked = size is None
        self._is_last |= exchanges.are_ending or size == UNTIL_CLOSE or passed.data.http_version != b"HTTP/1.1"
        head = http1.assemble_response_head(passed)
        self._side.write(head + (self._framed(content) if content else b""))

    def _writing(self, response: http.Response) -> Sink:
        """Return a sink that writes each piece to the client, after the stream callable of the response, if any."""
        write, stream = self._side.write, response.stream
        put_off, seconds = self._side.deadline.put_off, self._shared.limits.idle_timeout

        def feed(data: bytes) -> None:
            put_off(seconds)
            passed = stream(data) if callable(stream) else data
            for piece in (passed,) if isinstance(passed, bytes) else passed:
                if piece:
                    write(self._framed(piece))

        return feed

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece

    # -- failures

    async def _answer_failure(self, stopped: _Stopped) -> None:
        """End a flow that goes no further; answer if no response has begun. Raises _Cut if it has, or none is due."""
        exchange, flow = self._exchange, self._flow
        error = stopped.cause or (None if self._is_answered else failures.error_for(exchange, stopped.failure))
        if error is not None:
            exchange.refuse(error)
        if not self._has_ended:
            if flow.error is None or str(stopped) != _KILLED:
                flow.error = mitmproxy_flow.Error(str(stopped))
            self._has_ended = True
            await self._shared.call_hook("error", flow)
        if self._last_event is not None and self._is_answered and not self._side.is_gone:
            last = self._framed(self._last_event) if self._last_event else b""
            self._side.write(last + (b"0\r\n\r\n" if self._is_chunked else b""))
            return
        error = failures.error_for(exchange, stopped.failure)
        if error is None or self._is_answered or self._side.is_gone:
            raise _Cut
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        response = responses.error(error, exchange, flow.request.method)
        self._write_head(response, response.raw_content or b"")

    def _give_up(self, make_cause: Callable[[], GatewayError]) -> Callable[[], None]:
        def late() -> None:
            cause = make_cause()
            self._stop_waiting(_Stopped(cause.message, cause=cause))

        return late

    def _stop_waiting(self, stopped: _Stopped) -> None:
        if self._waits is not None and not self._waits.done():
            self._waits.set_exception(stopped)

    def _release(self) -> None:
        """Give the connection back, for the next request, if the response has come whole."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._shared.pool.give_back(upstream)

    # -- waiting

    async def _hook(self, name: str) -> None:
        """Call the hooks of a name. Raises _Stopped if the flow is killed by then, or the client is gone."""
        flow = self._flow
        self._side.deadline.stop()
        await self._shared.call_hook(name, flow)
        if flow.intercepted:
            await flow.wait_for_resume()
        if flow.error is not None and flow.error.msg == _KILLED:
            raise _Stopped(_KILLED)
        if self._side.is_gone and not self._has_ended:
            raise _Stopped(_GONE)

    def _future[T](self) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().create_future()

    async def _wait[T](self, future: "asyncio.Future[T]") -> T:
        """Wait for something to come. Raises _Stopped if it does not come, or the client hangs up first."""
        if self._cut_by is not None:
            future.cancel()  # it may get an exception yet, which nothing would look at
            raise self._cut_by
        self._waits = future
        try:
            return await future
        except BadResponse as error:
            raise _Stopped(str(error), Failure.NO_RESPONSE) from None
        finally:
            self._waits = None
            self._side.deadline.stop()


class _Cut(Exception):
    """Nothing more can be said to the client: its connection is cut."""


_idle_error = functools.partial(failures.idle_error, is_upstream=True)


def _assembled(keyed: http.Request, request: http.Request) -> bytes:
    """Return a keyed request as bytes. The headers of the other one are read already, and frame it alike."""
    is_chunked = "transfer-encoding" in request.headers  # an addon has set it
    data: bytes = (
        http1.assemble_request(keyed) if is_chunked else http1.assemble_request_head(keyed) + keyed.data.content
    )
    return data


def _body_size(request: http.Request, response: http.Response) -> int | None:
    """Return the bytes of a response's body, as its headers say; None if it is chunked, UNTIL_CLOSE if it ends so.

    Where there is to be no body, it may be the length of the one that there would be.
    """
    framing = [(name.lower(), value) for name, value in response.headers.fields if name.lower() in _FRAMING]
    try:
        match framing:
            case [(b"content-length", length)] if length.isdigit():
                return int(length)
        return http1.expected_http_body_size(request, response)
    except ValueError:  # an addon has set such headers
        return UNTIL_CLOSE
