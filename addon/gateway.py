"""The gateway's hooks, in the order in which a request meets them. Each step lives in a file of its own.

mitmproxy logs an exception of a hook and forwards the flow. So each hook that a request must not pass unchecked is
guarded: an exception becomes the response. And a flow without a grant gets no connection.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from mitmproxy import connection, ctx, http
from mitmproxy import flow as mitmproxy_flow
from mitmproxy.proxy import layer

from addon import (
    annotations,
    authentication,
    ending,
    forwarding,
    responses,
    shown_models,
    spool,
    streaming,
    validation,
)
from addon.admitting import Admitting
from addon.cross_origin import CrossOrigin, is_preflight
from addon.cuts import Cuts
from addon.ending import Ending, Settling
from addon.exchange import Exchange, Exchanges
from addon.layers import install
from addon.plain.path import PlainPath
from addon.reverse_mode import ReverseMode
from addon.serving import listening
from addon.spool import BodyMissing, Spool
from addon.streaming import EventTap, Tap
from store.admission.admission import Admission
from store.errors import GatewayError, InvalidRequest, ServiceUnavailable
from store.network.client_address import client_address
from store.runtime.redaction import strip_quoted_bytes
from store.runtime.settings import Settings

_log = logging.getLogger(__name__)

_MARGIN = 1.0
"""Seconds beyond its deadlines after which a request whose client is gone is finished in any case."""

type _Hook = Callable[["Gateway", http.HTTPFlow], Awaitable[None]]


def _guarded(hook: _Hook) -> _Hook:
    """Refuse the request with the error that a hook raises."""

    @functools.wraps(hook)
    async def guarded(self: "Gateway", flow: http.HTTPFlow) -> None:
        try:
            await hook(self, flow)
        except GatewayError as error:
            self._refuse(flow, error)
        except Exception:
            _log.exception("a hook failed")
            self._refuse(flow, GatewayError())

    return guarded


class Gateway:
    """The addon. It is given an open store's admission, and closes it at the end. Raises StartupError."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._settings = settings
        self._trusted_proxies = settings.trusted_networks
        self._admission = admission
        self._settling = Settling(admission)
        ending = Ending(self._settling, admission.figures)
        self.exchanges = Exchanges(ending.end, CrossOrigin(settings.page_origins, settings.manage.origins))
        admission.figures.gauges |= {
            "in_flight": lambda: len(self.exchanges),
            "websockets": self.exchanges.open_sockets,
        }
        self.plain_path = PlainPath(self.exchanges, settings, is_wanted=settings.plain_path == "on")
        self.reverse_mode = ReverseMode(settings, self.exchanges, self.plain_path, self._settling)
        self._admitting = Admitting(admission, self.reverse_mode, ending, settings.max_spool)
        self.addons = [self.reverse_mode, self.plain_path, Cuts(admission, self.exchanges)]
        """The addons within this one. mitmproxy calls their hooks after its own."""

    def next_layer(self, asked: layer.NextLayer) -> None:
        """Put the keyed layer in charge of a connection. It opens an exchange for each request."""
        install.put_keyed_layer(asked, self.exchanges, self._settings)

    @_guarded
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Mask the credentials, validate the request, read the token; admit an upload, or have its body read first.

        A browser's question whether it may send a request is answered here.
        """
        credentials = authentication.extract(flow.request)
        exchange = self.exchanges.get(flow.id)
        if exchange is None:  # it came too late, or past the keyed layer
            raise ServiceUnavailable
        exchange.client = self._client_address(flow)
        if flow.error:  # mitmproxy is about to reject it, and calls `error` next
            exchange.refuse(InvalidRequest(validation.MALFORMED))
            return
        if annotations.is_truncated(flow):
            raise InvalidRequest("This flow holds only the first part of its request's body, and cannot be replayed.")
        if exchange.cross_origin and is_preflight(flow.request):
            validation.check_form(flow.request)
            flow.response = responses.preflight(exchange, flow.request)
            return
        validation.check(flow.request)
        exchange.validated = validation.seen(flow.request)
        validation.check_length(flow.request, self._settings.max_body)
        flow.request.stream = False  # a replay may have been streamed the first time
        is_own = validation.is_own(flow.request)
        if is_own and validation.is_probe(flow.request):
            return
        exchange.token = credentials.token()
        if not is_own and streaming.is_streamed_upload(flow.request):
            await self._admit_upload(flow, exchange)
        else:
            exchange.await_body()

    @_guarded
    async def request_spooled(self, flow: http.HTTPFlow) -> None:
        """Admit a request whose body was read first; it is streamed from its spool after that."""
        exchange = self.exchanges.get(flow.id)
        if exchange is None or exchange.spool is None or exchange.refusal:
            return  # it has ended in the meantime
        exchange.note_body()
        annotations.note_passed(flow, "request", exchange.spool.size or None)  # the flow does not hold the body
        await self._admitting.admit(flow, exchange)
        flow.request.stream = Tap(exchange.watch_request)

    @_guarded
    async def request(self, flow: http.HTTPFlow) -> None:
        """Admit a request that was read whole, or answer for the proxy itself."""
        exchange = self.exchanges.get(flow.id)
        if exchange is None or exchange.opened or exchange.refusal or flow.response:
            return  # admitted before its body, or answered already
        exchange.note_body()
        if validation.is_own(flow.request):
            flow.response = await self._answer_itself(flow.request, exchange)
        else:
            await self._admitting.admit(flow, exchange)
            exchange.watch_request(flow.request.raw_content or b"")

    @_guarded
    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Add the request ids and the upstream's duration; stream a response that is no small document."""
        exchange, response = self.exchanges.get(flow.id), flow.response
        if exchange is None or response is None or exchange.sent_at is None:
            return  # the gateway's own response
        if exchange.refusal is not None:  # it was cut just before this
            raise exchange.refusal
        if not forwarding.is_final_response(response, flow.request):
            raise ServiceUnavailable
        exchange.begin_response(response)
        shown_models.begin(exchange, flow.request, response)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._admitting.open_session(flow, exchange)
        if exchange.streamed and streaming.is_event_stream(response):
            response.headers.setdefault(responses.BUFFERING, "no")
        responses.add_request_headers(response.headers, exchange, exchange.remote_ms)
        if exchange.streamed:
            make = EventTap if streaming.can_end_between_events(response) else Tap
            exchange.tap = make(exchange.watch_response)
        response.stream = exchange.tap or False

    def response(self, flow: http.HTTPFlow) -> None:
        """Finish the exchange: the response is complete. A WebSocket begins here instead."""
        exchange = self.exchanges.get(flow.id)
        if exchange and exchange.answered_at is not None and flow.response:
            exchange.end_response(flow.response)
            if exchange.refusal is not None and not exchange.streamed:  # it was cut just before this
                flow.response = responses.error(exchange.refusal, exchange, flow.request.method)
            else:
                self._show_models(flow, flow.response, exchange)
        if flow.websocket is None:
            self.exchanges.finish(flow.id)

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Admit a message over a WebSocket that asks for a response or begins one; meter all of them."""
        if flow.websocket is None:
            return
        message, exchange = flow.websocket.messages[-1], self.exchanges.get(flow.id)
        if exchange is None or exchange.session is None:
            message.drop()  # it has ended, and nothing would account for it
        else:
            await exchange.session.handle(message)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Finish the exchange: the WebSocket is closed."""
        self.exchanges.finish(flow.id)

    def error(self, flow: http.HTTPFlow) -> None:
        """Finish the exchange: the client hung up, the upstream failed, or the request was refused before its end."""
        exchange = self.exchanges.get(flow.id)
        if exchange and exchange.refusal and flow.error:
            flow.error.msg = _reason(exchange.refusal, flow.error.msg)
        self.exchanges.finish(flow.id)

    async def client_disconnected(self, client: connection.Client) -> None:
        """Finish what mitmproxy does not: a client that leaves at the wrong moment gets neither `response` nor `error`.

        A request that waits for the store or for a connection gets `error` after that, and is finished there.
        """
        exchanges = self.exchanges.of(client.id)
        unsent = {flow_id: exchange for flow_id, exchange in exchanges.items() if exchange.sent_at is None}
        for exchange in unsent.values():
            exchange.abandon()
        if unsent:
            later = self._settings.store_timeout + self._settings.connect_timeout + _MARGIN  # sent by then, or never
            ctx.master.event_loop.call_later(later, lambda: listening.spawn(self._finish(unsent)))
        await self._finish({flow_id: exchange for flow_id, exchange in exchanges.items() if flow_id not in unsent})

    def done(self) -> None:
        """End the process along with the addon: without it mitmproxy would forward everything."""
        for flow_id in self.exchanges.all():
            self.exchanges.finish(flow_id)
        self._settling.close()
        self._admission.close()
        _log.info("stopped", extra={"requests": self.exchanges.opened, "plain_requests": self.plain_path.served})
        ctx.master.shutdown()

    def _refuse(self, flow: http.HTTPFlow, error: GatewayError) -> None:
        """Answer with an error instead of going on, without waiting for the rest of the request."""
        exchange = self.exchanges.get(flow.id) or Exchange()  # it has been finished, and logged
        exchange.refuse(error)
        if exchange.holder is not None:
            annotations.write(flow, exchange.request_id, exchange.holder)
        at_once = exchange.sent_at is not None or (
            flow.request.timestamp_end is None and streaming.has_body(flow.request)
        )
        flow.request.stream = False
        cause = exchange.refusal or error
        flow.response = responses.error(cause, exchange, flow.request.method)
        if at_once:
            # Killing the flow ends it without its body; the keyed layer then answers with the refusal.
            flow.error = mitmproxy_flow.Error(mitmproxy_flow.Error.KILLED_MESSAGE)

    async def _admit_upload(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Admit an upload and stream it, or have its body read first where the store needs it to decide."""
        token = exchange.token or ""
        try:
            await self._admitting.admit(flow, exchange)
        except BodyMissing:
            most = self._settings.max_spool
            spool.check_length(validation.length_of(flow.request), most)
            exchange.begin_spool(token, Spool(most))
        else:
            flow.request.stream = Tap(exchange.watch_request)

    def _show_models(self, flow: http.HTTPFlow, response: http.Response, exchange: Exchange) -> None:
        """Filter a list of models, or answer with an error instead: mitmproxy would pass it on after an exception."""
        try:
            shown_models.end(exchange, flow.request, response)
        except Exception as error:
            if not isinstance(error, GatewayError):
                _log.exception("a list of models could not be filtered")
            exchange.refuse(error if isinstance(error, GatewayError) else GatewayError())
            flow.response = responses.error(exchange.refusal or GatewayError(), exchange, flow.request.method)

    async def _answer_itself(self, request: http.Request, exchange: Exchange) -> http.Response:
        """Answer for the proxy. Raises StoreUnavailable; for `/token` also the refusal of the token."""
        path = validation.path_of(request)
        if path == validation.HEALTH_PATH:
            return responses.health(exchange, request.method)
        if path == validation.TOKEN_PATH:
            standing = await self._admission.standing_of(exchange.pop_token())
            return responses.token(standing, exchange, request.method)
        await self._admission.check()
        return responses.ready(exchange, request.method)

    def _client_address(self, flow: http.HTTPFlow) -> str | None:
        """Return the address that a request came from; None for a replay."""
        if flow.is_replay:
            return None
        forwarded = ",".join(flow.request.headers.get_all("x-forwarded-for")) if self._trusted_proxies else None
        return client_address(flow.client_conn.peername[0], forwarded, self._trusted_proxies)

    async def _finish(self, exchanges: Mapping[str, Exchange]) -> None:
        """Finish exchanges whose flows get no hook any more, and have mitmweb show their usage."""
        for flow_id, exchange in exchanges.items():
            flow = exchange.flow
            if flow and self.exchanges.get(flow_id) is exchange:  # otherwise it has ended; its flow may be replayed
                self.exchanges.finish(flow_id)
                await ending.show(flow)


def _reason(refusal: GatewayError, cause: str) -> str:
    """Return why a request was refused, for an operator: the client's message, and the cause that mitmproxy knows."""
    if cause in {mitmproxy_flow.Error.KILLED_MESSAGE, refusal.message}:
        return refusal.message
    return f"{refusal.message} ({strip_quoted_bytes(cause)})"
