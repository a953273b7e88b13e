"""Process-wide changes of mitmproxy: fixes of its bugs, and shortcuts in its hot paths.

Each says in its docstring what it REPLACES, WHY (a bug with its upstream issue, or a gain with its figure), and when to
remove it (REMOVE WHEN). tests/benchmarks/instructions.py measures gains; what gains less than 2 % is not worth a patch.
"""

from collections.abc import Sequence

from addon.exchange import Exchanges
from addon.layers import install, spooling, upstream_http1, upstream_sockets, websocket_layer
from addon.layers.upstream_sockets import UpstreamSockets
from addon.patches import authorities, fast_paths, fixes
from addon.plain import handler
from addon.plain.path import PlainPath
from store.runtime.settings import Settings


def install_all(
    exchanges: Exchanges, plain_path: PlainPath, settings: Settings, trusted_authorities: Sequence[bytes]
) -> None:
    """Apply everything that replaces parts of mitmproxy in this process, before the first connection is served.

    `trusted_authorities` are those of the settings as they were read at the start, where a fault ends it.
    """
    fixes.install()  # sockets that stay open, requests that wait for ever
    fast_paths.install()  # one instruction in eight
    authorities.install(trusted_authorities)  # UPSTREAM_CA_FILE adds to the usual ones
    sockets = UpstreamSockets(settings.ways, trusted_authorities)
    upstream_sockets.install(sockets)  # a forward proxy, where one is set
    upstream_http1.install()  # no response is taken for that of the next request
    websocket_layer.install(exchanges)  # the gateway's own messages, and cuts that reach the other side
    spooling.install()  # bodies that were read first do not pile up before a slow upstream
    install.put_into_replays(exchanges, settings)  # replays too need a grant
    plain_path.open(sockets)
    handler.install(plain_path)  # half the instructions of a request
