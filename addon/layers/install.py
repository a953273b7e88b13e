"""Puts the keyed layer where mitmproxy would put its own HTTP layer: for client connections and for replays."""

from mitmproxy import ctx, http
from mitmproxy.addons import clientplayback
from mitmproxy.addons.clientplayback import ReplayHandler
from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.options import Options
from mitmproxy.proxy import events, layer, tunnel
from mitmproxy.proxy.layers import ServerTLSLayer, modes
from mitmproxy.proxy.mode_specs import ReverseMode

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.client_tls import ClientTls
from addon.layers.keyed_layer import KeyedLayer
from addon.layers.stream_state import Deliver
from addon.replacing import replace
from addon.serving import listening


def put_keyed_layer(asked: layer.NextLayer, exchanges: Exchanges, limits: Limits) -> None:
    """Choose the layers of a client connection: TLS towards either side where it is used, then the keyed layer.

    Replaces mitmproxy's choice if that came first. Connections in other modes are closed before this.
    """
    context = asked.context
    spec = context.client.proxy_mode
    if not isinstance(spec, ReverseMode) or not isinstance(context.layers[0], modes.ReverseProxy):
        return
    del context.layers[1:]
    stack = tunnel.LayerStack()
    if spec.scheme == "https":
        stack /= ServerTLSLayer(context)
    if starts_like_tls_record(asked.data_client()):
        stack /= ClientTls(context)
    stack /= KeyedLayer(context, exchanges, limits, _deliver_to(context.client))
    asked.layer = stack[0]


def _deliver_to(client: Client) -> Deliver:
    """Return a function that hands an event to the layers of a client's connection, while it is open."""

    def deliver(event: events.Event) -> None:
        handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
        if handler is not None:
            listening.spawn(handler.server_event(event))

    return deliver


def put_into_replays(exchanges: Exchanges, limits: Limits) -> None:
    """Have replays handled like requests of a client of the gateway.

    REPLACES: `ReplayHandler` in mitmproxy.addons.clientplayback.
    WHY: a replay bypasses the hook `next_layer`: it would go upstream without a grant. No upstream issue known.
    REMOVE WHEN: mitmproxy calls `next_layer` for replays.
    """

    class KeyedReplay(ReplayHandler):
        def __init__(self, flow: http.HTTPFlow, options: Options) -> None:
            super().__init__(flow, options)
            context = self.layer.context
            context.layers.clear()
            context.server.sni = flow.request.host  # not that of the Host header, which may have been edited
            keyed = KeyedLayer(context, exchanges, limits, self._deliver)
            keyed.connections = self.layer.connections
            self.layer = keyed

        def _deliver(self, event: events.Event) -> None:
            listening.spawn(self.server_event(event))

    replace(clientplayback, "ReplayHandler", KeyedReplay)
