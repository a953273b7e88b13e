"""The admission of a request: the store decides and counts, and the exchange gets a grant for one destination."""

import functools

from mitmproxy import http

from addon import annotations, authentication, validation
from addon.ending import Ending
from addon.exchange import Exchange
from addon.model_reader import ModelReader, head_of
from addon.protocol.endpoints import endpoint_of
from addon.protocol.reserved_endpoints import reserved_part
from addon.reverse_mode import ReverseMode
from addon.session_models import SessionModels
from addon.websocket_session import Account, WebSocketSession
from store.admission.admission import Admission
from store.errors import DestinationRefused, ServiceUnavailable
from store.ledger.ledger import Settlement
from store.request import Opening


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
        token, opening = exchange.pop_token(), _opening(flow.request, exchange)
        reader = ModelReader(flow.request, exchange, self._max_spool)
        if flow.is_replay and token == authentication.MASK:
            holder = annotations.read(flow)
            admitted = await self._admission.admit_again(holder.token_id if holder else "", opening, reader)
        else:
            admitted = await self._admission.admit(token, opening, reader)
        if exchange.finished:  # while the store decided: nothing else would settle this row
            self._admission.settle(Settlement(admitted.opened))
            raise ServiceUnavailable
        exchange.admit(admitted, upstream, flow.request)
        annotations.write(flow, exchange.request_id, admitted.holder)

    def open_session(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Have each response over a WebSocket admitted, as it is open now."""
        if exchange.opened is None or exchange.meter is None:
            return
        session = WebSocketSession(
            Account(exchange.opened.token_id, _opening(flow.request, exchange), SessionModels(head_of(flow.request))),
            exchange.meter,
            self._admission,
            functools.partial(self._ending.end_turn, flow, exchange),
            functools.partial(self._ending.refuse_turn, flow, exchange),
        )
        exchange.begin_session(session)


def _opening(request: http.Request, exchange: Exchange) -> Opening:
    path = validation.path_of(request)
    reserved, text = reserved_part(request.method, path), path.decode("ascii")  # validation lets nothing else in
    return Opening(exchange.request_id, request.method, text, endpoint_of(text), reserved, client=exchange.client)
