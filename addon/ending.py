"""The end of an exchange: its row is settled, its flow says what was used, and the log gets a line.

`Exchanges.finish` calls it once for each exchange, however that has ended. An estimate of the usage comes later: it is
noted on the flow by then, unless the flow is gone (one that nothing shows is not kept for it) or was replayed since.
"""

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import ctx, hooks, http

from addon import access_log, annotations
from addon.exchange import Exchange
from addon.settling import OnEstimate, Settling
from addon.websocket_session import Turn
from store.errors import GatewayError
from store.ledger.usage import Metered
from store.request import Opened

_log = logging.getLogger(__name__)


@dataclass
class UsageNotedHook(hooks.Hook):
    """Called when a usage was noted on a flow outside of mitmproxy's hooks; a change of the flow, for mitmproxy."""

    flow: http.HTTPFlow


class Ending:
    """Ends exchanges, and the responses over their WebSockets."""

    def __init__(self, settling: Settling) -> None:
        self._settling = settling

    def end(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Settle, annotate and log an exchange. Raises nothing: a failure must not keep other exchanges open."""
        note = annotations.note_used if flow.websocket is None else annotations.add_used
        try:
            note(flow, self._settling.settle(exchange, when_estimated(flow, exchange.request_id, note)))
            access_log.write(flow, exchange)
        except Exception:
            _log.exception("the end of a request is not logged")

    def end_turn(self, flow: http.HTTPFlow, exchange: Exchange, turn: Turn, opened: Opened) -> None:
        """Settle, annotate and log a response over a WebSocket that has a row of its own."""
        on_estimate = when_estimated(flow, exchange.request_id, annotations.add_used)
        annotations.add_used(flow, self._settling.settle_turn(exchange, turn, opened, on_estimate))
        access_log.write_turn(flow, exchange, turn, opened)

    def refuse_turn(self, flow: http.HTTPFlow, exchange: Exchange, request_id: str, refusal: GatewayError) -> None:
        """Log a response over a WebSocket that was refused; it has nothing to settle."""
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
