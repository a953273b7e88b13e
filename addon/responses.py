"""The gateway's own messages: errors, health, readiness, the standing of a token, and events over a WebSocket."""

import json

from mitmproxy import http

from addon import rate_limit_headers, token_standing
from store.admission.decision import TokenStanding
from store.errors import GatewayError, RateLimited
from store.ids import new_request_id
from store.limits.window import Standing
from store.runtime import health as reports

REQUEST_ID = "X-LLM-Proxy-Request-Id"
UPSTREAM_REQUEST_ID = "X-Request-ID"
REMOTE_DURATION = "X-LLM-Proxy-Remote-Duration-Ms"
BUFFERING = "X-Accel-Buffering"
"""Tells nginx, and proxies that know its header, whether to buffer a response."""


def error(cause: GatewayError, request_id: str, method: str, window: Standing | None = None) -> http.Response:
    """Return the response to a request that was refused or failed.

    `window` is the one that it was admitted in, if it was; of a refusal by a window that one is told.
    """
    told = cause.window if isinstance(cause, RateLimited) else window
    response = _json(cause.status, cause.openai_body(), request_id, method, told)
    for name, value in cause.headers.items():
        response.headers[name] = value
    return response


def last_error(cause: GatewayError) -> http.Response:
    """Return the response to what is no request, after which the connection closes."""
    response = error(cause, new_request_id(), "GET")
    response.headers["connection"] = "close"
    return response


def error_event(cause: GatewayError, request_id: str, event_id: str, lane: str) -> str:
    """Return the event that refuses a response over a WebSocket: an `error` of the Realtime and Responses APIs.

    `event_id` and `lane` are those of the client's event that is refused; empty where there is none.
    """
    event = {
        "type": "error",
        "event_id": f"event_{request_id}",
        "status": cause.status,
        "error": {**cause.detail(), "event_id": event_id or None},
    }
    return json.dumps({**event, "stream_id": lane} if lane else event)


def cancel_event(response_id: str) -> tuple[str, str]:
    """Return the id of an event that cancels a response of the Realtime API, and the event."""
    event_id = f"event_{new_request_id()}"
    return event_id, json.dumps({"type": "response.cancel", "event_id": event_id, "response_id": response_id})


def health(request_id: str, method: str) -> http.Response:
    """Return the response to `/health`."""
    return _json(200, reports.alive(), request_id, method)


def ready(request_id: str, method: str) -> http.Response:
    """Return the response to `/ready` once the store has answered."""
    return _json(200, reports.ready(), request_id, method)


def token(standing: TokenStanding, request_id: str, method: str) -> http.Response:
    """Return the response to `/token`. No cache may keep it: it is for one token, and is soon out of date."""
    response = _json(200, token_standing.body(standing), request_id, method)
    response.headers["Cache-Control"] = "no-store"
    return response


def add_request_headers(
    headers: http.Headers, request_id: str, remote_ms: int | None = None, window: Standing | None = None
) -> None:
    """Add to a response the ids of its request, and the milliseconds until the upstream answered.

    The upstream's own X-Request-ID stays: its support asks for it. The headers of a window take the place of the
    upstream's. This takes a fraction of the time of mitmproxy's own setter.
    """
    fields = headers.fields
    names = {name.lower() for name, _ in fields}
    added = [(REQUEST_ID, request_id)]
    if UPSTREAM_REQUEST_ID.lower().encode() not in names:
        added.append((UPSTREAM_REQUEST_ID, request_id))
    if remote_ms is not None:
        added.append((REMOTE_DURATION, str(remote_ms)))
    encoded = [(name.encode(), value.encode()) for name, value in added]
    replaced = names & {name.lower() for name, _ in encoded}
    if window is not None:
        encoded += rate_limit_headers.fields(window)
        replaced |= {*filter(rate_limit_headers.is_of_requests, names)}
    kept = tuple([field for field in fields if field[0].lower() not in replaced]) if replaced else fields
    headers.fields = (*kept, *encoded)


def _json(status: int, body: object, request_id: str, method: str, window: Standing | None = None) -> http.Response:
    content = json.dumps(body).encode()
    response = http.Response.make(status, content, {"Content-Type": "application/json"})
    add_request_headers(response.headers, request_id, window=window)
    if method == "HEAD":
        response.raw_content = b""  # its Content-Length stays that of the GET
    return response
