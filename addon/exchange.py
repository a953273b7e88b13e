"""The state of a request under way. It is kept beside the flow, never on it: flows are shown and saved."""

import asyncio
import re
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

from mitmproxy import http

from addon import streaming, validation
from addon.cross_origin import CrossOrigin, Fields
from addon.metering.meter import Meter
from addon.protocol.last_event import last_event
from addon.spool import Spool
from addon.streaming import EventTap, Stop, Tap
from addon.websocket_session import WebSocketSession
from store.admission.decision import Admitted
from store.admission.running import Running
from store.database.models import UPSTREAM_ID_LENGTH
from store.errors import GatewayError, ServiceUnavailable, TokenRefused, UpstreamKeyRejected
from store.ids import new_request_id
from store.limits.window import Standing
from store.request import Holder, Opened
from store.runtime.settings import Upstream

PATIENCE = 0.3
"""Seconds that a response which is cut gets to come to the end of its present event."""

_ID = re.compile(rf"[!-~]{{1,{UPSTREAM_ID_LENGTH}}}")


def _nothing_to_stop(_last: bytes | None) -> None:
    """Do nothing."""


class Destination(NamedTuple):
    """The address that a connection leads to."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """The permission to send one request with a key to one destination. Without it nothing leaves."""

    destination: Destination
    api_key: str = field(repr=False)
    path_prefix: str = ""


@dataclass(slots=True)
class Exchange:
    """One request and its response. Times are seconds of the monotonic clock; None is "not yet"."""

    flow: http.HTTPFlow | None = field(default=None, repr=False)
    """Its flow, until it is finished: mitmweb may keep flows for long, and with them the exchange."""
    client_id: str = ""
    """The id of the client's connection; empty for a replay."""
    client: str | None = None
    """The client's address; None for a replay, which has none."""
    cross_origin: Fields = ()
    """The headers with which its response lets a page in a browser read it; none without CORS_ORIGINS."""
    request_id: str = field(default_factory=new_request_id)
    started: float = field(default_factory=time.monotonic)
    token: str | None = field(default=None, repr=False)
    """The token's value, until it is admitted or refused."""
    validated: tuple[object, ...] | None = None
    """The parts of the request that have passed validation (`validation.seen`)."""
    holder: Holder | None = None
    """The holder of its token, once that is known: also where it is refused."""
    spool: Spool | None = None
    """The request's body, where it has to be read before the request is admitted; until it has been sent."""
    opened: Opened | None = None
    """Its row in the ledger, once it is admitted."""
    upstream: Upstream | None = None
    """The upstream that it is admitted for."""
    windows: Sequence[Standing] = ()
    """The windows, of its token or its project, with the least left when it was admitted: one of each unit at most."""
    shown_models: Container[str] | None = None
    """The models that `GET /v1/models` shows its token; None for all of them."""
    room: int | None = None
    """Bytes that may still come of a response that is read whole whatever its length; None for any other response."""
    admitted_for: tuple[str, bytes] | None = None
    """The method and the path that it was admitted for."""
    grant: Grant | None = None
    """The permission to send it: from its admission until it is refused or finished."""
    meter: Meter | None = None
    """Reads the usage from a copy of the bodies, once it is admitted."""
    lookup: str = field(default="", repr=False)
    """The HMAC of the token's value that it came with; empty for a replay."""
    on_response: Callable[[], None] | None = None
    """Called after each piece of the response, where its reservation may have to grow."""
    tap: Tap | None = None
    """The response on its way to the client, once it has begun and is passed on as it comes."""
    stop: Stop = field(default=_nothing_to_stop, repr=False)
    """Ends it now; set by what transports it."""
    session: WebSocketSession | None = None
    """Admits the responses over a WebSocket, while it is open."""
    waiting_since: float | None = None
    """The time from which the gateway waits for the request's body; None while it does not."""
    waited: float = 0.0
    """Seconds that it has waited for that."""
    sent_at: float | None = None
    """The time at which the request went upstream."""
    answered_at: float | None = None
    """The time at which the headers of the upstream's response came."""
    status: int | None = None
    """The status of the upstream's response."""
    streamed: bool = False
    """True once a response has begun that is passed on as it comes."""
    ended: bool = False
    """True once the response has come whole."""
    upstream_request_id: str | None = None
    refusal: GatewayError | None = None
    """The error to answer with instead of going on; set by `refuse` alone."""
    abandoned: bool = False
    """True if the refusal stands for a client that has gone, and not for an error of the request."""
    finished: bool = False
    """True once it is settled and logged."""

    def refuse(self, error: GatewayError) -> None:
        """Answer with an error instead of going on, and send nothing from now on. The first refusal holds."""
        self.token = self.grant = None
        if self.refusal is None or self.abandoned:
            self.refusal, self.abandoned = error, False
        if isinstance(error, TokenRefused) and error.refused:
            self.holder = error.refused.holder

    def abandon(self) -> None:
        """Send nothing from now on: the client has gone. A refusal that comes later takes the place of that."""
        if self.refusal is None:
            self.refuse(ServiceUnavailable())
            self.abandoned = True

    def cut(self, error: GatewayError) -> None:
        """End it now, whatever it is doing: its token is not valid any more, or its budget is used up.

        A response that has begun ends between two events, with an error as the last one; or it breaks off.
        """
        has_ended = self.ended and self.session is None  # the response that opens a WebSocket is whole
        if has_ended or self.finished or self.refusal is not None:
            return
        if self.session is not None:
            self.session.cut(error)
        self.refuse(error)
        if isinstance(self.tap, EventTap) and self.opened is not None:
            last = last_event(self.opened.endpoint, error, self.request_id)
            self.tap.end(last, self._stop_late, PATIENCE)
        else:
            self.stop(None)

    def _stop_late(self, last: bytes | None) -> None:
        """End it, unless it has been finished in the meantime."""
        self.stop(last)

    def pop_token(self) -> str:
        """Return the token and forget it; empty if there is none."""
        token, self.token = self.token or "", None
        return token

    def begin_spool(self, token: str, spool: Spool) -> None:
        """Keep the token and the body, as it comes, for a second try; not for a request that was refused meanwhile."""
        if self.refusal is None and not self.finished:
            self.token, self.spool = token, spool
            self.await_body()
        else:
            spool.close()

    def close_spool(self) -> None:
        """Forget the body: it has been sent, or is not to be sent any more."""
        spool, self.spool = self.spool, None
        if spool is not None:
            spool.close()

    def admit(self, admitted: Admitted, upstream: Upstream, request: http.Request) -> None:
        """Keep an admission, and begin to meter. There is no grant if the request was refused in the meantime."""
        self.opened, self.holder, self.upstream = admitted.opened, admitted.holder, upstream
        self.lookup = admitted.lookup
        self.windows, self.shown_models = admitted.windows, admitted.shown_models
        self.admitted_for = request.method, validation.path_of(request)
        if self.refusal is None:
            destination = Destination(upstream.host, upstream.port, upstream.scheme == "https")
            self.grant = Grant(destination, admitted.api_key, upstream.prefix)
        model = request.query.get("model") if b"?" in request.data.path else None
        self.meter = Meter(request.method, admitted.opened.endpoint, model)
        self.meter.begin_request(*_kind(request))

    def await_body(self) -> None:
        """Note that nothing goes on before the body has come."""
        self.waiting_since = time.monotonic()

    def note_body(self) -> None:
        """Note that the body has come."""
        if self.waiting_since is not None:
            self.waited += time.monotonic() - self.waiting_since
            self.waiting_since = None

    def note_sent(self) -> None:
        """Note that the request goes upstream now."""
        self.sent_at = time.monotonic()

    def watch_request(self, data: bytes) -> None:
        """Show a piece of the request's body to the meter."""
        if self.meter:
            self.meter.feed_request(data)

    def begin_response(self, response: http.Response) -> None:
        """Note that the headers of the upstream's response have come, and begin to meter its body."""
        self.note_response(response)
        self.streamed = streaming.is_streamed_response(response)
        if self.meter and response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.meter.begin_socket()
        elif self.meter:
            self.meter.begin_answer(response.status_code, *_kind(response))

    def note_response(self, response: http.Response) -> None:
        """Note the headers of a response that is not passed on itself."""
        self.answered_at = time.monotonic()
        self.status = response.status_code
        self.upstream_request_id = self.plain_id(response.headers.get("x-request-id", ""))

    def forget_upstream_id(self) -> None:
        """Forget the upstream's id of the request: it may quote a piece of the key."""
        self.upstream_request_id = None

    def begin_session(self, session: WebSocketSession) -> None:
        """Have the responses over a WebSocket admitted from now on."""
        self.session = session

    def watch_response(self, data: bytes) -> None:
        """Show a piece of the response's body to the meter."""
        if self.meter:
            self.meter.feed_answer(data)
        if self.on_response is not None:
            self.on_response()

    def has_room(self, size: int) -> bool:
        """Count the next bytes of the response's body. Returns False if they are more than may come."""
        if self.room is None:
            return True
        self.room -= size
        return self.room >= 0

    def end_response(self, response: http.Response) -> None:
        """Note that the response has come whole; show it to the meter now, unless it was streamed."""
        self.ended = True
        if self.meter:
            if not self.streamed:
                self.meter.feed_answer(response.raw_content or b"")
            self.meter.end_answer()

    def finish(self) -> http.HTTPFlow | None:
        """End the WebSocket's session, forget the body, the secrets and the flow. Returns the flow."""
        session, self.session = self.session, None
        if session is not None:
            session.end()
        self.close_spool()
        self.token = self.grant = self.on_response = self.tap = None
        self.stop = _nothing_to_stop
        self.finished = True
        flow, self.flow = self.flow, None
        return flow

    @property
    def final_status(self) -> int | None:
        """The status that the client got; the upstream's own, 401, where it rejected the project's key.

        A response that is read whole before it is passed on does not reach the client if it breaks off.
        """
        if isinstance(self.refusal, UpstreamKeyRejected):
            return self.status
        if self.refusal is not None and not self.streamed:
            return self.refusal.status
        return self.status

    @property
    def remote_ms(self) -> int:
        """The milliseconds that the upstream took until the headers of its response; 0 before they have come."""
        if self.sent_at is None or self.answered_at is None:
            return 0
        return round((self.answered_at - self.sent_at) * 1000)

    def plain_id(self, upstream_id: str) -> str | None:
        """Return an id of the upstream's for the ledger; None for one that is no plain word or may hold the key."""
        is_safe = self.grant is not None and self.grant.api_key not in upstream_id
        return upstream_id if is_safe and _ID.fullmatch(upstream_id) else None


