"""What the gateway knows about a request under way: kept beside the flow, never on it, as flows are shown and saved."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import NamedTuple

from store.errors import GatewayError


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
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.monotonic)
    token: str | None = field(default=None, repr=False)
    """The token's value, until it is admitted."""
    token_id: str | None = None
    """The token's public id, once it is admitted."""
    project_id: str | None = None
    grant: Grant | None = None
    sent: float = 0.0
    """When the request went upstream; 0 before."""
    refusal: GatewayError | None = None
    """What to answer instead of going on."""


class Exchanges:
    """The exchanges under way, by the id of their flow."""

    def __init__(self) -> None:
        self._by_flow: dict[str, Exchange] = {}
        self._none_left = asyncio.Event()
        self.are_ending = False

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
            exchange.token = exchange.grant = None
        if not self._by_flow:
            self._none_left.set()
        return exchange

    def close_all_of(self, client_id: str, *, sent: bool = False) -> None:
        """End the exchanges of a client's connection that are still open; with `sent` those that went upstream only."""
        for flow_id, exchange in list(self._by_flow.items()):
            if exchange.client_id == client_id and (exchange.sent or not sent):
                self.close(flow_id)

    def has_any_of(self, client_id: str) -> bool:
        """Tell whether exchanges of a client's connection are still open."""
        return any(exchange.client_id == client_id for exchange in self._by_flow.values())

    async def drain(self) -> None:
        """Return once no exchange is under way; connections close with their answers from now on."""
        self.are_ending = True
        while self._by_flow:
            self._none_left.clear()
            await self._none_left.wait()

    def __len__(self) -> int:
        return len(self._by_flow)
