"""Replays of mitmproxy's, through the keyed layer: they bypass the hook that puts it in charge of a connection."""

from mitmproxy import http
from mitmproxy.addons import clientplayback
from mitmproxy.addons.clientplayback import ReplayHandler
from mitmproxy.options import Options

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.keyed_layer import KeyedLayer


def install(exchanges: Exchanges, limits: Limits) -> None:
    """Have mitmproxy replay requests as if they came from a client of the gateway."""

    class KeyedReplay(ReplayHandler):
        def __init__(self, flow: http.HTTPFlow, options: Options) -> None:
            super().__init__(flow, options)
            context = self.layer.context
            context.layers.clear()
            context.server.sni = flow.request.host  # not that of the Host header, which may have been edited
            keyed = KeyedLayer(context, exchanges, limits)
            keyed.connections = self.layer.connections
            self.layer = keyed

    clientplayback.ReplayHandler = KeyedReplay  # type: ignore[misc]  # it has no other place to say so
