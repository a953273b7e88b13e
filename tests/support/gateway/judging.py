"""Stands for a policy that judges bodies: the store cannot decide about a request before its body is there."""

import asyncio

import pytest
from mitmproxy import http

from addon.admitting import Admitting
from addon.exchange import Exchange
from addon.spool import BodyMissing, Spool
from store.errors import EndpointNotAllowed

REFUSED = b"refuse me"
"""A body that begins like this is refused with a 403."""


class Judge:
    """It asks for every body that is not there, and keeps the spools that it has read."""

    def __init__(self) -> None:
        self.spools: list[Spool] = []
        self.asked = 0
        """Requests whose bodies were missing."""
        self.asks_replays = False
        """True where it asks for the body of a replay too, which is on its flow."""
        self.may_decide: asyncio.Event | None = None
        """It decides about a body once this is set, if there is one."""
        self.has_body = asyncio.Event()
        """Set once it has seen a body."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Have the gateways of this process ask the judge before the store."""
        admit = Admitting.admit

        async def judged(admitting: Admitting, flow: http.HTTPFlow, exchange: Exchange) -> None:
            await self._judge(flow, exchange)
            await admit(admitting, flow, exchange)

        patch.setattr(Admitting, "admit", judged)

    async def _judge(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        is_there = flow.request.raw_content is not None and not (flow.is_replay and self.asks_replays)
        if exchange.spool is None and not is_there:
            self.asked += 1
            exchange.pop_token()
            raise BodyMissing
        if exchange.spool is None:
            body = flow.request.raw_content or b""
        else:
            self.spools.append(exchange.spool)
            body = next(exchange.spool.pieces(), b"")
        self.has_body.set()
        if self.may_decide is not None:
            await self.may_decide.wait()
        if body.startswith(REFUSED):
            raise EndpointNotAllowed
