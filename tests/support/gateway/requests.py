"""Requests and answers as mitmproxy gives them to the addon."""

from mitmproxy import http
from mitmproxy.test import tutils

UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]


def fields(*headers: tuple[str | bytes, str | bytes]) -> http.Headers:
    def raw(text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode()

    return http.Headers([(raw(name), raw(value)) for name, value in headers])


def make_request(
    *headers: tuple[str | bytes, str | bytes],
    path: str | bytes = "/v1/models",
    method: str | bytes = "GET",
    authority: str = "",
    http_version: str = "HTTP/1.1",
) -> http.Request:
    request = tutils.treq(headers=fields(*headers), http_version=http_version.encode(), content=b"")
    request.data.method = method if isinstance(method, bytes) else method.encode()
    request.data.path = path if isinstance(path, bytes) else path.encode()
    request.data.authority = authority.encode()
    return request


def make_response(*headers: tuple[str | bytes, str | bytes], status: int = 200) -> http.Response:
    return tutils.tresp(headers=fields(*headers), status_code=status)
