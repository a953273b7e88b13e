"""One line in the log for each request. It names a token by its public id, and quotes no bytes of any peer."""

import logging
import time

from mitmproxy import http

from addon import validation
from addon.exchange import Exchange
from addon.websocket_session import Turn
from store.errors import GatewayError
from store.request import Opened
from store.runtime.redaction import mask_secrets, strip_quoted_bytes

_log = logging.getLogger(__name__)


def write(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Log a request that has ended; one that asks how the proxy is only at debug level."""
    level = logging.DEBUG if validation.is_probe(flow.request) else logging.INFO
    if _log.isEnabledFor(level):
        fields = _fields(flow, exchange)
        _log.log(level, "request", extra={name: value for name, value in fields.items() if value is not None})


def write_turn(flow: http.HTTPFlow, exchange: Exchange, turn: Turn, opened: Opened) -> None:
    """Log a response over a WebSocket that has a row of its own, and has ended."""
    duration = round((time.monotonic() - turn.admitted) * 1000)
    code = turn.cut.code if turn.cut else None
    _write_response(flow, exchange, opened.request_id, status=turn.status, code=code, duration_ms=duration)


def write_refused_turn(flow: http.HTTPFlow, exchange: Exchange, request_id: str, refusal: GatewayError) -> None:
    """Log a response over a WebSocket that was refused."""
    _write_response(flow, exchange, request_id, status=refusal.status, code=refusal.code)


def _write_response(flow: http.HTTPFlow, exchange: Exchange, request_id: str, **outcome: object) -> None:
    fields = {
        "request_id": request_id,
        "session_id": exchange.request_id,
        "client": exchange.client,
        "method": flow.request.method,
        "path": _path(flow.request),
        **_holder(exchange),
        **outcome,
    }
    _log.info("request", extra={name: value for name, value in fields.items() if value is not None})


def _fields(flow: http.HTTPFlow, exchange: Exchange) -> dict[str, object]:
    refusal, response = exchange.refusal, flow.response
    return {
        "request_id": exchange.request_id,
        "client": exchange.client,
        "method": flow.request.method,
        "path": _path(flow.request),
        "status": refusal.status if refusal and not exchange.streamed else response.status_code if response else None,
        "code": refusal.code if refusal else None,
        "error": strip_quoted_bytes(flow.error.msg) if flow.error else None,
        **_holder(exchange),
        "duration_ms": round((time.monotonic() - exchange.started) * 1000),
    }


def _holder(exchange: Exchange) -> dict[str, object]:
    return exchange.holder._asdict() if exchange.holder else {}


def _path(request: http.Request) -> str:
    return mask_secrets(validation.path_of(request).decode("latin-1").encode("unicode_escape").decode())
