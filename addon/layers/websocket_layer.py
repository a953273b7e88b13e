"""mitmproxy's WebSocket layer, with messages of the gateway's own, and with ends that are passed on as they are.

- After the hook for each message the layer sends the gateway's own messages, in that place of the order, and closes the
  WebSocket if its session asks for that. The client's side is closed by a full closing handshake (RFC 6455, section
  7.1.2): a socket that is closed over unread bytes resets, and the client may lose the reason.
- A WebSocket that is cut at one side is cut at the other. mitmproxy sends a close frame with code 1000 there, as if the
  WebSocket had ended well.
- While a message waits for its hook, no more than `backpressure.MOST` bytes of each side queue up behind it.
"""

import time
from collections import Counter

from mitmproxy import connection, http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.websocket import WebsocketEndHook, WebsocketLayer, WebsocketMessageHook
from mitmproxy.websocket import WebSocketMessage
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, TextMessage
from wsproto.frame_protocol import CloseReason, Opcode

from addon.exchange import Exchanges
from addon.layers import backpressure
from addon.layers.stream_state import CutRequested
from addon.replacing import replace
from addon.websocket_session import Closing, Reply

CLOSING_TIMEOUT = 5.0
"""Seconds that a client gets to answer a close frame."""


class _Side(websocket.WebsocketConnection):
    """One side. An abnormal closure sends no close frame, so that its peer knows it as one (RFC 6455, 7.1.5)."""

    def send2(self, event: Event) -> commands.SendData:
        if isinstance(event, CloseConnection) and event.code == CloseReason.ABNORMAL_CLOSURE:
            return commands.SendData(self.conn, b"")
        return super().send2(event)


class GatewayWebsocketLayer(WebsocketLayer):
    """Relays the messages of one WebSocket, and sends those of its session."""

    def __init__(self, context: Context, flow: http.HTTPFlow, exchanges: Exchanges) -> None:
        super().__init__(context, flow)
        self._exchanges = exchanges
        self._queued: Counter[connection.Connection] = Counter()

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Handle an event, or queue it while a message waits for its hook; a side with too much queued is not read."""
        yield from super().handle_event(event)
        if self._paused is None:
            for side in self._queued:
                backpressure.release(side)
            self._queued.clear()
        elif isinstance(event, events.DataReceived):
            self._queued[event.connection] += len(event.data)
            if self._queued[event.connection] > backpressure.MOST:
                backpressure.hold(event.connection)

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Relay the messages of one side to the other; or send those that its session has by itself, when it is cut."""
        if isinstance(event, CutRequested):
            closing = yield from self._send_replies()
            if closing is not None:
                yield from self._close(closing)
            return
        for command in super().relay_messages(event):
            yield command
            if isinstance(command, WebsocketMessageHook):
                closing = yield from self._send_replies()
                if closing is not None:
                    yield from self._close(closing)
                    return

    def done(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Do nothing more; a cut may come too late."""
        if not isinstance(event, CutRequested):
            yield from super().done(event)

    def _send_replies(self) -> layer.CommandGenerator[Closing | None]:
        """Send the gateway's own messages; return the close frame if the WebSocket is to be closed."""
        exchange = self._exchanges.get(self.flow.id)
        session = exchange.session if exchange else None
        if session is None:
            return None
        for reply in session.pop_replies():
            side = self.client_ws if reply.to_client else self.server_ws
            if side.state is ConnectionState.OPEN:
                self._show(reply)
                yield side.send2(TextMessage(reply.text))
        return session.closing

    def _show(self, reply: Reply) -> None:
        """Put a message of the gateway's own on the flow, for operators."""
        if self.flow.websocket is not None:
            shown = WebSocketMessage(Opcode.TEXT, not reply.to_client, reply.text.encode(), injected=True)
            self.flow.websocket.messages.append(shown)

    def _close(self, closing: Closing) -> layer.CommandGenerator[None]:
        """Close both sides: the upstream's at once, the client's once it has answered the close frame."""
        if self.flow.websocket is not None:
            self.flow.websocket.timestamp_end = time.time()
            self.flow.websocket.closed_by_client = False
            self.flow.websocket.close_code, self.flow.websocket.close_reason = closing
        if self.server_ws.state is ConnectionState.OPEN:
            yield self.server_ws.send2(CloseConnection(CloseReason.NORMAL_CLOSURE))
        yield commands.CloseConnection(self.server_ws.conn)
        self._handle_event = self._await_close
        if self.client_ws.state is ConnectionState.OPEN:
            yield self.client_ws.send2(CloseConnection(closing.code, closing.reason))
        yield commands.RequestWakeup(CLOSING_TIMEOUT)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
        if self._has_answered():  # its close frame came before
            yield from self._hang_up()

    def _await_close(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Drop what the client still sends, until it answers the close frame, hangs up or takes too long."""
        if isinstance(event, events.Wakeup) or (self._is_of_client(event) and self._has_closed(event)):
            yield from self._hang_up()

    def _is_of_client(self, event: events.Event) -> bool:
        return isinstance(event, events.ConnectionEvent) and event.connection is self.client_ws.conn

    def _has_closed(self, event: events.Event) -> bool:
        if not isinstance(event, events.DataReceived):
            return isinstance(event, events.ConnectionClosed)
        self.client_ws.receive_data(event.data)
        return self._has_answered()

    def _has_answered(self) -> bool:
        return any(isinstance(came, CloseConnection) for came in self.client_ws.events())

    def _hang_up(self) -> layer.CommandGenerator[None]:
        self._handle_event = self._closed
        yield commands.CloseConnection(self.client_ws.conn)

    def _closed(self, _: events.Event) -> layer.CommandGenerator[None]:
        yield from ()


def install(exchanges: Exchanges) -> None:
    """Have all WebSockets of the process relayed this way.

    REPLACES: `WebsocketConnection` and `WebsocketLayer` in mitmproxy.proxy.layers.websocket.
    WHY: a side that is cut is closed with code 1000 at the other, as if the WebSocket had ended well; and no addon can
    send a message at a certain place, or close with a code. No upstream issue known for the first; for the second,
    https://github.com/mitmproxy/mitmproxy/pull/4774 was not merged.
    REMOVE WHEN: both are possible by a hook.
    """

    def make(context: Context, flow: http.HTTPFlow) -> GatewayWebsocketLayer:
        return GatewayWebsocketLayer(context, flow, exchanges)

    replace(websocket, "WebsocketConnection", _Side)
    replace(websocket, "WebsocketLayer", make)
