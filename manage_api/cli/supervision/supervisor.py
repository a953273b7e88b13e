"""Runs the processes of several services as one: they start together, each that dies is replaced, and all end together.

SIGTERM and SIGINT end them. SIGHUP replaces them, one after the other: each by one that serves already, so that no
connection is refused. That is how new code and new settings come into use.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from manage_api.cli.supervision.child import say
from manage_api.cli.supervision.worker_slot import Place, Service
from store.runtime.lifecycle import ignore_stop_signals

type OnReady = Callable[[Sequence[str]], object]


async def run(services: Sequence[Service], *, env: Mapping[str, str], on_ready: OnReady) -> int:
    """Run services until a signal comes; return the exit status for it all.

    `on_ready` is called (in a thread) once all of them serve, with the addresses of the pages that they serve besides.
    0: stopped by a signal, and every process ended cleanly. 1: anything else, also where one of them does not get as
    far as to serve.
    """
    supervisor = _Supervisor(services, env)
    serving = asyncio.create_task(supervisor.serve(on_ready))
    stopped = asyncio.create_task(supervisor.stopped.wait())
    try:
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_stopped = stopped.done()
        stopped.cancel()
        serving.cancel()
        await asyncio.wait({serving})
        ended_well = await supervisor.end()
        ignore_stop_signals(asyncio.get_running_loop())
    if not serving.cancelled():
        serving.result()  # raises what `on_ready` did
    return 0 if is_stopped and ended_well else 1


class _Supervisor:
    def __init__(self, services: Sequence[Service], env: Mapping[str, str]) -> None:
        self._services = services
        self._places = {
            service.name: [Place(service, sockets, env) for sockets in service.sockets] for service in services
        }
        self.stopped, self._told_to_replace = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up, _has_terminal())

    async def serve(self, on_ready: OnReady) -> None:
        """Start all, and keep them running. Returns where one does not start, and raises what `on_ready` does."""
        firsts = [places[0] for places in self._places.values()]
        others = [place for places in self._places.values() for place in places[1:]]
        for places in (firsts, others):  # what is wrong with all of a service is told by the first of them alone
            if not all(await asyncio.gather(*(place.start() for place in places))):
                return
        await asyncio.to_thread(on_ready, [place.page for place in firsts if place.page])
        async with asyncio.TaskGroup() as group:
            for place in (*firsts, *others):
                group.create_task(place.keep())
            group.create_task(self._replace_when_told())

    async def end(self) -> bool:
        """End all, the last service first, as it may need the others. Tell whether all ended well."""
        longest = max(place.drain_timeout for places in self._places.values() for place in places)
        say(f"Stopping; requests under way get up to {longest:g} seconds." if longest else "Stopping.")
        ended = [
            await asyncio.gather(*(place.stop() for place in places)) for places in reversed(self._places.values())
        ]
        return all(all(ends) for ends in ended)

    def _hang_up(self, had_terminal: bool) -> None:
        """Stop where the terminal has gone, and replace the processes otherwise."""
        (self.stopped if had_terminal and not _has_terminal() else self._told_to_replace).set()

    async def _replace_when_told(self) -> None:
        while await self._told_to_replace.wait():
            self._told_to_replace.clear()
            say("Replacing the processes, one after the other.")
            if await self._replace_all():
                say("Replaced; the old ones end with their last requests.")

    async def _replace_all(self) -> bool:
        """Replace all that can be, up to the first for which there is no replacement."""
        for service in self._services:
            if not service.is_replaceable:
                say(f"The {service.name} goes on, as it cannot be replaced while it runs: stop and start it for that.")
                continue
            for place in self._places[service.name]:
                if not await place.replace():
                    return False
        return True


def _has_terminal() -> bool:
    """Tell whether there is a terminal, from which this process was started, and which is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
