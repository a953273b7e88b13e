"""Keeps the last frames of a WebSocket only: mitmproxy keeps all, and a session of the Realtime API lasts an hour."""

from mitmproxy import http
from mitmproxy.websocket import WebSocketMessage

MAX_FRAMES = 200
MAX_BYTES = 1024 * 1024


class WebSocketFrames:
    """The addon. mitmproxy itself needs but the newest frame, which stays however large it is."""

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Forget the oldest frames."""
        if flow.websocket is not None:
            trim(flow.websocket.messages)


def trim(messages: list[WebSocketMessage]) -> None:
    """Leave at most MAX_FRAMES frames with MAX_BYTES together, the newest ones, and the very last one always."""
    kept = size = 0
    for message in reversed(messages):
        size += len(message.content)
        if kept == MAX_FRAMES or (kept and size > MAX_BYTES):
            break
        kept += 1
    del messages[: len(messages) - kept]
