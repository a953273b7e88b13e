"""TLS with clients: a handshake that does not end in time is given up, and data after a failed one is dropped."""

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.tunnel import TunnelState

from addon.layers.timeouts import Commands

HANDSHAKE_TIMEOUT = 30
"""Seconds from the first bytes to the end of the handshake."""


class ClientTls(ClientTLSLayer):
    """mitmproxy's layer with a deadline; without one it waits for ever while a byte comes now and then."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._timer = commands.RequestWakeup(HANDSHAKE_TIMEOUT)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield self._timer
        if isinstance(event, events.Wakeup) and event.command is self._timer:
            if self.tunnel_state is TunnelState.ESTABLISHING:
                yield commands.CloseConnection(self.context.client)
        elif not (isinstance(event, events.DataReceived) and self.tunnel_state is TunnelState.CLOSED):
            yield from super()._handle_event(event)
