"""The gateway's hooks, in the order in which a request meets them. Each step lives in a file of its own.

A hook that fails must not let anything through: mitmproxy would log the exception and forward the flow. So each is
guarded, and what the guard catches becomes an answer; and a flow without a grant gets no connection.
"""

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TypeGuard

from mitmproxy import connection, ctx, http
from mitmproxy import flow as mitmproxy_flow
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy import layer
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode

from addon import (
    access_log,
    annotations,
    authentication,
    forwarding,
    late_usage,
    responses,
    streaming,
    validation,
)
from addon.exchange import Destination, Exchange, Exchanges, Grant
from addon.layers import next_layer, replay, upstream_http1, upstream_sockets, websocket_layer
from addon.layers.client_http1 import MALFORMED
from addon.patches import authorities, connections, contexts, headers, kills, option_values
from addon.protocol.endpoints import endpoint_of
from addon.protocol.reserved_endpoints import is_reserved
from addon.serving import listening, log_redaction
from addon.settling import Settling
from addon.tap import Tap
from addon.websocket_session import Account, Turn, WebSocketSession
from store.admission.admission import Admission
from store.errors import DestinationRefused, GatewayError, InvalidRequest, ServiceUnavailable, TokenRefused
from store.ledger.ledger import Opened, Opening, Settlement
from store.network.addresses import plain
from store.network.client_address import client_address
from store.runtime import lifecycle
from store.runtime.settings import Settings, Upstream

_log = logging.getLogger(__name__)

_OPTIONS = {
    "connection_strategy": "lazy",  # a refused request opens no connection
    "keep_host_header": False,
    "onboarding": False,
    "proxy_debug": False,  # it logs what is on the wire, keys included
    "rawtcp": False,
    "validate_inbound_headers": True,
}

MAX_PATH = 2048
"""Characters of a path that the ledger keeps."""

LAST_COUNTS = 5.0
"""Seconds that the last requests of a process get to be counted offline."""

type _Hook = Callable[["Gateway", http.HTTPFlow], Awaitable[None]]


def _guarded(hook: _Hook) -> _Hook:
    """Turn whatever a hook raises into the answer to its request."""

    @functools.wraps(hook)
    async def guarded(self: "Gateway", flow: http.HTTPFlow) -> None:
        try:
            await hook(self, flow)
        except GatewayError as error:
            self.refuse(flow, error)
        except Exception:
            _log.exception("a hook failed")
            self.refuse(flow, GatewayError())

    return guarded


