"""A client's connection on the plain path: reads its requests, one after another, and writes their responses."""

import asyncio
import contextlib
import logging
import time
from typing import Protocol

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.net.http import http1
from mitmproxy.net.tls import starts_like_tls_record

from addon import failures, responses
from addon.layers.client_http1 import MAX_AHEAD
from addon.plain import accepting
from addon.plain.accepting import Accepted, Origin
from addon.plain.deadline import Deadline
from addon.plain.stream import Shared, Stream
from addon.validation import MALFORMED
from store.errors import GatewayError, InvalidRequest, RequestTimeout
from store.network.sockets import keep_alive

_log = logging.getLogger("mitmproxy.proxy.server")


class Path(Shared, Protocol):
    """The parts of the plain path that its connections use."""

    is_on: bool
    """False if requests are to be handed over."""
    served: int
    """The requests that it has served."""


class ClientConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, path: Path, client: Client, origin: Origin, transport: asyncio.Transport) -> None:
        """Take the upstream that the requests are for, and the client's open socket."""
        loop = asyncio.get_running_loop()
        self.client = client
        self.deadline = Deadline(loop)
        self.is_gone = False
        self.is_stalled = False
        """True while the client does not take what has been written."""
        self.ahead = b""
        """Bytes that have come of the requests that have not begun."""
        self._path = path
        self._origin = origin
        self._server = Server(address=(origin.host, origin.port), tls=origin.scheme == b"https")
        self._transport = transport
        self._ended: asyncio.Future[None] = loop.create_future()
        self._is_ready = False
        self._has_served = False
        self._lingers = False
        """True once nothing more is written: what comes is dropped."""
        self._stream: Stream | None = None
        self._is_last = False
        """True if the connection closes once the request's body has come."""
        self._body: list[bytes] = []
        self._missing = 0
        """Bytes of the request's body that have not come."""
        self._whole_body: asyncio.Future[bytes] | None = None

    async def serve(self) -> None:
        """Serve requests until the client has gone, or one is for the layers: `is_gone` tells."""
        with contextlib.suppress(OSError):  # the client has gone already
            keep_alive(self._transport.get_extra_info("socket"))
        self._note("client connect")
        await self._path.call_hook("client_connected", self.client)
        if self.client.error:
            self._note("client kill connection")
            self._close()
        else:
            self._is_ready = True
            self._go_on()
        await self._ended
        if self.is_gone:
            self._note("client disconnect")
            self.client.timestamp_end = time.time()
            await self._path.call_hook("client_disconnected", self.client)

    # -- the socket

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._lingers:
            return
        if self._missing:
            data = self._read_body(data)
        self.ahead = self.ahead + data if self.ahead else data
        if self._stream is None:
            self._go_on()
        if len(self.ahead) > MAX_AHEAD:
            self._transport.abort()  # it sends too much before its response

    def eof_received(self) -> None:
        """Take the client for gone: one that closes its side wants no response any more."""
        self._go()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End the connection."""
        self._go()

    def pause_writing(self) -> None:
        """Read no more of the response, and begin with no other one: the client does not take it."""
        self.is_stalled = True
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        """Read on."""
        self.is_stalled = False
        if self._stream is not None:
            self._stream.resume()
        else:
            self._go_on()

    # -- requests, one after another

    def _go_on(self) -> None:
        """Begin with the next request, once its head has come."""
        is_free = self._stream is None and not self._missing
        if not is_free or not self._is_ready or self._lingers or self._ended.done():
            return
        if not self.ahead or self.is_stalled:
            self.deadline.start(self._path.limits.idle_timeout, self._close)
            return
        head, end, rest = self.ahead.partition(accepting.END_OF_HEAD)
        if not end and self._path.is_on and accepting.may_begin(head):
            self.deadline.start_once(failures.HEADERS_TIMEOUT, self._refuse_head)
            return
        accepted = accepting.read(head + end, self._origin) if end and self._path.is_on else None
        if accepted is None and self._has_served and starts_like_tls_record(self.ahead):
            self._refuse(InvalidRequest(MALFORMED))  # the layers would take it for the beginning of a connection
        elif accepted is None:
            self._leave_to_the_layers()
        else:
            self.ahead = rest
            self._begin(accepted)

    def _begin(self, accepted: Accepted) -> None:
        self.deadline.stop()
        self._path.served += 1
        self._has_served = True
        self._body, self._whole_body, self._missing = [], None, accepted.length
        stream = self._stream = Stream(self._path, self, accepted, self._server)
        if self._missing and self.ahead:
            self.ahead = self._read_body(self.ahead)
        asyncio.eager_task_factory(asyncio.get_running_loop(), stream.run())

    def _read_body(self, data: bytes) -> bytes:
        """Take the next bytes of the request's body, and return those behind it."""
        piece, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(piece)
        if self._stream is not None:
            self._body.append(piece)
            self.deadline.put_off(self._path.limits.idle_timeout)
            if not self._missing and self._whole_body is not None and not self._whole_body.done():
                self._whole_body.set_result(b"".join(self._body))
        elif not self._missing and self._is_last:
            self._close()
        return rest

    def _leave_to_the_layers(self) -> None:
        self.deadline.close()
        self._transport.pause_reading()
        self._ended.set_result(None)

    def _refuse_head(self) -> None:
        """Answer a request whose headers do not end."""
        self._refuse(RequestTimeout())

    def _refuse(self, error: GatewayError) -> None:
        """Answer outside of any request, and read no more requests."""
        self.write(http1.assemble_response(responses.last_error(error)))
        self._lingers = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.deadline.start(failures.LINGER, self._transport.abort)

    # -- for the stream

    def body(self) -> "bytes | asyncio.Future[bytes]":
        """Return the request's body, or a future for it if it has not come whole."""
        if not self._missing:
            return b"".join(self._body)
        self._whole_body = asyncio.get_running_loop().create_future()
        return self._whole_body

    def write(self, data: bytes) -> None:
        """Write to the client."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def end_stream(self, *, is_whole: bool, is_last: bool) -> None:
        """Go on with the next request; or close, after the last one. Cut a response that is not whole.

        The rest of a request that is answered early is read and dropped: a socket that is closed over unread bytes
        resets, and the response may be lost.
        """
        self._stream, self._is_last = None, is_last
        self._body, self._whole_body = [], None
        if self.is_gone:
            return
        if not is_whole or (is_last and not self._missing):
            self._close()
        elif self._missing:
            self.deadline.start(failures.LINGER, self._transport.abort)
        elif self.ahead:
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._go_on()

    # -- the end

    def _close(self) -> None:
        """Close the connection once the client has taken all that was written; cut it if it stops doing so."""
        self._lingers = True
        self._transport.close()
        if not self.is_gone:
            self._cut_if_idle()

    def _cut_if_idle(self) -> None:
        left = self._transport.get_write_buffer_size()

        def late() -> None:
            if self._transport.get_write_buffer_size() < left:
                self._cut_if_idle()
            else:
                self._transport.abort()

        self.deadline.start(self._path.limits.idle_timeout, late)

    def _go(self) -> None:
        """End the request of a client that has gone, and then the connection."""
        if self.is_gone:
            return
        self.is_gone = True
        self.deadline.close()
        self.client.state = ConnectionState.CLOSED
        if self._stream is not None:
            self._stream.stop()
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _note(self, event: str) -> None:
        _log.info(event, extra={"client": self.client.peername})
