"""The opening handshake of a WebSocket, as a request."""

from collections.abc import Iterable

from mitmproxy import http

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""The start of the subprotocol in which browsers send their token: they can set no header on a WebSocket."""


def is_upgrade(request: http.Request) -> bool:
    """Tell whether this is a valid opening handshake of a WebSocket (RFC 6455, section 4.1)."""
    if request.data.method != b"GET":  # methods have one spelling (`validation`), and `request.method` decodes first
        return False
    headers = request.headers
    return (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in names(headers.get_all("connection"))
        and "sec-websocket-key" in headers
        and headers.get("sec-websocket-version") == "13"
    )


def is_key_subprotocol(name: str) -> bool:
    """Tell whether a subprotocol holds a browser's token."""
    return name.lower().startswith(KEY_SUBPROTOCOL)


def names(values: Iterable[str]) -> set[str]:
    """Return the names in the values of a list header, in small letters."""
    return {name.strip().lower() for value in values for name in value.split(",")}
