"""mitmproxy's HTTP layer, answering in JSON and in time. There is one for each client connection.

A layer turns events (data came, a hook ended) into commands (send this, open that). This one adds:

- A failure that mitmproxy answers with an HTML page, or a bare close, is answered in JSON, and the connection stays
  usable where HTTP allows it.
- An upstream that does not connect, does not respond or does not go on is given up after a time; so is a client that
  does not go on with its request.
- A body that turns out to be too large, or malformed, is refused while it comes.
- Lingering close: after an early response the rest of the request is drained for a while, so that the client can read
  the response.
- A request that is cut from outside (CutRequested) is refused; a response that has begun ends with a last event, or
  breaks off.
- Data that comes faster than it is taken is not read (backpressure).

Its parts: request_side (events to the hooks), spool_side (bodies that are read before their requests are admitted),
response_side (events to the wire), upstream_side and client_side (the connections). They share the states of the
streams (stream_state).
"""

import logging

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpStream

from addon.layers.client_side import ClientSide
from addon.layers.request_side import RequestSide
from addon.layers.response_side import ResponseSide
from addon.layers.stream_state import CutRequested
from addon.layers.timeouts import Commands

_log = logging.getLogger(__name__)


class AnsweringLayer(RequestSide, ResponseSide, ClientSide):
    """mitmproxy's HTTP layer, with JSON responses to failures, deadlines and backpressure."""

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.ConnectionEvent) and not self._is_awaited(event.connection):
            return
        try:
            if isinstance(event, events.Start):
                self._put_codec()
                yield from self._wait_for(self._unused, self.context.client)
            handled = self._cut(event) if isinstance(event, CutRequested) else super()._handle_event(event)
            for command in handled:
                yield command
                if isinstance(command, commands.CloseTcpConnection) and command.connection is self.context.client:
                    yield from self._linger()
            yield from self._watch_client()
            if self._held_back:
                yield from self._send_on()
        except Exception:
            # mitmproxy would log that and leave the client hanging.
            _log.exception("a connection is cut after a fault")
            yield commands.CloseConnection(self.context.client)

    def _is_awaited(self, connection: Connection) -> bool:
        if connection is self.context.client:
            return not self._lingers  # after the response, what the client still sends is dropped
        return connection in self.connections  # another one may have replaced it

    def event_to_child(self, child: layer.Layer | HttpStream, event: events.Event) -> Commands:
        """Pass an event on: to a stream (towards the hooks) or to a codec (towards the wire)."""
        if isinstance(child, HttpStream):
            return self._event_to_stream(child, event)
        return self._event_to_codec(child, event)
