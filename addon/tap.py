"""A copy of what is streamed, for those who look on."""

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Tap:
    """A stream callable of mitmproxy's: returns each piece of a body as it came, and shows it to its watchers.

    A callable that raises would hang the client; a watcher that does is shown nothing more.
    """

    __slots__ = ("watchers",)

    def __init__(self, *watchers: Callable[[bytes], None]) -> None:
        self.watchers = [*watchers]

    def __call__(self, data: bytes) -> bytes:
        """Pass on a piece. It is called with none at the body's end, but not where a connection breaks."""
        for watcher in [*self.watchers]:
            try:
                watcher(data)
            except Exception:
                _log.exception("cannot look on any more")
                self.watchers.remove(watcher)
        return data
