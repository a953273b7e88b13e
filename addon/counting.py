"""Counts how exchanges have ended, in the figures of the process. Labels are bounded: clients choose paths."""

import time
from collections.abc import Mapping
from http import HTTPStatus

from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http

from addon.exchange import Exchange
from addon.protocol.endpoints import OTHER
from addon.websocket_session import Turn
from store.errors import GatewayError, ServiceUnavailable, UpstreamKeyRejected, UpstreamTimeout
from store.metrics.figures import Figures
from store.request import Opened

ENDPOINTS = frozenset(
    "/v1/" + name
    for name in (
        *("audio/speech", "audio/transcriptions", "audio/translations", "batches", "batches/{id}", "chat/completions"),
        *("completions", "embeddings", "files", "files/{id}", "images/edits", "images/generations", "messages"),
        *("messages/count_tokens", "models", "models/{id}", "moderations", "realtime", "rerank", "responses"),
        "responses/{id}",
    )
)
"""The endpoints with figures of their own; all others are OTHER."""

_CLASSES = {None: "none", 1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_KINDS: Mapping[type, str] = {UpstreamTimeout: "timeout", UpstreamKeyRejected: "key_rejected"}


def count(figures: Figures, flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Count an exchange that has ended: its latencies if it was admitted, and errors."""
    opened, refusal = exchange.opened, exchange.refusal
    if opened is not None:
        latencies = figures.latencies(_endpoint(opened), _class(exchange.final_status))
        latencies.whole.add(time.monotonic() - exchange.started)
        if exchange.answered_at is not None:
            latencies.first_byte.add(exchange.answered_at - exchange.started)
        if exchange.sent_at is not None:
            latencies.added.add(exchange.sent_at - exchange.started - exchange.waited)
        kind = upstream_error(flow, exchange)
        if kind is not None:
            figures.count("upstream_errors", kind)
    if refusal is not None and not exchange.abandoned:
        count_error(figures, refusal)


def count_turn(figures: Figures, turn: Turn, opened: Opened) -> None:
    """Count a response over a WebSocket that has ended."""
    latencies = figures.latencies(_endpoint(opened), _class(turn.status or HTTPStatus.OK))
    latencies.whole.add(time.monotonic() - turn.admitted)
    if turn.began is not None:
        latencies.first_byte.add(turn.began - turn.admitted)
    if turn.cut is not None:
        count_error(figures, turn.cut)


def count_error(figures: Figures, error: GatewayError) -> None:
    """Count an error of the gateway's own."""
    figures.count("errors", error.code)


def upstream_error(flow: http.HTTPFlow, exchange: Exchange) -> str | None:
    """Return the kind of error that an admitted request met upstream; None for none.

    `connect`: no connection; `timeout`: no answer in time; `no_response`: the connection broke before an answer, or
    that is no use; `cut`: it broke within the answer; `key_rejected`; otherwise the class of the status.
    """
    named = _KINDS.get(type(exchange.refusal))
    if named is not None:
        return named
    if exchange.status is not None and exchange.status >= HTTPStatus.BAD_REQUEST:
        return _class(exchange.status)
    return _way_it_broke(exchange) if flow.error is not None and not _is_of_client(flow.error.msg) else None


def _way_it_broke(exchange: Exchange) -> str | None:
    refusal = exchange.refusal
    if exchange.ended or exchange.abandoned or not (refusal is None or isinstance(refusal, ServiceUnavailable)):
        return None
    if exchange.status is not None:
        return "cut"
    return "no_response" if exchange.sent_at is not None else "connect"


def _is_of_client(error: str) -> bool:
    """Tell whether a flow's error is that its client has hung up, or that an operator has killed it."""
    return error in {"Client disconnected.", mitmproxy_flow.Error.KILLED_MESSAGE} or "by client" in error


def _endpoint(opened: Opened) -> str:
    return opened.endpoint if opened.endpoint in ENDPOINTS else OTHER


def _class(status: int | None) -> str:
    return _CLASSES.get(status and status // 100, "none")
