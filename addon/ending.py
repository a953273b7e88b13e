"""The end of an exchange: its row is settled, its flow says what was used, and the log gets a line.

`Exchanges.finish` calls it once for each exchange, however that has ended. Nothing here raises, or waits for the store.

A usage that was not reported is estimated after that. The estimate goes to the ledger, and is noted on the flow, unless
the flow is gone (one that nothing shows is not kept for it) or was replayed since.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from mitmproxy import ctx, hooks, http

from addon import access_log, annotations, counting
from addon.exchange import Exchange
from addon.metering.estimates.estimate_request import EstimateRequest
from addon.metering.estimates.estimator import Estimator
from addon.metering.meter import Meter
from addon.websocket_session import Turn
from store.admission.admission import Admission
from store.errors import GatewayError
from store.ledger.ledger import Outcome, Settlement
from store.ledger.usage import Metered, Source
from store.metrics.figures import Figures
from store.request import Opened

_log = logging.getLogger(__name__)

_MAY_HAVE_USED = frozenset({None, HTTPStatus.SWITCHING_PROTOCOLS, *range(200, 300)})
"""The upstream's statuses after which a request without a usage may have cost something; None before any."""

type OnEstimate = Callable[[Metered], Awaitable[None]]
"""Called with an estimate, once it is on its way to the ledger."""


@dataclass
class UsageNotedHook(hooks.Hook):
    """Called when a usage was noted on a flow outside of mitmproxy's hooks; a change of the flow, for mitmproxy."""

    flow: http.HTTPFlow


class Settling:
    """Settles exchanges and the responses over WebSockets, for one process."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._estimator = Estimator()
        self._estimates: dict[asyncio.Task[None], Settlement] = {}

    def settle(self, exchange: Exchange, on_estimate: OnEstimate | None = None) -> Metered:
        """Settle an exchange that has ended, if it was admitted. Returns the usage that its response reported.

        If it reported none, and an estimate can be made, `on_estimate` is called with that later.
        """
        if exchange.opened is None:
            return Metered()
        meter, exchange.meter = exchange.meter, None  # mitmweb may keep the flow, and with it the exchange
        return self._settle(exchange.opened, meter, _outcome(exchange, meter), on_estimate)

    def settle_turn(
        self, exchange: Exchange, turn: Turn, opened: Opened, on_estimate: OnEstimate | None = None
    ) -> Metered:
        """Settle a response over a WebSocket, in a row of its own. Returns, and estimates, as `settle` does."""
        return self._settle(opened, turn.meter, _outcome_of_turn(exchange, turn), on_estimate)

    def _settle(self, opened: Opened, meter: Meter | None, outcome: Outcome, on_estimate: OnEstimate | None) -> Metered:
        metered = meter.read() if meter else Metered()
        settlement = Settlement(opened, outcome, metered)
        request = meter.estimate_request() if meter and metered.source is Source.UNKNOWN else None
        if request is None:
            self._admission.settle(settlement)
            return metered
        self._admission.release(opened)  # an estimate may take a while, and the request is over
        task = asyncio.create_task(self._estimate(settlement, request, on_estimate))
        self._estimates[task] = settlement
        task.add_done_callback(self._estimates.pop)
        return metered

    async def drain(self) -> None:
        """Return once no estimate is being made any more."""
        while self._estimates:
            await asyncio.wait(self._estimates)

    def close(self) -> None:
        """Settle what is still being estimated without its estimate."""
        for settlement in self._estimates.values():
            self._admission.settle(settlement)  # the settlement of its task comes too late
        self._estimator.close()

    async def _estimate(self, settlement: Settlement, request: EstimateRequest, on_estimate: OnEstimate | None) -> None:
        metered = None
        try:
            metered = await self._estimator.estimate(request)
            if metered is not None:
                metered = metered._replace(pending_id=settlement.metered.pending_id)
        except Exception:
            _log.exception("a usage could not be estimated")
        finally:
            self._admission.settle(settlement if metered is None else settlement._replace(metered=metered))
        if metered is not None and on_estimate is not None:
            await on_estimate(metered)


class Ending:
    """Ends exchanges, and the responses over their WebSockets."""

    def __init__(self, settling: Settling, figures: Figures) -> None:
        self._settling = settling
        self._figures = figures

    def end(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Settle, annotate and log an exchange. Raises nothing: a failure must not keep other exchanges open."""
        note = annotations.note_used if flow.websocket is None else annotations.add_used
        try:
            note(flow, self._settling.settle(exchange, when_estimated(flow, exchange.request_id, note)))
        except Exception:
            _log.exception("a request could not be settled or annotated")
        try:
            counting.count(self._figures, flow, exchange)
            access_log.write(flow, exchange)
        except Exception:
            _log.exception("the end of a request could not be counted or logged")

    def end_turn(self, flow: http.HTTPFlow, exchange: Exchange, turn: Turn, opened: Opened) -> None:
        """Settle, annotate and log a response over a WebSocket that has a row of its own."""
        on_estimate = when_estimated(flow, exchange.request_id, annotations.add_used)
        annotations.add_used(flow, self._settling.settle_turn(exchange, turn, opened, on_estimate))
        counting.count_turn(self._figures, turn, opened)
        access_log.write_turn(flow, exchange, turn, opened)

    def refuse_turn(self, flow: http.HTTPFlow, exchange: Exchange, request_id: str, refusal: GatewayError) -> None:
        """Log a response over a WebSocket that was refused; it has nothing to settle."""
        counting.count_error(self._figures, refusal)
        access_log.write_refused_turn(flow, exchange, request_id, refusal)


