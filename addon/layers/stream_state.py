"""The state that a layer keeps of each stream, and the base of the layers that use it.

A stream is one request of a client connection, and its response.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import ErrorCode

from addon.exchange import Exchange, Exchanges
from addon.failures import Failure, Limits
from addon.layers import backpressure
from addon.layers.backpressure import Backlog
from addon.layers.spooling import SpoolingStream
from addon.layers.timeouts import Deadlines, TimedLayer
from addon.rejection import Rejection

type Deliver = Callable[[events.Event], None]
"""Hands an event to the layers of a connection, from outside of them."""


@dataclass
class CutRequested(events.Event):
    """The gateway cuts a request: with the last event of its response, or without one."""

    stream_id: int
    last_event: bytes | None


FAILURES = {
    ErrorCode.GENERIC_CLIENT_ERROR: Failure.MALFORMED,
    ErrorCode.REQUEST_VALIDATION_FAILED: Failure.MALFORMED,
    ErrorCode.DESTINATION_UNKNOWN: Failure.MALFORMED,
    ErrorCode.REQUEST_TOO_LARGE: Failure.TOO_LARGE,
    ErrorCode.CONNECT_FAILED: Failure.NO_RESPONSE,
    ErrorCode.GENERIC_SERVER_ERROR: Failure.NO_RESPONSE,
    ErrorCode.RESPONSE_VALIDATION_FAILED: Failure.NO_RESPONSE,
    ErrorCode.RESPONSE_TOO_LARGE: Failure.NO_RESPONSE,
}
"""mitmproxy's errors; all others cut a request."""


@dataclass(slots=True)
class StreamState:
    """One stream, from the headers of its request to the end of its response."""

    exchange: Exchange
    """Kept here, as the hooks finish it before its last response is written."""
    is_waiting: bool = True
    """True until its first hook is done."""
    body_size: int = 0
    """Bytes of the request's body that have come."""
    is_answered: bool = False
    """True once the headers of its response are written."""
    stalled_upstream: Connection | None = None
    """The upstream's connection, while it is not read as the client does not take the response."""
    rejection: Rejection | None = None
    """The upstream's 401, while its body is read."""
    last_event: bytes | None = None
    """The event that ends its response, where it is cut between two events; empty if it has been sent."""

    def release_upstream(self) -> None:
        """Read on from an upstream that was stalled."""
        upstream, self.stalled_upstream = self.stalled_upstream, None
        if upstream is not None:
            backpressure.release(upstream)


class StreamsLayer(TimedLayer):
    """The base of the parts of AnsweringLayer: they share the streams' states and some deadlines."""

    _in_progress: Deadlines[int]
    """Streams whose request or response must go on, within the idle timeout."""
    _unanswered: Deadlines[int]
    """Streams that wait for the headers of the upstream's response."""
    _unread: Deadlines[int | None]
    """Answered streams whose client still sends its request; None for a connection that is half closed."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits, deliver: Deliver) -> None:
        super().__init__(context)
        self._deliver = deliver
        self._exchanges = exchanges
        self._limits = limits
        self._states: dict[int, StreamState] = {}
        self._backlog = Backlog(context.client)
        self._last_use: float | None = None
        """The time at which a stream ended last, until the idle timeout is set from there."""

    def _exchange_of(self, stream_id: int) -> Exchange | None:
        state = self._states.get(stream_id)
        return state.exchange if state else None

    def _is_answered(self, stream_id: int) -> bool:
        state = self._states.get(stream_id)
        return state is not None and state.is_answered

    def _can_answer(self, stream_id: int) -> bool:
        return not self._is_answered(stream_id) and bool(self.context.client.state & ConnectionState.CAN_WRITE)

    def _sends_spool(self, stream_id: int) -> bool:
        """Tell whether a request's body has come whole, and goes upstream from its spool now."""
        stream = self.streams.get(stream_id)
        return isinstance(stream, SpoolingStream) and stream.sends_spool

    def _forget(self, stream_id: int) -> None:
        """Forget a stream: its response has been written, or it was cut."""
        self._last_use = time.monotonic()
        state = self._states.pop(stream_id, None)
        if state is not None:
            state.release_upstream()
        self._unanswered.stop(stream_id)
        self._in_progress.stop(stream_id)
        self._backlog.clear(stream_id)