class Gateway:
    """The addon. It is given an open store's admission, and closes it at the end. Raises StartupError."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission
        self._settling = Settling(admission)
        self._exchanges = Exchanges()
        self._upstreams: dict[Destination, Upstream] = {}
        self._trusted_proxies = settings.trusted_networks
        self._trusted_authorities = settings.trusted_authorities

    def load(self, _loader: Loader) -> None:
        """Give mitmweb its port, if it has one: its own default is the management API's. Serve clients anywhere."""
        if _is_open("web_port"):
            ctx.options.update(web_host=self._settings.web.host, web_port=self._settings.web.port)
        if _is_open("block_global"):
            ctx.options.update(block_global=False)  # where the port is open to them, they have a token or get a 401

    def running(self) -> None:
        """Open the port in reverse mode, if mitmproxy was not started in it, and fix where requests may go."""
        log_redaction.redact_wire_bytes()
        connections.install()
        upstream_sockets.install(self._settings.ways, self._trusted_authorities)
        authorities.install(self._trusted_authorities)
        headers.install()
        option_values.install()
        contexts.install()
        kills.install()
        upstream_http1.install()
        websocket_layer.install(self._exchanges)
        replay.install(self._exchanges, self._settings)
        needed = {name: value for name, value in _OPTIONS.items() if name in ctx.options}
        ctx.options.update(**needed, tcp_timeout=self._last_resort())
        if not ctx.options.has_changed("confdir"):
            ctx.options.update(confdir=str(self._settings.mitmproxy_dir))
        if not ctx.options.has_changed("mode"):
            listening.switch_to(ctx.master, listening.reverse_mode(self._settings))
        modes = [ProxyMode.parse(mode) for mode in ctx.options.mode]
        if not all(map(_is_served, modes)):
            _log.error("The gateway runs in reverse mode only: --mode reverse:https://…@host:port")  # ends mitmproxy
        self._upstreams = dict(self._pinned(mode) for mode in modes if _is_served(mode))
        listening.Drain(ctx.master, self._exchanges.drain, self._account, self._settings.drain_timeout)
        listening.serve(ctx.master)
        lifecycle.tell_ready(self._settings.drain_timeout, page=getattr(ctx.master, "web_url", ""))

    def configure(self, updated: set[str]) -> None:
        """Refuse options that would undo a promise, once the gateway runs."""
        if not self._upstreams:
            return
        for name in updated & _OPTIONS.keys():
            if getattr(ctx.options, name) != _OPTIONS[name]:
                raise OptionsError(f"The gateway needs {name}={_OPTIONS[name]}.")

    def done(self) -> None:
        """End the process along with the addon: without it mitmproxy would forward everything."""
        self._end_all(self._exchanges.all())
        self._settling.close()
        self._admission.close()
        ctx.master.shutdown()

    def client_connected(self, client: connection.Client) -> None:
        """Close every connection that is not reverse mode over TCP to an HTTP upstream."""
        if not _is_served(client.proxy_mode) or client.transport_protocol != "tcp" or not self._upstreams:
            client.error = "The gateway serves HTTP in reverse mode only."
        client.peername, client.sockname = _shown(client.peername), _shown(client.sockname)

    def next_layer(self, asked: layer.NextLayer) -> None:
        """Put the keyed layer in charge."""
        next_layer.put_keyed_layer(asked, self._exchanges, self._settings)

    def client_disconnected(self, client: connection.Client) -> None:
        """End what mitmproxy does not: a client that leaves at the wrong moment gets neither `response` nor `error`.

        What waits for the store or for a connection gets `error` after that, and is accounted for there.
        """
        exchanges = self._exchanges.of(client.id)
        unsent = {flow_id: exchange for flow_id, exchange in exchanges.items() if not exchange.sent}
        self._end_all([flow_id for flow_id in exchanges if flow_id not in unsent])
        for exchange in unsent.values():
            exchange.refusal = exchange.refusal or ServiceUnavailable()  # nobody waits for it: it must not be sent
        if unsent:
            ctx.master.event_loop.call_later(self._longest_wait(), self._end_all, list(unsent))

    @_guarded
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Mask the credentials, check the edge, read the token; admit what will be streamed."""
        credentials = authentication.take(flow.request)
        self._end_all([flow.id])  # replayed again before its last replay has ended
        exchange = self._exchanges.open(flow.id, "" if flow.is_replay else flow.client_conn.id)
        exchange.client = self._client(flow)
        if flow.error:  # mitmproxy is about to reject it, and calls `error` next
            exchange.refusal = InvalidRequest(MALFORMED)
            return
        if annotations.is_truncated(flow):
            raise InvalidRequest("This flow holds only the first part of its request's body, and cannot be replayed.")
        validation.check(flow.request)
        exchange.checked = validation.seen(flow.request)
        validation.check_length(flow.request, self._settings.max_body)
        flow.request.stream = False  # a replay may have been streamed the first time
        if validation.is_own(flow.request):
            return
        exchange.token = credentials.token()
        if streaming.is_streamed_upload(flow.request):
            await self._admit(flow, exchange)
            flow.request.stream = Tap(exchange.watch_request)

    @_guarded
    async def request(self, flow: http.HTTPFlow) -> None:
        """Admit a request that was read whole, or answer for the proxy itself."""
        exchange = self._exchanges.get(flow.id)
        if exchange is None or exchange.grant or flow.response:
            return  # streamed, and admitted before its body; or answered already
        if validation.is_own(flow.request):
            flow.response = await self._answer_itself(flow.request, exchange.request_id)
        else:
            await self._admit(flow, exchange)
            exchange.watch_request(flow.request.raw_content or b"")

    @_guarded
    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Name the request in the upstream's answer, tell its duration, and stream what is no small document."""
        exchange = self._exchanges.get(flow.id)
        response = flow.response
        if exchange is None or response is None or not exchange.sent:
            return  # the gateway's own answer
        if not forwarding.is_answer(response, flow.request):
            raise ServiceUnavailable
        exchange.begin_answer(response)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            exchange.session = self._session(flow, exchange)
        responses.add_request_ids(response.headers, exchange.request_id)
        response.headers[responses.REMOTE_DURATION] = str(exchange.remote_ms)
        if streaming.is_event_stream(response):
            response.headers.setdefault(responses.BUFFERING, "no")
        response.stream = Tap(exchange.watch_answer) if exchange.streamed else False

    def response(self, flow: http.HTTPFlow) -> None:
        """End the exchange: the answer is complete. A WebSocket begins here instead."""
        exchange = self._exchanges.get(flow.id)
        if exchange and exchange.answered and flow.response:
            exchange.end_answer(flow.response)
        if flow.websocket is None:
            self._end(flow)

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Admit what is said over a WebSocket and asks for a response, or begins one; read along."""
        if flow.websocket is None:
            return
        message, exchange = flow.websocket.messages[-1], self._exchanges.get(flow.id)
        if exchange is None or exchange.session is None:
            message.drop()  # it has ended, and nothing would account for it
        else:
            await exchange.session.take(message)

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """End the exchange: the WebSocket is closed."""
        self._end(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        """End the exchange: the client hung up, the upstream failed, or the request was refused before its end."""
        exchange = self._exchanges.get(flow.id)
        if exchange and exchange.refusal and flow.error:
            flow.error.msg = _reason(exchange.refusal, flow.error.msg)
        self._end(flow)

    def refuse(self, flow: http.HTTPFlow, error: GatewayError) -> None:
        """Answer with an error instead of going on; what is still to come of the request is not waited for."""
        exchange = self._exchanges.get(flow.id) or self._exchanges.open(flow.id, flow.client_conn.id)
        exchange.refusal, exchange.grant, exchange.token = error, None, None
        if isinstance(error, TokenRefused) and error.refused:
            exchange.holder = error.refused.holder
            annotations.write(flow, exchange.request_id, exchange.holder)
        at_once = exchange.sent or (flow.request.timestamp_end is None and streaming.has_body(flow.request))
        flow.request.stream = False
        flow.response = responses.error(error, exchange.request_id, flow.request.method)
        if at_once:
            # Killing the flow ends it without its body; the keyed layer then answers with the refusal.
            flow.error = mitmproxy_flow.Error(mitmproxy_flow.Error.KILLED_MESSAGE)

    async def _answer_itself(self, request: http.Request, request_id: str) -> http.Response:
        """Answer for the proxy. Raises StoreUnavailable where it is asked whether the store answers."""
        if validation.path_of(request) == validation.HEALTH_PATH:
            return responses.health(request_id, request.method)
        await self._admission.check()
        return responses.ready(request_id, request.method)

    async def _admit(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """Have the store decide and count, keep the grant, and begin to meter. Raises what refuses the request."""
        destination = Destination(flow.request.host, flow.request.port, flow.request.scheme == "https")
        upstream = self._upstreams.get(destination)
        if upstream is None:
            raise DestinationRefused
        token, exchange.token = exchange.token or "", None  # of no use any more, whatever the answer
        opening = _opening(flow.request, exchange)
        if flow.is_replay and token == authentication.MASK:
            holder = annotations.read(flow)
            admitted = await self._admission.admit_again(holder.token_id if holder else "", opening)
        else:
            admitted = await self._admission.admit(token, opening)
        if self._exchanges.get(flow.id) is not exchange:  # it was ended meanwhile, and would be settled by nobody
            self._admission.settle(Settlement(admitted.opened))
            raise ServiceUnavailable
        exchange.grant, exchange.upstream = Grant(destination, admitted.api_key, upstream.prefix), upstream
        exchange.holder = admitted.holder
        exchange.begin_metering(admitted.opened, flow.request)
        annotations.write(flow, exchange.request_id, admitted.holder)

    def _session(self, flow: http.HTTPFlow, exchange: Exchange) -> WebSocketSession | None:
        if exchange.opened is None or exchange.meter is None:
            return None
        return WebSocketSession(
            Account(exchange.opened.token_id, _opening(flow.request, exchange)),
            exchange.meter,
            self._admission,
            functools.partial(self._end_turn, flow, exchange),
            functools.partial(access_log.write_refused_turn, flow, exchange),
        )

    def _end_turn(self, flow: http.HTTPFlow, exchange: Exchange, turn: Turn, opened: Opened) -> None:
        """End a response over a WebSocket that has a row of its own."""
        tell = late_usage.teller(flow, exchange.request_id, annotations.add_used)
        annotations.add_used(flow, self._settling.settle_turn(exchange, turn, opened, tell))
        access_log.write_turn(flow, exchange, turn, opened)

    def _client(self, flow: http.HTTPFlow) -> str | None:
        if flow.is_replay:
            return None
        forwarded = ",".join(flow.request.headers.get_all("x-forwarded-for")) if self._trusted_proxies else None
        return client_address(flow.client_conn.peername[0], forwarded, self._trusted_proxies)

    def _longest_wait(self) -> float:
        """Return the seconds after which a request has gone upstream, or never will."""
        return self._settings.store_timeout + self._settings.connect_timeout + 1

    def _last_resort(self) -> int:
        """Return after how many seconds of silence mitmproxy hangs up: later than the keyed layer, which answers."""
        return math.ceil(max(self._settings.idle_timeout, self._settings.first_byte_timeout)) + 1

    def _end(self, flow: http.HTTPFlow) -> None:
        exchange = self._exchanges.close(flow.id)
        if exchange is not None:
            note = annotations.note_used if flow.websocket is None else annotations.add_used
            note(flow, self._settling.settle(exchange, late_usage.teller(flow, exchange.request_id, note)))
            access_log.write(flow, exchange)

    def _end_all(self, flow_ids: Sequence[str]) -> None:
        """End exchanges whose flows get no hook any more."""
        for flow_id in flow_ids:
            exchange = self._exchanges.close(flow_id)
            if exchange is not None:
                self._settling.settle(exchange)

    async def _account(self) -> None:
        """Account for what is cut by the end of the process, and wait for what is counted offline, for a while."""
        for flow_id in self._exchanges.all():
            exchange = self._exchanges.get(flow_id)
            self._end_all([flow_id])
            if exchange is not None and not exchange.refusal:
                exchange.refusal = ServiceUnavailable()  # it came too late, and is not sent any more
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settling.drain(), LAST_COUNTS)

    def _pinned(self, mode: ReverseMode) -> tuple[Destination, Upstream]:
        """Return where a mode leads, twice. UPSTREAM_URL's path prefix holds for UPSTREAM_URL's own origin."""
        host, port = mode.address
        upstream = Upstream(mode.scheme, host, port, "")
        if upstream[:3] == self._settings.upstream[:3]:
            upstream = self._settings.upstream
        return Destination(host, port, mode.scheme == "https"), upstream


def _opening(request: http.Request, exchange: Exchange) -> Opening:
    path = validation.path_of(request)
    reserved, text = is_reserved(request.method, path), path.decode("ascii")  # the edge lets nothing else in
    return Opening(
        exchange.request_id, request.method, text[:MAX_PATH], endpoint_of(text), reserved, client=exchange.client
    )


def _reason(refusal: GatewayError, cause: str) -> str:
    """Say to an operator why a request was refused: what its client is told, and what mitmproxy knows besides."""
    if cause in {mitmproxy_flow.Error.KILLED_MESSAGE, refusal.message}:
        return refusal.message
    return f"{refusal.message} ({log_redaction.without_bytes(cause)})"


def _shown(address: connection.Address) -> connection.Address:
    """Return an address as it is shown: a socket for both families tells IPv4 addresses as IPv6 ones."""
    return (plain(address[0]), *address[1:])


def _is_open(option: str) -> bool:
    """Tell whether mitmproxy has an option, and nobody has set it."""
    return option in ctx.options and not ctx.options.has_changed(option)


def _is_served(mode: ProxyMode) -> TypeGuard[ReverseMode]:
    return isinstance(mode, ReverseMode) and mode.scheme in {"http", "https"}
