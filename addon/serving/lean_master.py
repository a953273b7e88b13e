"""The master of mitmproxy's with those addons alone that a gateway needs; its tools bring thirty more."""

from mitmproxy.addons import errorcheck, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master
from mitmproxy.options import Options


class LeanMaster(Master):
    """Listens, connects and speaks TLS. It keeps no flows, runs no scripts, and takes no commands."""

    def __init__(self) -> None:
        super().__init__(Options())
        self._legacy_log_events.uninstall()  # an event for each line of the log, which no addon here wants
        self.addons.add(
            proxyserver.Proxyserver(), next_layer.NextLayer(), tlsconfig.TlsConfig(), errorcheck.ErrorCheck()
        )
