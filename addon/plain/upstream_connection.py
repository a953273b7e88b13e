"""A connection to the upstream: one request at a time, and its response.

It may serve another request only if nothing of the last one is left on the wire: all of the request was taken by the
upstream's system, all of the response has come, and nothing more. Otherwise it is closed, as the next response on it
might be read as that of another client's request.
"""

import asyncio
import fcntl
import select
import socket
import termios
from collections.abc import Callable
from http import HTTPStatus

from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.net.http import http1

from addon.exchange import Destination
from addon.layers.http1_common import is_last
from addon.plain.response_reader import BadResponse, Body, read_head
from addon.plain.upstream_tls import CallHook, Tls

MAX_AHEAD = 256 * 1024
"""Bytes of a response's body that may have come before it is asked for; up to one read more may."""

DEFAULT_IDLE = 4.0
"""Seconds that a connection is kept without a request, where the upstream does not say how long it keeps it."""

LONGEST_IDLE = 60.0

_HUNG_UP = "the upstream hung up"

type Sink = Callable[[bytes], object]
"""Takes the next piece of a response's body. Raises nothing."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to the upstream; `server` is mitmproxy's name for it."""

    def __init__(self, server: Server, on_close: Callable[["UpstreamConnection"], None]) -> None:
        """Take `on_close`, which is called once when the connection has ended."""
        self.server = server
        self.idle_time = DEFAULT_IDLE
        """Seconds that it may be kept without a request, after its last response."""
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._tls: Tls | None = None
        self._is_in_handshake = False
        self._request: http.Request | None = None
        self._head: asyncio.Future[http.Response] | None = None
        self._body: Body | None = None
        self._sink: Sink | None = None
        self._end: asyncio.Future[None] | None = None
        self._buffer = b""
        self._failure: str | None = None
        self._is_broken = False
        self._is_reusable = True

    # -- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a connection to the upstream is a stream")
        self._transport = transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        tls = self._tls
        if tls is not None:
            if self._is_in_handshake:
                tls.feed_handshake(data)
                return
            data = tls.decrypt(data)
            if data:
                self._read(data)
            if tls.is_closed:
                self._end_of_data(None)
        else:
            self._read(data)

    def eof_received(self) -> None:
        """Note that the upstream sends no more; the socket closes."""
        self._end_of_data(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._end_of_data(exc)
        self.server.state = ConnectionState.CLOSED
        self._on_close(self)

    async def start_tls(self, tls: Tls, call_hook: CallHook) -> None:
        """Make a TLS connection over this one. Raises TlsError."""
        self._tls, self._is_in_handshake = tls, True
        await tls.handshake(call_hook)
        self._is_in_handshake = False

    def write_raw(self, data: bytes) -> None:
        """Write to the socket, below TLS."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close the socket at once, with all that is still to be written."""
        self._is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    # -- one request and its response

    @property
    def destination(self) -> Destination:
        """The address that it leads to."""
        host, port = (self.server.address or ("", 0))[:2]
        return Destination(host, port, self.server.tls)

    @property
    def is_fresh(self) -> bool:
        """True if the connection is open, and nothing has come since its last response: neither data nor its end.

        The system is asked, as the event loop may not have seen it yet.
        """
        is_open = self._transport is not None and not self._transport.is_closing()
        return is_open and self._is_reusable and self._failure is None and not self._poll.poll(0)

    def send(self, request: http.Request, message: bytes, head: asyncio.Future[http.Response]) -> None:
        """Write a request; `head` gets the head of its response, or BadResponse."""
        self._request, self._head = request, head
        self._is_reusable = False
        if self._failure is not None:
            self._fail(self._failure)
        elif self._tls is not None:
            self._tls.send(message)
        else:
            self.write_raw(message)

    @property
    def has_body(self) -> bool:
        """True if the response has a body that is not empty."""
        return self._body is not None and not self._body.is_complete

    def read_body(self, sink: Sink, end: asyncio.Future[None]) -> None:
        """Pass the body of the response to a sink; `end` is done after the last piece, or gets BadResponse."""
        self._sink, self._end = sink, end
        self.resume()
        data, self._buffer = self._buffer, b""
        self._feed(data)
        if self._failure is not None and not end.done():
            self._end_body()

    def pause(self) -> None:
        """Read no more, for a while."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def release(self) -> bool:
        """Forget the request. Returns whether the connection may serve another one."""
        self.resume()  # its client may not have taken the last piece
        self._request = self._head = self._body = self._sink = self._end = None
        return self._is_reusable and self._failure is None

    def _read(self, data: bytes) -> None:
        if self._request is None:
            self.close()  # it belongs to no request
        elif self._sink is not None:
            self._feed(data)
        else:
            self._buffer += data
            if self._body is None:
                self._read_head()
            elif len(self._buffer) > MAX_AHEAD:
                self.pause()

    def _read_head(self) -> None:
        head, request = self._head, self._request
        if head is None or request is None or head.done():
            return
        try:
            response, self._buffer = read_head(self._buffer)
            if response is None:
                return
            self._body = Body(request, response)
            self.idle_time = idle_time(response)  # before a hook changes its headers
        except BadResponse as error:
            self._fail(str(error))
            return
        head.set_result(response)

    def _feed(self, data: bytes) -> None:
        """Pass data to the sink."""
        body, sink, end = self._body, self._sink, self._end
        if body is None or sink is None or end is None or end.done():
            self._is_reusable = False  # the response is over, or given up
            return
        try:
            for piece in body.feed(data):
                sink(piece)
        except BadResponse as error:
            self._fail(str(error))
            return
        if body.is_complete and not end.done():
            self._complete(body, end)

    def _complete(self, body: Body, end: asyncio.Future[None]) -> None:
        transport, has_content = self._transport, self._request is not None and self._request.data.content
        self._is_reusable = (
            not body.surplus
            and self._failure is None
            and transport is not None
            and not transport.get_write_buffer_size()
            and (not has_content or _is_taken(transport.get_extra_info("socket")))
        )
        end.set_result(None)

    def _end_of_data(self, error: Exception | None) -> None:
        if self._failure is not None:
            return
        self._failure = _HUNG_UP if error is None else f"{_HUNG_UP}: {type(error).__name__}"
        self._is_broken = error is not None
        self._is_reusable = False
        if self._tls is not None and self._is_in_handshake:
            self._tls.feed_handshake(b"")
        elif self._head is not None and not self._head.done():
            self._fail(self._failure)
        elif self._end is not None and not self._end.done():
            self._end_body()

    def _end_body(self) -> None:
        """Note that the connection has ended within a body, or that this is the body's end."""
        body, end = self._body, self._end
        if body is None or end is None:
            return
        if self._is_broken or not body.may_end:
            end.set_exception(BadResponse(str(self._failure)))
        else:
            end.set_result(None)

    def _fail(self, reason: str) -> None:
        """End the request without a response, or within it; the connection serves no other one."""
        self.close()
        for waiting in (self._head, self._end):
            if waiting is not None and not waiting.done():
                waiting.set_exception(BadResponse(reason))


def _is_taken(sock: socket.socket) -> bool:
    """Tell whether the upstream's system has acknowledged all that was written; True if ours does not say.

    An upstream may answer before it has read a request, and never read the rest of it.
    """
    try:
        return not any(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:  # Linux alone says it of sockets
        return True


def idle_time(response: http.Response) -> float:
    """Return for how many seconds a connection may be kept after a response: less long than the upstream keeps it.

    0 if it may not be kept at all.
    """
    if response.data.http_version != b"HTTP/1.1" or is_last(response):
        return 0.0
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return 0.0
    for parameter in http1.read.get_header_tokens(response.headers, "keep-alive"):
        name, _, seconds = parameter.partition("=")
        if name.strip().lower() == "timeout" and seconds.strip().isdecimal():
            stated = float(seconds)
            return min(max(stated - 1, stated / 2), LONGEST_IDLE)
    return DEFAULT_IDLE