def when_estimated(flow: http.HTTPFlow, request_id: str, note: Callable[[http.HTTPFlow, Metered], None]) -> OnEstimate:
    """Return the callable that notes the estimate of a request on its flow, and shows it."""
    flow_if_kept = weakref.ref(flow)

    async def on_estimate(metered: Metered) -> None:
        kept = flow_if_kept()
        if kept is not None and annotations.request_id(kept) == request_id:
            note(kept, metered)
            await show(kept)

    return on_estimate


async def show(flow: http.HTTPFlow) -> None:
    """Tell the addons that a usage was noted on a flow, which has mitmweb show it."""
    await ctx.master.addons.handle_lifecycle(UsageNotedHook(flow))


def _outcome(exchange: Exchange, meter: Meter | None) -> Outcome:
    return Outcome(
        status=exchange.final_status,
        streamed=exchange.streamed,
        duration_ms=_milliseconds(exchange.started, time.monotonic()),
        first_byte_ms=_until(exchange.started, exchange.answered_at),
        request_bytes=meter.request_bytes if meter else None,
        response_bytes=meter.response_bytes if meter and (exchange.streamed or exchange.ended) else None,
        upstream_request_id=exchange.upstream_request_id,
        upstream=exchange.upstream.origin if exchange.upstream else None,
        code=exchange.refusal.code if exchange.refusal and not exchange.abandoned else None,
        may_cost=exchange.sent_at is not None and exchange.status in _MAY_HAVE_USED,
    )


def _outcome_of_turn(exchange: Exchange, turn: Turn) -> Outcome:
    return Outcome(
        status=turn.status or exchange.status,
        streamed=True,
        duration_ms=_milliseconds(turn.admitted, time.monotonic()),
        first_byte_ms=_until(turn.admitted, turn.began),
        request_bytes=turn.meter.request_bytes,
        response_bytes=turn.meter.response_bytes,
        upstream_request_id=exchange.plain_id(turn.response_id),
        upstream=exchange.upstream.origin if exchange.upstream else None,
        code=turn.cut.code if turn.cut else None,
        may_cost=not turn.has_failed and turn.status is None,
    )


def _until(start: float, end: float | None) -> int | None:
    return None if end is None else _milliseconds(start, end)


def _milliseconds(start: float, end: float) -> int:
    return round((end - start) * 1000)
