"""The end of a request's account: what was read of it goes to the ledger, counted offline first where that is due.

Everything that ends an exchange comes here, once. Nothing here raises, or waits on the store.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from addon.exchange import Exchange
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.estimates.estimator import Estimator
from addon.metering.meter import Meter
from addon.websocket_session import Turn
from store.admission.admission import Admission
from store.errors import UpstreamKeyRejected
from store.ledger.ledger import Opened, Outcome, Settlement
from store.ledger.usage import Metered, Source

_log = logging.getLogger(__name__)

type Tell = Callable[[Metered], Awaitable[None]]
"""Is called with an estimate that was made, once it is on its way to the ledger."""


class Settling:
    """Settles exchanges, for one process."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._estimator = Estimator()
        self._estimates: dict[asyncio.Task[None], Settlement] = {}

    def settle(self, exchange: Exchange, tell: Tell | None = None) -> Metered:
        """Settle an exchange that has ended, unless it never was admitted. Returns what its answer told.

        Where that is nothing, and it can be estimated, `tell` hears of it later.
        """
        if exchange.opened is None:
            return Metered()
        meter, exchange.meter = exchange.meter, None  # its flow may stay in mitmweb for long
        return self._settle(exchange.opened, meter, _outcome(exchange, meter), tell)

    def settle_turn(self, exchange: Exchange, turn: Turn, opened: Opened, tell: Tell | None = None) -> Metered:
        """Settle a response over a WebSocket, in a row of its own. Returns what it told; `tell` is as in `settle`."""
        return self._settle(opened, turn.meter, _outcome_of_turn(exchange, turn), tell)

    def _settle(self, opened: Opened, meter: Meter | None, outcome: Outcome, tell: Tell | None) -> Metered:
        metered = meter.read() if meter else Metered()
        settlement = Settlement(opened, outcome, metered)
        request = meter.estimate_request() if meter and metered.source is Source.UNKNOWN else None
        if request is None:
            self._admission.settle(settlement)
            return metered
        task = asyncio.create_task(self._estimate(settlement, request, tell))
        self._estimates[task] = settlement
        task.add_done_callback(self._estimates.pop)
        return metered

    async def drain(self) -> None:
        """Return once nothing is being counted any more."""
        while self._estimates:
            await asyncio.wait(self._estimates)

    def close(self) -> None:
        """Settle without an estimate what is still being counted."""
        for settlement in self._estimates.values():
            self._admission.settle(settlement)  # what its task says after that is too late
        self._estimator.close()

    async def _estimate(self, settlement: Settlement, request: EstimateRequest, tell: Tell | None) -> None:
        metered = None
        try:
            metered = await self._estimator.estimate(request)
        except Exception:
            _log.exception("a usage is not estimated")
        finally:
            self._admission.settle(settlement if metered is None else settlement._replace(metered=metered))
        if metered is not None and tell is not None:
            await tell(metered)


def _outcome(exchange: Exchange, meter: Meter | None) -> Outcome:
    return Outcome(
        status=_status(exchange),
        streamed=exchange.streamed,
        duration_ms=_milliseconds(exchange.started, time.monotonic()),
        first_byte_ms=_milliseconds(exchange.started, exchange.answered) if exchange.answered else None,
        request_bytes=meter.request_bytes if meter else None,
        response_bytes=meter.response_bytes if meter and (exchange.streamed or exchange.ended) else None,
        upstream_request_id=exchange.upstream_request_id,
        upstream=exchange.upstream.origin if exchange.upstream else None,
    )


def _outcome_of_turn(exchange: Exchange, turn: Turn) -> Outcome:
    return Outcome(
        status=turn.status or exchange.status,
        streamed=True,
        duration_ms=_milliseconds(turn.admitted, time.monotonic()),
        first_byte_ms=_milliseconds(turn.admitted, turn.began) if turn.began else None,
        request_bytes=turn.meter.request_bytes,
        response_bytes=turn.meter.response_bytes,
        upstream_request_id=exchange.plain(turn.response_id),
        upstream=exchange.upstream.origin if exchange.upstream else None,
    )


def _status(exchange: Exchange) -> int | None:
    """Return the status that the client saw; the upstream's own where it rejected the project's key.

    Of an answer that is read whole first, the client sees nothing if that fails.
    """
    if isinstance(exchange.refusal, UpstreamKeyRejected):
        return exchange.status
    if exchange.refusal is not None and not exchange.streamed:
        return exchange.refusal.status
    return exchange.status


def _milliseconds(start: float, end: float) -> int:
    return round((end - start) * 1000)
