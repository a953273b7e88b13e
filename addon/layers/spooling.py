"""mitmproxy's stream of one request, which can also read the body whole before the request is admitted.

mitmproxy knows two ways of a body. It is read whole into memory, or it is streamed: the request goes upstream at its
headers. This is a third one: the body is written to a spool, the hook `request_spooled` decides, and then the body goes
upstream from the spool as if it was streamed from there on. Whatever is true of a streamed upload holds here too.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.proxy.server import ConnectionHandler

from addon.exchange import Exchanges
from addon.layers.timeouts import Commands
from addon.replacing import replace
from addon.spool import Spool
from store.errors import GatewayError

_wakeup = ConnectionHandler.wakeup


@dataclass
class RequestSpooledHook(commands.StartHook):
    """Called once a body has come whole into its spool, and before anything goes upstream."""

    flow: http.HTTPFlow


class WakeupWhenDrained(commands.RequestWakeup):
    """Asks for a wakeup as soon as the socket of a connection takes more data, or is closed."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(0)
        self.connection = connection


class SpoolingStream(HttpStream):
    """mitmproxy's stream; a request whose exchange has a spool once its first hook is done takes the third way.

    Between two pieces it waits for the upstream's socket, and handles all events in the meantime: a response that
    comes early, a client that hangs up.
    """

    _rest: Iterator[bytes] | None = None
    """The pieces that are still to be sent, while a body goes upstream from its spool."""

    def __init__(self, context: Context, stream_id: int, exchanges: Exchanges) -> None:
        super().__init__(context, stream_id)
        self._exchanges = exchanges

    @property
    def sends_spool(self) -> bool:
        """True while a body goes upstream from its spool."""
        return self._rest is not None

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            return self._send_more()
        handled: Commands = super()._handle_event(event)
        return handled

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        """Call the first hook, and go the way of the body that it has chosen."""
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_consume_request_body and self._spool() is not None:
            self.client_state = self.state_spool_request_body

    def state_spool_request_body(self, event: RequestData | RequestTrailers | RequestEndOfMessage) -> Commands:
        """Write the body to the spool; at its end have the request admitted, and begin to send it."""
        spool = self._spool()
        if spool is None:
            return  # the exchange is finished
        if isinstance(event, RequestData):
            try:
                spool.write(event.data)
            except GatewayError as error:
                yield from self._refuse(error)
        elif isinstance(event, RequestEndOfMessage):
            yield from self._end_spool(event, spool)

    def _end_spool(self, event: RequestEndOfMessage, spool: Spool) -> Commands:
        self.flow.request.timestamp_end = time.time()
        yield RequestSpooledHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        if self.flow.response or not spool.size:
            yield from self.state_consume_request_body(event)  # it is answered, or has nothing to stream
            return
        yield from self.start_request_stream()
        if self.client_state == self.state_stream_request_body:
            self._rest = spool.pieces()
            yield from self._send_more()

    def _send_more(self) -> Commands:
        """Send the next piece, or the end of the body; nothing if the request has ended in the meantime."""
        if self._rest is None or self.server_state == self.state_errored:
            return
        try:
            piece = next(self._rest, None)
        except GatewayError as error:
            yield from self._refuse(error)
            return
        if piece is None:
            self._end_sending()
            yield from self.state_stream_request_body(RequestEndOfMessage(self.stream_id))
        else:
            yield from self.state_stream_request_body(RequestData(self.stream_id, piece))
            yield WakeupWhenDrained(self.flow.server_conn)

    def _end_sending(self) -> None:
        self._rest = None
        exchange = self._exchanges.get(self.flow.id)
        if exchange is not None:
            exchange.close_spool()

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> Commands:
        """End the stream: the client has gone, or the upstream failed."""
        self._rest = None
        yield from super().handle_protocol_error(event)

    def send_response(self, already_streamed: bool = False) -> Commands:
        """End the response. If it has come before the end of the request, the rest of the request is of no use.

        The client has sent its request and waits for the end of the response: it must not have to wait until the
        upstream has read the rest, or has been given up.
        """
        yield from super().send_response(already_streamed)
        if self.sends_spool and self.server_state == self.state_done:
            self._end_sending()
            self.client_state = self.state_done
            cut = RequestProtocolError(self.stream_id, "answered by the upstream", ErrorCode.CANCEL)
            yield SendHttp(cut, self.context.server)
            yield from self.flow_done()

    def _spool(self) -> Spool | None:
        exchange = self._exchanges.get(self.flow.id)
        return exchange.spool if exchange else None

    def _refuse(self, error: GatewayError) -> Commands:
        exchange = self._exchanges.get(self.flow.id)
        if exchange is not None:
            exchange.refuse(error)
        failure = ResponseProtocolError(self.stream_id, error.message, ErrorCode.GENERIC_SERVER_ERROR)
        yield from self.handle_protocol_error(failure)
        self.client_state = self.state_errored


async def _wake_when_drained(self: ConnectionHandler, request: commands.RequestWakeup) -> None:
    if isinstance(request, WakeupWhenDrained) and request.connection in self.transports:
        writer = self.transports[request.connection].writer
        if isinstance(writer, asyncio.StreamWriter):
            with contextlib.suppress(OSError):  # it is closed
                await writer.drain()
    await _wakeup(self, request)


def install() -> None:
    """Have the handlers of connections answer WakeupWhenDrained.

    REPLACES: `ConnectionHandler.wakeup` in mitmproxy.proxy.server, by a wrapper.
    WHY: a layer cannot learn when a socket takes more; a body of 64 MiB that is in the gateway would pile up in the
    socket's buffer. mitmproxy waits for slow sockets before it reads on from the peer, which has sent all here; and
    its `drain_writers` waits for those of all requests of a client, one after the other. No upstream issue known.
    REMOVE WHEN: a command tells that a connection takes more data.
    """
    replace(ConnectionHandler, "wakeup", _wake_when_drained)
