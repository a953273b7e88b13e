"""The mode that the gateway runs in: reverse mode over TCP, to pinned upstreams, with the options that it needs.

An addon within the gateway's. It starts the port and stops it, and refuses all other modes, connections and options.
"""

import asyncio
import contextlib
import logging
import math
from typing import TypeGuard

from mitmproxy import connection, ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.mode_specs import ReverseMode as ReverseModeSpec

from addon import patches
from addon.ending import Settling
from addon.exchange import Destination, Exchanges
from addon.plain.path import PlainPath
from addon.serving import listening, log_redaction
from store.errors import ServiceUnavailable
from store.network.addresses import plain
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

LAST_ESTIMATES = 5.0
"""Seconds that the last requests of a process get to have their usage estimated."""


class ReverseMode:
    """The addon that starts and stops the port. Raises StartupError."""

    def __init__(self, settings: Settings, exchanges: Exchanges, plain_path: PlainPath, settling: Settling) -> None:
        self._settings = settings
        self._plain_path = plain_path
        self._exchanges = exchanges
        self._settling = settling
        self._trusted_authorities = settings.trusted_authorities
        self._upstreams: dict[Destination, Upstream] = {}

    def load(self, _loader: Loader) -> None:
        """Give mitmweb its port, if it has one: its own default is the management API's. Serve clients anywhere."""
        if _is_unset("web_port"):
            ctx.options.update(web_host=self._settings.web.host, web_port=self._settings.web.port)
        if _is_unset("block_global"):
            ctx.options.update(block_global=False)  # where the port is open to them, they have a token or get a 401

    def running(self) -> None:
        """Open the port in reverse mode, if mitmproxy was not started in it, and pin the upstreams."""
        log_redaction.redact_wire_bytes()
        patches.install_all(self._exchanges, self._plain_path, self._settings, self._trusted_authorities)
        needed = {name: value for name, value in _OPTIONS.items() if name in ctx.options}
        ctx.options.update(**needed, tcp_timeout=self._tcp_timeout())
        if not ctx.options.has_changed("confdir"):
            ctx.options.update(confdir=str(self._settings.mitmproxy_dir))
        if not ctx.options.has_changed("mode"):
            listening.switch_to(ctx.master, listening.reverse_mode(self._settings))
        modes = [ProxyMode.parse(mode) for mode in ctx.options.mode]
        if not all(map(_is_served, modes)):
            _log.error("The gateway runs in reverse mode only: --mode reverse:https://…@host:port")  # ends mitmproxy
        self._upstreams = dict(self._pinned(mode) for mode in modes if _is_served(mode))
        listening.Drain(ctx.master, self._exchanges.drain, self._finish_all, self._settings.drain_timeout)
        listening.serve(ctx.master)
        lifecycle.tell_ready(self._settings.drain_timeout, page=getattr(ctx.master, "web_url", ""))

    def configure(self, updated: set[str]) -> None:
        """Refuse options that would undo a promise, once the gateway runs."""
        if not self._upstreams:
            return
        for name in updated & _OPTIONS.keys():
            if getattr(ctx.options, name) != _OPTIONS[name]:
                raise OptionsError(f"The gateway needs {name}={_OPTIONS[name]}.")

    def client_connected(self, client: connection.Client) -> None:
        """Close every connection that is not reverse mode over TCP to an HTTP upstream."""
        if not _is_served(client.proxy_mode) or client.transport_protocol != "tcp" or not self._upstreams:
            client.error = "The gateway serves HTTP in reverse mode only."
        client.peername, client.sockname = _as_ipv4(client.peername), _as_ipv4(client.sockname)

    def upstream_of(self, request: http.Request) -> Upstream | None:
        """Return the pinned upstream that a request is for; None for any other destination."""
        return self._upstreams.get(Destination(request.host, request.port, request.scheme == "https"))

    async def _finish_all(self) -> None:
        """Finish the exchanges that the end of the process cuts; wait for the last estimates, for a while."""
        for flow_id in self._exchanges.all():
            exchange = self._exchanges.finish(flow_id)
            if exchange is not None:
                exchange.refuse(ServiceUnavailable())  # it came too late, and is not sent any more
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settling.drain(), LAST_ESTIMATES)

    def _pinned(self, mode: ReverseModeSpec) -> tuple[Destination, Upstream]:
        """Return the destination of a mode, and its upstream. UPSTREAM_URL's path prefix holds for its own origin."""
        host, port = mode.address
        upstream = Upstream(mode.scheme, host, port, "")
        if upstream[:3] == self._settings.upstream[:3]:
            upstream = self._settings.upstream
        return Destination(host, port, mode.scheme == "https"), upstream

    def _tcp_timeout(self) -> int:
        """Return after how many seconds of silence mitmproxy hangs up: later than the layers, which answer."""
        return math.ceil(max(self._settings.idle_timeout, self._settings.first_byte_timeout)) + 1


def _as_ipv4(address: connection.Address) -> connection.Address:
    """Return an address in its short form: a socket for both families writes IPv4 addresses as IPv6 ones."""
    return (plain(address[0]), *address[1:])


def _is_unset(option: str) -> bool:
    """Tell whether mitmproxy has an option that is not set."""
    return option in ctx.options and not ctx.options.has_changed(option)


def _is_served(mode: ProxyMode) -> TypeGuard[ReverseModeSpec]:
    return isinstance(mode, ReverseModeSpec) and mode.scheme in {"http", "https"}
