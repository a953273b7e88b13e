"""mitmproxy's HTTP layer with deadlines: what takes too long is given up. One a client connection."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode

from addon.layers.deadlines import Deadlines

type Commands = layer.CommandGenerator[None]

_LATE = 0.01
"""Seconds after a deadline at which it is looked at: a timer may be a little early."""


class TimedLayer(HttpLayer):
    """See the module's text.

    There are timers for what ends first only, not one a request: a deadline that is put off costs an entry in a dict.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._limited: list[tuple[Deadlines[Any], Callable[[Any], Commands]]] = []
        self._timers: dict[commands.RequestWakeup, float] = {}

    def _limit[Key](self, seconds: float, give_up: Callable[[Key], Commands]) -> Deadlines[Key]:
        """Return deadlines for what may take so long; of what takes longer, `give_up` is told."""
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
            for key in deadlines.take_late():
                yield from give_up(key)
        ends = [end for deadlines, _ in self._limited if (end := deadlines.next_end()) is not None]
        if ends:
            yield from self._wake_at(min(ends))

    def _wake_at(self, end: float) -> Iterable[commands.Command]:
        if self.context.client.state is ConnectionState.CLOSED:
            return ()  # nobody waits any more, and nobody would cancel the timer
        for planned in self._timers.values():
            if planned <= end:
                return ()  # that one looks what comes next
        timer = commands.RequestWakeup(max(0.0, end - time.monotonic()) + _LATE)
        self._timers[timer] = end
        return (timer,)
