"""Process-wide changes of mitmproxy: fixes of its bugs, and shortcuts in its hot paths."""

from collections.abc import Sequence

from addon.exchange import Exchanges
from addon.layers import replay, upstream_http1, upstream_sockets, websocket_layer
from addon.patches import authorities, connections, contexts, headers, kills, option_values
from store.runtime.settings import Settings


def install_all(exchanges: Exchanges, settings: Settings, trusted_authorities: Sequence[bytes]) -> None:
    """Install all of them, before the first connection is served."""
    connections.install()
    upstream_sockets.install(settings.ways, trusted_authorities)
    authorities.install(trusted_authorities)
    headers.install()
    option_values.install()
    contexts.install()
    kills.install()
    upstream_http1.install()
    websocket_layer.install(exchanges)
    replay.install(exchanges, settings)
