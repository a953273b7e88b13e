"""Puts the keyed layer where mitmproxy would put its own HTTP layer: for client connections and for replays."""

from mitmproxy import http
from mitmproxy.addons import clientplayback
from mitmproxy.addons.clientplayback import ReplayHandler
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.options import Options
from mitmproxy.proxy import layer, tunnel
from mitmproxy.proxy.layers import ServerTLSLayer, modes
from mitmproxy.proxy.mode_specs import ReverseMode

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.client_tls import ClientTls
from addon.layers.keyed_layer import KeyedLayer
from addon.replacing import replace


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
    stack /= KeyedLayer(context, exchanges, limits)
    asked.layer = stack[0]


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
            keyed = KeyedLayer(context, exchanges, limits)
            keyed.connections = self.layer.connections
            self.layer = keyed

    replace(clientplayback, "ReplayHandler", KeyedReplay)
