"""Bounds the memory that a WebSocket takes: mitmproxy keeps all of its frames, and a Realtime session lasts an hour."""

from mitmproxy import http
from mitmproxy.websocket import WebSocketMessage

MAX_FRAMES = 200
MAX_BYTES = 1024 * 1024


class WebSocketFrames:
    """The addon; it always runs. mitmproxy itself needs only the newest frame, which stays at any size."""

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Forget the oldest frames."""
        if flow.websocket is not None:
            trim(flow.websocket.messages)


def trim(messages: list[WebSocketMessage]) -> None:
    """Keep the newest frames: at most MAX_FRAMES, with MAX_BYTES together, and always the last one."""
    kept = size = 0
    for message in reversed(messages):
        size += len(message.content)
        if kept == MAX_FRAMES or (kept and size > MAX_BYTES):
            break
        kept += 1
    del messages[: len(messages) - kept]
