"""Puts the keyed layer where mitmproxy would put its own HTTP layer, for each client connection."""

from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, tunnel
from mitmproxy.proxy.layers import ServerTLSLayer, modes
from mitmproxy.proxy.mode_specs import ReverseMode

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.client_tls import ClientTls
from addon.layers.keyed_layer import KeyedLayer


def put_keyed_layer(asked: layer.NextLayer, exchanges: Exchanges, limits: Limits) -> None:
    """Decide what handles a client connection: TLS towards either side where it is spoken, then the keyed layer.

    Replaces mitmproxy's decision where that came first. Connections of other modes are closed before this.
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
