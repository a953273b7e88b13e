"""The admission of a request: the store decides and counts, and the exchange gets a grant for one destination."""

import functools

from mitmproxy import http

from addon import annotations, authentication, validation
from addon.ending import Ending
from addon.exchange import Exchange
from addon.growth import Growth, growth_of
from addon.model_reader import ModelReader, head_of
from addon.protocol.endpoints import endpoint_of
from addon.protocol.reserved_endpoints import reserved_part
from addon.reverse_mode import ReverseMode
from addon.session_models import EventReader, SessionModels
from addon.websocket_session import Account, WebSocketSession
from store.admission.admission import Admission
from store.errors import DestinationRefused, ServiceUnavailable
from store.ledger.ledger import NEVER_SENT, Settlement
from store.request import Opening
from store.runtime.settings import Upstream


class Admitting:
    """Admits requests, for one process."""

    def __init__(self, admission: Admission, reverse_mode: ReverseMode, ending: Ending, max_spool: int) -> None:
        self._admission = admission
        self._max_spool = max_spool
        self._reverse_mode = reverse_mode
        self._ending = ending

    async def admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Have the store decide and count; keep the grant, and begin to meter. Raises the refusal.

        Raises BodyMissing where a policy has to see the body first, and it has not come.
        """
        upstream = self._reverse_mode.upstream_of(flow.request)
        if upstream is None:
            raise DestinationRefused
        token, opening = exchange.pop_token(), _opening(flow.request, exchange, upstream)
        reader = ModelReader(flow.request, exchange, self._max_spool)
        if flow.is_replay and token == authentication.MASK:
            holder = annotations.read(flow)
            admitted = await self._admission.admit_again(holder.token_id if holder else "", opening, reader)
        else:
            admitted = await self._admission.admit(token, opening, reader)
        if exchange.finished:  # while the store decided: nothing else would settle this row
            self._admission.settle(Settlement(admitted.opened, NEVER_SENT))
            raise ServiceUnavailable
        exchange.admit(admitted, upstream, flow.request)
        growth = growth_of(self._admission, exchange, admitted.bounds, admitted.opened.reserved)
        if growth is not None:
            exchange.on_response, growth.cut = growth.watch, exchange.cut
        annotations.write(flow, exchange.request_id, admitted.holder)

    def open_session(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Have each response over a WebSocket admitted, as it is open now."""
        if exchange.opened is None or exchange.meter is None:
            return
        account = Account(
            exchange.opened.token_id,
            _opening(flow.request, exchange, exchange.upstream),
            SessionModels(head_of(flow.request)),
            functools.partial(self._extend, exchange),
            lambda: exchange.stop(None),
        )
        session = WebSocketSession(
            account,
            exchange.meter,
            self._admission,
            functools.partial(self._ending.end_turn, flow, exchange),
            functools.partial(self._ending.refuse_turn, flow, exchange),
        )
        exchange.begin_session(session)

    async def _extend(self, exchange: Exchange, opening: Opening, reader: EventReader) -> tuple[bool, Growth | None]:
        """Reserve for one more use of an exchange's row. Returns whether it has, and what has to watch that.

        Raises the refusal.
        """
        before = exchange.opened
        if before is None:
            raise ServiceUnavailable
        extended = await self._admission.extend(before, opening, reader)
        exchange.opened = extended.opened
        more = extended.opened.reserved.minus(before.reserved)
        return not extended.is_past, growth_of(self._admission, exchange, extended.bounds, more)


def _opening(request: http.Request, exchange: Exchange, upstream: Upstream | None) -> Opening:
    path = validation.path_of(request)
    reserved, text = reserved_part(request.method, path), path.decode("ascii")  # validation lets nothing else in
    return Opening(
        exchange.request_id,
        request.method,
        text,
        endpoint_of(text),
        reserved,
        client=exchange.client,
        upstream=upstream.origin if upstream else "",
    )
