"""Bodies that are sent from a spool: makes the streams that do so, and holds them back at an HTTP/2 window."""

from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import Http2Client, HttpStream

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.spooling import SpoolingStream
from addon.layers.stream_state import Deliver, StreamsLayer
from addon.layers.timeouts import Commands


class SpoolSide(StreamsLayer):
    """The part of AnsweringLayer that lets bodies be read whole before their requests are admitted.

    A stream sends the next piece at a wakeup, which comes once the socket takes more. Over HTTP/2, mitmproxy keeps what
    the upstream's window does not take yet; so the wakeup is held back until it keeps nothing.
    """

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits, deliver: Deliver) -> None:
        super().__init__(context, exchanges, limits, deliver)
        self._held_back: dict[int, events.Wakeup] = {}

    def make_stream(self, stream_id: int) -> Commands:
        """Make the stream of a request."""
        stream = self.streams[stream_id] = SpoolingStream(self.context.fork(), stream_id, self._exchanges)
        yield from self.event_to_child(stream, events.Start())

    def _is_held_back(self, stream: HttpStream, event: events.Event) -> bool:
        """Keep a wakeup for later if the upstream's window is used up."""
        if not isinstance(event, events.Wakeup) or not self._is_congested(stream):
            return False
        self._held_back[stream.stream_id] = event
        return True

    def _send_on(self) -> Commands:
        """Wake the streams whose upstreams have taken everything."""
        for stream_id, wakeup in [*self._held_back.items()]:
            stream = self.streams.get(stream_id)
            if stream is None or not self._is_congested(stream):
                del self._held_back[stream_id]
                if stream is not None:
                    yield from self.event_to_child(stream, wakeup)

    def _is_congested(self, stream: HttpStream) -> bool:
        """Tell whether data waits for the window of an upstream's HTTP/2 connection, or for its turn to be a stream."""
        upstream = self.connections.get(stream.flow.server_conn)
        codec = upstream.context.layers[-1] if upstream is not None else None
        if not isinstance(codec, Http2Client):
            return False
        number = codec.our_stream_id.get(stream.stream_id)
        return stream.stream_id in codec.stream_queue or number in codec.h2_conn.stream_buffers