def _kind(message: http.Message) -> tuple[str, str]:
    return message.headers.get("content-type", ""), message.headers.get("content-encoding", "")


type End = Callable[[http.HTTPFlow, Exchange], None]
"""Settles, annotates and logs an exchange that has ended. Raises nothing."""


class Exchanges:
    """The exchanges under way, by the id of their flow. Each of them ends in `finish`, and there only."""

    def __init__(self, end: End, cross_origin: CrossOrigin | None = None) -> None:
        """Take what ends an exchange, and the origins of pages in browsers, if there are any."""
        self._end = end
        self._cross_origin = cross_origin
        self._by_flow: dict[str, Exchange] = {}
        self.opened = 0
        """Exchanges that have been opened so far."""
        self._none_left = asyncio.Event()
        self._ending_since: float | None = None

    @property
    def are_ending(self) -> bool:
        """True once the process is to end: connections close with their responses."""
        return self._ending_since is not None

    def have_been_ending(self, seconds: float) -> bool:
        """Tell whether the process has been about to end for some time."""
        return self._ending_since is not None and time.monotonic() >= self._ending_since + seconds

    def open(self, flow: http.HTTPFlow) -> Exchange:
        """Open the exchange of a flow. The one of an earlier replay that has not ended is finished first."""
        self.finish(flow.id)
        self.opened += 1
        exchange = self._by_flow[flow.id] = Exchange(flow, "" if flow.is_replay else flow.client_conn.id)
        if self._cross_origin is not None:
            exchange.cross_origin = self._cross_origin.fields(flow.request)
        return exchange

    def allowing(self, request: http.Request) -> Fields:
        """Return the headers with which the response to a request lets a page read it, where there is no exchange."""
        return self._cross_origin.fields(request) if self._cross_origin is not None else ()

    def get(self, flow_id: str) -> Exchange | None:
        """Return the exchange of a flow, if it is under way."""
        return self._by_flow.get(flow_id)

    def finish(self, flow_id: str) -> Exchange | None:
        """Settle, annotate and log an exchange, and forget its secrets. Returns it once, None from then on."""
        exchange = self._by_flow.pop(flow_id, None)
        if exchange is None:
            return None
        if not self._by_flow:
            self._none_left.set()
        flow = exchange.finish()
        if flow is not None:
            self._end(flow, exchange)
        return exchange

    def of(self, client_id: str) -> dict[str, Exchange]:
        """Return the exchanges under way on a client's connection, by their flows."""
        return {flow_id: exchange for flow_id, exchange in self._by_flow.items() if exchange.client_id == client_id}

    def running(self) -> dict[Running, list[Exchange]]:
        """Return the admitted exchanges under way by their tokens, and the values that they came with."""
        found: dict[Running, list[Exchange]] = {}
        for exchange in self._by_flow.values():
            if exchange.opened is not None and exchange.refusal is None:
                found.setdefault(Running(exchange.opened.token_id, exchange.lookup), []).append(exchange)
        return found

    def all(self) -> list[str]:
        """Return the flows whose exchanges are under way."""
        return [*self._by_flow]

    def open_sockets(self) -> int:
        """Return how many of them are WebSockets that are open; in any thread."""
        return sum(exchange.session is not None for exchange in [*self._by_flow.values()])

    async def drain(self) -> None:
        """Return once no exchange is under way; connections close with their responses from now on."""
        if self._ending_since is None:
            self._ending_since = time.monotonic()
        while self._by_flow:
            self._none_left.clear()
            await self._none_left.wait()

    def __len__(self) -> int:
        return len(self._by_flow)
