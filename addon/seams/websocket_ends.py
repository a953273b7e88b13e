"""Cuts a WebSocket whose other side was cut: mitmproxy would say that it ended well, with a close frame (code 1000)."""

from mitmproxy.proxy import commands
from mitmproxy.proxy.layers import websocket
from wsproto.events import CloseConnection, Event
from wsproto.frame_protocol import CloseReason


class _Side(websocket.WebsocketConnection):
    """mitmproxy hangs up after each close frame; without one, its peer knows that this is no normal end (RFC 6455)."""

    def send2(self, event: Event) -> commands.SendData:
        if isinstance(event, CloseConnection) and event.code == CloseReason.ABNORMAL_CLOSURE:
            return commands.SendData(self.conn, b"")
        return super().send2(event)


def install() -> None:
    """Have all WebSockets of the process end this way."""
    websocket.WebsocketConnection = _Side  # type: ignore[misc]  # it has no other place to say so
