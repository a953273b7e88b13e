"""The answers that the proxy gives itself: errors, its health, and whether it is ready."""

import json

from mitmproxy import http

from store import health as reports
from store.errors import GatewayError

REQUEST_ID = "X-LLM-Proxy-Request-Id"
UPSTREAM_REQUEST_ID = "X-Request-ID"
REMOTE_DURATION = "X-LLM-Proxy-Remote-Duration-Ms"


def error(cause: GatewayError, request_id: str, method: str) -> http.Response:
    """Return the answer to a request that is refused or failed."""
    response = _json(cause.status, cause.openai_body(), request_id, method)
    for name, value in cause.headers.items():
        response.headers[name] = value
    return response


def health(request_id: str, method: str) -> http.Response:
    """Return the answer to `/health`."""
    return _json(200, reports.alive(), request_id, method)


def ready(request_id: str, method: str) -> http.Response:
    """Return the answer to `/ready`, where the store has answered."""
    return _json(200, reports.ready(), request_id, method)


def add_request_ids(headers: http.Headers, request_id: str) -> None:
    """Name the request in an answer. The upstream's own X-Request-ID stays: its support asks for it."""
    headers[REQUEST_ID] = request_id
    headers.setdefault(UPSTREAM_REQUEST_ID, request_id)


def _json(status: int, body: object, request_id: str, method: str) -> http.Response:
    content = json.dumps(body).encode()
    response = http.Response.make(status, content, {"Content-Type": "application/json"})
    add_request_ids(response.headers, request_id)
    if method == "HEAD":
        response.raw_content = b""  # its Content-Length stays that of the GET
    return response
