"""Runs the processes of several services: starts them together, restarts each that dies, ends them together.

SIGTERM and SIGINT end them. SIGHUP replaces them, one after the other, to load new code and new settings. Each goes
once its successor serves, so that no connection is refused.

A preparation may run before them. It is a child too, so that signals have the same meaning from the first one on.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from manage_api.cli.supervision.child import Child, say
from manage_api.cli.supervision.worker_slot import Service, WorkerSlot
from store.runtime.lifecycle import ignore_stop_signals

type OnReady = Callable[[Sequence[str]], object]


async def run(
    services: Sequence[Service], *, env: Mapping[str, str], on_ready: OnReady, preparation: Sequence[str] = ()
) -> int:
    """Run services until a signal comes. Returns the exit status.

    `preparation` is a command that must end with 0 before any of them starts; empty for none. `on_ready` is called in a
    thread once all of them serve, with the addresses of the pages that they serve besides.
    0: stopped by a signal, and every process ended cleanly. 1: anything else, such as a process that never serves.
    """
    supervisor = _Supervisor(services, env, preparation)
    serving = asyncio.create_task(supervisor.serve(on_ready))
    stopped = asyncio.create_task(supervisor.stopped.wait())
    try:
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_stopped = stopped.done()
        stopped.cancel()
        serving.cancel()
        await asyncio.wait({serving})
        ended_cleanly = await supervisor.end()
        ignore_stop_signals(asyncio.get_running_loop())
    if not serving.cancelled():
        serving.result()  # raises what `on_ready` did
    return 0 if is_stopped and ended_cleanly else 1


class _Supervisor:
    def __init__(self, services: Sequence[Service], env: Mapping[str, str], preparation: Sequence[str]) -> None:
        self._services = services
        self._env = env
        self._preparation = preparation
        self._preparing: Child | None = None
        """The process of the preparation, until it has ended by itself."""
        self._slots = {
            service.name: [WorkerSlot(service, sockets, env) for sockets in service.sockets] for service in services
        }
        self.stopped, self._replace_wanted = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up, _has_terminal())

    async def serve(self, on_ready: OnReady) -> None:
        """Prepare, start all, and keep them running. Returns where that fails. Raises what `on_ready` raises."""
        if self._preparation and not await self._prepare():
            return
        firsts = [slots[0] for slots in self._slots.values()]
        others = [slot for slots in self._slots.values() for slot in slots[1:]]
        for slots in (firsts, others):  # an error that all workers of a service share is printed by its first alone
            if not all(await asyncio.gather(*(slot.start() for slot in slots))):
                return
        await asyncio.to_thread(on_ready, [slot.page for slot in firsts if slot.page])
        async with asyncio.TaskGroup() as group:
            for slot in (*firsts, *others):
                group.create_task(slot.keep())
            group.create_task(self._replace_when_wanted())

    async def end(self) -> bool:
        """End all, the last service first, as it may need the others. Returns whether all ended cleanly."""
        longest = max(slot.drain_timeout for slots in self._slots.values() for slot in slots)
        say(f"Stopping; requests under way get up to {longest:g} seconds." if longest else "Stopping.")
        ended = [await asyncio.gather(*(slot.stop() for slot in slots)) for slots in reversed(self._slots.values())]
        if self._preparing is not None:
            ended.append([await self._preparing.end(signal.SIGTERM)])
        return all(all(ends) for ends in ended)

    async def _prepare(self) -> bool:
        """Run the preparation, and return whether it succeeded."""
        try:
            self._preparing = await Child.spawn(self._preparation, self._env, [])
        except OSError as error:
            say(f"Cannot start the preparation: {error}.")
            return False
        status = await self._preparing.wait()
        self._preparing = None
        self._replace_wanted.clear()  # all processes that start from now on have the new code and the new settings
        if status:
            say(f"The preparation ended with status {status}.")
        return status == 0

    def _hang_up(self, had_terminal: bool) -> None:
        """Stop where the terminal is gone; replace the processes otherwise."""
        (self.stopped if had_terminal and not _has_terminal() else self._replace_wanted).set()

    async def _replace_when_wanted(self) -> None:
        while await self._replace_wanted.wait():
            self._replace_wanted.clear()
            say("Replacing the processes, one after the other.")
            if await self._replace_all():
                say("Replaced; the old ones end with their last requests.")

    async def _replace_all(self) -> bool:
        """Replace all processes that can be, up to the first whose replacement does not serve."""
        for service in self._services:
            if not service.is_replaceable:
                say(f"The {service.name} goes on, as it cannot be replaced while it runs: stop and start it for that.")
                continue
            for slot in self._slots[service.name]:
                if not await slot.replace():
                    return False
        return True


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
