"""The plain path of a process: the parts that its connections share. As an addon it watches mitmproxy's options."""

from mitmproxy import ctx

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.upstream_sockets import UpstreamSockets
from addon.patches.dispatch import Dispatcher
from addon.plain.pool import Pool

_OPTIONS_OF_THE_LAYERS = ("body_size_limit", "stream_large_bodies", "store_streamed_bodies")
"""mitmproxy's options for bodies, which only its layers know."""


class PlainPath:
    """The plain path. `is_on` is False while all requests are for the layers."""

    def __init__(self, exchanges: Exchanges, limits: Limits, *, is_wanted: bool) -> None:
        self.exchanges = exchanges
        self.limits = limits
        self.is_on = False
        self.served = 0
        """Requests that have begun here."""
        self._is_wanted = is_wanted
        self._was_opened = False

    def open(self, sockets: UpstreamSockets) -> None:
        """Begin to serve, once the hooks can be called."""
        dispatcher = ctx.master.addons
        if not isinstance(dispatcher, Dispatcher):
            raise TypeError("the plain path calls the hooks through the gateway's dispatcher")
        self.call_hook = dispatcher.call
        self.pool = Pool(ctx.options, self.call_hook, sockets, self.limits.connect_timeout)
        self._was_opened = True
        self.is_on = self._may_be_on()

    def configure(self, _updated: set[str]) -> None:
        """Leave everything to the layers while an option is set that only they know."""
        self.is_on = self._was_opened and self._may_be_on()

    def done(self) -> None:
        """Keep no connection open."""
        if self._was_opened:
            self.pool.close()

    def _may_be_on(self) -> bool:
        is_for_layers = any(getattr(ctx.options, name, None) for name in _OPTIONS_OF_THE_LAYERS)
        return self._is_wanted and not is_for_layers
