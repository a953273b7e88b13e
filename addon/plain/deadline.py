"""One deadline at a time for a connection.

Putting it off costs an assignment: the timer rings early, and is set again.
"""

import asyncio
from collections.abc import Callable


class Deadline:
    """The time after which a connection does something else, in seconds of the event loop's clock."""

    __slots__ = ("_end", "_late", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._end: float | None = None
        self._late: Callable[[], None] = _nothing
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float, late: Callable[[], None]) -> None:
        """Call `late` after some seconds, in place of what was set before."""
        self._end, self._late = self._loop.time() + seconds, late
        if self._timer is None:
            self._timer = self._loop.call_at(self._end, self._ring)
        elif self._timer.when() > self._end:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._end, self._ring)

    def start_once(self, seconds: float, late: Callable[[], None]) -> None:
        """Do as `start`, unless the same call is set already."""
        if self._end is None or self._late != late:
            self.start(seconds, late)

    def put_off(self, seconds: float) -> None:
        """Move the deadline that is set, if there is one, to some seconds from now."""
        if self._end is not None:
            self._end = self._loop.time() + seconds

    def stop(self) -> None:
        """Call nothing. The timer stays, for the next deadline."""
        self._end = None

    def close(self) -> None:
        """Call nothing, and keep no timer."""
        self._end = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._end is None:
            return
        if self._loop.time() < self._end:
            self._timer = self._loop.call_at(self._end, self._ring)
            return
        self._end = None
        self._late()


def _nothing() -> None:
    pass
