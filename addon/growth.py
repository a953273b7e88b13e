"""Reserves more for a streamed response that shows more output than was reserved for it, while it runs.

Limits of tokens and budgets hold on for requests without a bound of their own, too: what the response shows is counted
by an upper bound, and reserved in steps. The stream is not held up for that.
"""

import asyncio
import logging
from typing import Protocol

from addon.metering.meter import Meter
from store.admission.admission import Admission
from store.errors import GatewayError
from store.limits.bound import Bounds
from store.request import Amounts, Opened

STEP = 1024
"""Tokens of output that are reserved at once, at least; more where much was reserved before: a quarter of that."""

_log = logging.getLogger(__name__)


class Holding(Protocol):
    """A response under way: an exchange, or one of several over a WebSocket."""

    opened: Opened | None
    """The row that its reservation belongs to."""

    @property
    def meter(self) -> Meter | None:
        """The meter that reads it."""


class Growth:
    """The reservation of one response."""

    def __init__(self, admission: Admission, response: Holding, bounds: Bounds, reserved: Amounts) -> None:
        """Take a response for which so much was reserved within bounds."""
        self._admission = admission
        self._response = response
        self._bounds = bounds
        self._reserved = reserved.tokens - bounds.tokens.base
        self._task: asyncio.Task[None] | None = None
        self.is_full = False
        """True once there was less left than the response needs: it has all of that."""

    def watch(self) -> None:
        """Look at what the response has shown; reserve more if that is more than was reserved. Returns at once."""
        meter = self._response.meter
        if self.is_full or self._task is not None or meter is None or not meter.shows_more_than(self._reserved):
            return
        self._task = asyncio.ensure_future(self._grow(max(STEP, self._reserved // 4)))

    async def _grow(self, tokens: int) -> None:
        opened, bounds = self._response.opened, self._bounds
        try:
            if opened is not None:
                more = Amounts(bounds.tokens.each * tokens, bounds.usd.each * tokens)
                extended = await self._admission.grow(opened, more)
                self._response.opened, self.is_full = extended.opened, extended.is_full
                self._reserved += tokens
        except GatewayError as error:  # it is tried again with the next piece
            _log.warning("a response could not reserve more: %s", error.message)
            self._task = None
        else:
            self._task = None
            self.watch()  # it may have shown more meanwhile, and show nothing for a while


def growth_of(admission: Admission, response: Holding, bounds: Bounds | None, reserved: Amounts) -> Growth | None:
    """Have what a response shows counted, and return what has to watch it; None where its own bound holds."""
    if bounds is None or bounds.output is not None or response.meter is None:
        return None
    response.meter.count_shown_output()
    return Growth(admission, response, bounds, reserved)
