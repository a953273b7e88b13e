"""The gateway's own messages: errors, health, readiness, the standing of a token, and events over a WebSocket."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple, Protocol

from mitmproxy import http

from addon import cross_origin, rate_limit_headers, token_standing
from addon.cross_origin import Fields
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

_REPLACED = (cross_origin.PREFIX, rate_limit_headers.PREFIX)
"""The beginnings of the headers that take the place of the upstream's."""


class Asked(Protocol):
    """The parts of an exchange that its response tells."""

    @property
    def request_id(self) -> str:
        """Ours."""

    @property
    def windows(self) -> Sequence[Standing]:
        """The windows that the request was admitted in: one of each unit at most."""

    @property
    def cross_origin(self) -> Fields:
        """The headers for pages in browsers."""


class _Told(NamedTuple):
    """The same, where there is no exchange, or where its response tells another window."""

    request_id: str
    windows: Sequence[Standing] = ()
    cross_origin: Fields = ()


def error(cause: GatewayError, exchange: Asked, method: str) -> http.Response:
    """Return the response to a request that was refused or failed. A refusal by a window tells that one."""
    if isinstance(cause, RateLimited):
        told = () if cause.window is None else (cause.window,)
        exchange = _Told(exchange.request_id, told, exchange.cross_origin)
    response = _json(cause.status, cause.openai_body(), exchange, method)
    for name, value in cause.headers.items():
        response.headers[name] = value
    return response


def last_error(cause: GatewayError, allowing: Fields = ()) -> http.Response:
    """Return the response to what has no exchange, after which the connection closes.

    `allowing`: the headers for pages in browsers, where its own headers could be read.
    """
    response = error(cause, _Told(new_request_id(), cross_origin=allowing), "GET")
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


def health(exchange: Asked, method: str) -> http.Response:
    """Return the response to `/health`."""
    return _json(200, reports.alive(), exchange, method)


def ready(exchange: Asked, method: str) -> http.Response:
    """Return the response to `/ready` once the store has answered."""
    return _json(200, reports.ready(), exchange, method)


def token(standing: TokenStanding, exchange: Asked, method: str) -> http.Response:
    """Return the response to `/token`. No cache may keep it: it is for one token, and is soon out of date."""
    response = _json(200, token_standing.body(standing), exchange, method)
    response.headers["Cache-Control"] = "no-store"
    return response


def preflight(exchange: Asked, request: http.Request) -> http.Response:
    """Return the response to a preflight. From an origin that is not allowed it is one that allows nothing."""
    response = http.Response.make(HTTPStatus.NO_CONTENT.value)
    response.headers.clear()  # it must have no Content-Length (RFC 9110, section 8.6)
    add_request_headers(response.headers, exchange)
    response.headers.fields += cross_origin.preflight_fields(request, exchange.cross_origin)
    return response


def add_request_headers(headers: http.Headers, exchange: Asked, remote_ms: int | None = None) -> None:
    """Add to a response the ids of its request, and the milliseconds until the upstream answered.

    The upstream's own X-Request-ID stays: its support asks for it. The headers of a window take the place of the
    upstream's. So do those for pages in browsers, where there are any or not: the upstream's allow pages to talk to the
    upstream. This takes a fraction of the time of mitmproxy's own setter.
    """
    fields = headers.fields
    names = {name.lower() for name, _ in fields}
    added = [(REQUEST_ID, exchange.request_id)]
    if UPSTREAM_REQUEST_ID.lower().encode() not in names:
        added.append((UPSTREAM_REQUEST_ID, exchange.request_id))
    if remote_ms is not None:
        added.append((REMOTE_DURATION, str(remote_ms)))
    encoded = [(name.encode(), value.encode()) for name, value in added]
    replaced = names & {name.lower() for name, _ in encoded}
    encoded += exchange.cross_origin
    for window in exchange.windows:
        encoded += rate_limit_headers.fields(window)
    if of_these := [name for name in names if name.startswith(_REPLACED)]:  # few responses have any
        replaced |= {name for name in of_these if name.startswith(cross_origin.PREFIX)}
        replaced |= rate_limit_headers.about(exchange.windows, of_these)
    kept = tuple([field for field in fields if field[0].lower() not in replaced]) if replaced else fields
    headers.fields = (*kept, *encoded)


def _json(status: int, body: object, exchange: Asked, method: str) -> http.Response:
    content = json.dumps(body).encode()
    response = http.Response.make(status, content, {"Content-Type": "application/json"})
    add_request_headers(response.headers, exchange)
    if method == "HEAD":
        response.raw_content = b""  # its Content-Length stays that of the GET
    return response
