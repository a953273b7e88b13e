"""Reserves more for a streamed response that shows more output than was reserved for it, while it runs.

Limits of tokens and budgets hold on for requests without a bound of their own, too: what the response shows is counted
by an upper bound, and reserved in steps. The stream is not held up for that. Once nothing is left to reserve, and the
response shows more than it has, it is cut.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Protocol

from addon.metering.meter import Meter
from store.admission.admission import Admission
from store.errors import GatewayError, QuotaExhausted
from store.limits.bound import Bounds
from store.request import Amounts, Opened

STEP = 1024
"""Tokens of output that are reserved at once, at least; more where much was reserved before: a quarter of that."""

AHEAD = 256
"""Tokens of output before the end of a reservation at which more is reserved, so that it is there in time."""

_NOTHING_LEFT = "Nothing is left of a budget, or of a window of tokens, for the rest of this response."

_log = logging.getLogger(__name__)


type Cut = Callable[[GatewayError], None]


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
        self.cut: Cut = _go_on
        """Ends the response with an error: called once it shows more than there was left to reserve."""
        self._admission = admission
        self._response = response
        self._bounds = bounds
        self._amounts = reserved
        self._task: asyncio.Task[None] | None = None
        self._is_full = False
        """True once there was less left than the response needs: it has all of that."""

    def watch(self) -> None:
        """Look at what the response has shown: reserve more in time, or cut it. Returns at once."""
        meter = self._response.meter
        if self._task is not None or meter is None or not meter.shows_more_than(self._enough):
            return
        if self._is_full:
            self.cut(QuotaExhausted(_NOTHING_LEFT))
        else:
            self._task = asyncio.ensure_future(self._grow(max(STEP, self._output // 4)))

    @functools.cached_property
    def _enough(self) -> int:
        """The tokens of output up to which there is nothing to do."""
        reserved = self._output
        return reserved if self._is_full else reserved - min(AHEAD, reserved // 2)

    @property
    def _output(self) -> int:
        """The tokens of output for which enough is reserved."""
        return self._bounds.output_within(self._amounts)

    async def _grow(self, tokens: int) -> None:
        opened, bounds = self._response.opened, self._bounds
        try:
            if opened is not None:
                more = Amounts(tokens, bounds.usd_each * tokens)
                extended = await self._admission.grow(opened, more)
                self._amounts = self._amounts.plus(extended.opened.reserved.minus(opened.reserved))
                self._response.opened, self._is_full = extended.opened, extended.is_full
                del self._enough
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


def _go_on(_error: GatewayError) -> None:
    """Let the response go on."""
