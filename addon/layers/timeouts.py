"""mitmproxy's HTTP layer with deadlines: what takes too long is given up."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode

type Commands = layer.CommandGenerator[None]

_LATE = 0.01
"""Seconds from a deadline to its timer: a timer may be a little early."""


class Deadlines[Key]:
    """Deadlines of one kind, by key: each ends the same number of seconds (of the monotonic clock) after its start."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[Key, float] = {}

    def start(self, key: Key, since: float | None = None) -> float:
        """Set the deadline of a key, from now or from `since` on, in place of an earlier one. Returns when it ends."""
        end = self._ends[key] = (time.monotonic() if since is None else since) + self._seconds
        return end

    def stop(self, key: Key) -> None:
        """Remove the deadline of a key, if it has one."""
        self._ends.pop(key, None)

    def pop_late(self) -> list[Key]:
        """Remove the deadlines that have passed, and return their keys."""
        now = time.monotonic()
        late = [key for key, end in self._ends.items() if end <= now]
        for key in late:
            del self._ends[key]
        return late

    def __contains__(self, key: Key) -> bool:
        return key in self._ends

    def next_end(self) -> float | None:
        """Return when the first deadline ends, if there is any."""
        return min(self._ends.values(), default=None)


class TimedLayer(HttpLayer):
    """mitmproxy's HTTP layer with deadlines; there is one for each client connection.

    Timers exist for the first deadlines to end only, not for each request: putting one off costs an entry in a dict.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._limited: list[tuple[Deadlines[Any], Callable[[Any], Commands]]] = []
        self._timers: dict[commands.RequestWakeup, float] = {}

    def _limit[Key](self, seconds: float, give_up: Callable[[Key], Commands]) -> Deadlines[Key]:
        """Return deadlines of so many seconds; `give_up` is called with each key whose deadline passes."""
        deadlines = Deadlines[Key](seconds)
        self._limited.append((deadlines, give_up))
        return deadlines

    def _wait_for[Key](
        self, deadlines: Deadlines[Key], key: Key, since: float | None = None
    ) -> Iterable[commands.Command]:
        return self._wake_at(deadlines.start(key, since))

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup) and event.command in self._timers:
            del self._timers[event.command]
            return self._give_up_late()
        handled: Commands = super()._handle_event(event)
        return handled

    def _give_up_late(self) -> Commands:
        for deadlines, give_up in self._limited:
            for key in deadlines.pop_late():
                yield from give_up(key)
        ends = [end for deadlines, _ in self._limited if (end := deadlines.next_end()) is not None]
        if ends:
            yield from self._wake_at(min(ends))

    def _wake_at(self, end: float) -> Iterable[commands.Command]:
        if self.context.client.state is ConnectionState.CLOSED:
            return ()  # mitmproxy has cancelled its timers, and would not cancel a new one
        for planned in self._timers.values():
            if planned <= end:
                return ()  # that timer sets the next one
        timer = commands.RequestWakeup(max(0.0, end - time.monotonic()) + _LATE)
        self._timers[timer] = end
        return (timer,)
