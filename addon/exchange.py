"""What the gateway knows about a request under way: kept beside the flow, never on it, as flows are shown and saved."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

from mitmproxy import http

from addon import streaming
from addon.metering.meter import Meter
from addon.websocket_session import WebSocketSession
from store.admission.holder import Holder
from store.database.models import UPSTREAM_ID_LENGTH
from store.errors import GatewayError
from store.ids import new_request_id
from store.ledger.ledger import Opened
from store.runtime.settings import Upstream

_ID = re.compile(rf"[!-~]{{1,{UPSTREAM_ID_LENGTH}}}")


class Destination(NamedTuple):
    """Where a connection leads."""

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
    """One request and its answer. Times are seconds of the monotonic clock."""

    client_id: str = ""
    client: str | None = None
    """The client's address; None for a replay, which has none."""
    request_id: str = field(default_factory=new_request_id)
    started: float = field(default_factory=time.monotonic)
    token: str | None = field(default=None, repr=False)
    """The token's value, until it is admitted."""
    holder: Holder | None = None
    """The holder of its token, once that is known: also where it is refused."""
    opened: Opened | None = None
    """Its row in the ledger, once it is admitted."""
    meter: Meter | None = None
    """What reads along, once it is admitted."""
    session: WebSocketSession | None = None
    """Admits the responses over a WebSocket, once it is open."""
    grant: Grant | None = None
    checked: object = None
    """What the edge has seen of the request, and let pass (`edge.seen`)."""
    upstream: Upstream | None = None
    """The upstream that it is granted for."""
    sent: float = 0.0
    """When the request went upstream; 0 before."""
    answered: float = 0.0
    """When the headers of the upstream's answer came; 0 before."""
    status: int | None = None
    """The answer's, once it has begun."""
    streamed: bool = False
    ended: bool = False
    """Whether the answer has come whole."""
    upstream_request_id: str | None = None
    refusal: GatewayError | None = None
    """What to answer instead of going on."""

    @property
    def remote_ms(self) -> int:
        """The milliseconds that the upstream took until the headers of its answer."""
        return round((self.answered - self.sent) * 1000)

    def begin_metering(self, opened: Opened, request: http.Request) -> None:
        """Read along from now on, as the request has been admitted."""
        self.opened = opened
        model = request.query.get("model") if b"?" in request.data.path else None
        self.meter = Meter(request.method, opened.endpoint, model)
        self.meter.begin_request(*_kind(request))

    def watch_request(self, data: bytes) -> None:
        """Show a piece of the request's body to the meter."""
        if self.meter:
            self.meter.feed_request(data)

    def watch_answer(self, data: bytes) -> None:
        """Show a piece of the answer's body to the meter."""
        if self.meter:
            self.meter.feed_answer(data)

    def begin_answer(self, response: http.Response) -> None:
        """Take note that the headers of the upstream's answer have come."""
        self.note_answer(response)
        self.streamed = streaming.is_streamed_answer(response)
        if self.meter and response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.meter.begin_socket()
        elif self.meter:
            self.meter.begin_answer(response.status_code, *_kind(response))

    def note_answer(self, response: http.Response) -> None:
        """Take note of an answer's headers alone, where the answer itself is not passed on."""
        self.answered = time.monotonic()
        self.status = response.status_code
        self.upstream_request_id = self.plain(response.headers.get("x-request-id", ""))

    def end_answer(self, response: http.Response) -> None:
        """Take note that the answer has come whole; show it to the meter now, unless it was streamed."""
        self.ended = True
        if self.meter:
            if not self.streamed:
                self.meter.feed_answer(response.raw_content or b"")
            self.meter.end_answer()

    def end_session(self) -> None:
        """Take note that the WebSocket has ended, if it is one."""
        session, self.session = self.session, None
        if session is not None:
            session.end()

    def plain(self, request_id: str) -> str | None:
        """Return an upstream's id for the ledger; None for no plain word, as it may be anything, the key too."""
        is_secret = self.grant is not None and self.grant.api_key in request_id
        return request_id if _ID.fullmatch(request_id) and not is_secret else None


def _kind(message: http.Message) -> tuple[str, str]:
    return message.headers.get("content-type", ""), message.headers.get("content-encoding", "")


class Exchanges:
    """The exchanges under way, by the id of their flow."""

    def __init__(self) -> None:
        self._by_flow: dict[str, Exchange] = {}
        self._none_left = asyncio.Event()
        self._ending_since: float | None = None

    @property
    def are_ending(self) -> bool:
        """Whether connections close with their answers."""
        return self._ending_since is not None

    def have_been_ending(self, seconds: float) -> bool:
        """Tell whether that has been so for some time."""
        return self._ending_since is not None and time.monotonic() >= self._ending_since + seconds

    def open(self, flow_id: str, client_id: str) -> Exchange:
        """Start an exchange on a client's connection."""
        exchange = self._by_flow[flow_id] = Exchange(client_id)
        return exchange

    def get(self, flow_id: str) -> Exchange | None:
        """Return the exchange of a flow, if it is under way."""
        return self._by_flow.get(flow_id)

    def close(self, flow_id: str) -> Exchange | None:
        """End an exchange and forget its secrets. Returns it the first time, None from then on."""
        exchange = self._by_flow.pop(flow_id, None)
        if exchange is not None:
            exchange.end_session()
            exchange.token = exchange.grant = None
        if not self._by_flow:
            self._none_left.set()
        return exchange

    def of(self, client_id: str) -> dict[str, Exchange]:
        """Return the exchanges under way on a client's connection, by their flows."""
        return {flow_id: exchange for flow_id, exchange in self._by_flow.items() if exchange.client_id == client_id}

    def all(self) -> list[str]:
        """Return the flows whose exchanges are under way."""
        return [*self._by_flow]

    async def drain(self) -> None:
        """Return once no exchange is under way; connections close with their answers from now on."""
        if self._ending_since is None:
            self._ending_since = time.monotonic()
        while self._by_flow:
            self._none_left.clear()
            await self._none_left.wait()

    def __len__(self) -> int:
        return len(self._by_flow)
