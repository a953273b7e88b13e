"""A worker slot: keeps one process of a service running, and replaces it without downtime."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from manage_api.cli.supervision.child import Child, say
from manage_api.cli.supervision.ports import Sockets

START_TIMEOUT = 60.0
"""Seconds that a process gets until it serves. The first one of a slot has no limit, as it may migrate the store."""

STABLE = 10.0
"""Seconds that a process must have run to be restarted without a pause when it ends."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds until a process that ended sooner is restarted: the first pause, and the longest, as it doubles each time."""


class Service(NamedTuple):
    """A command, and the sockets of its processes: one process for each set."""

    name: str
    command: Sequence[str]
    sockets: Sequence[Sockets]
    is_replaceable: bool = True
    """False where two processes cannot run side by side, because each opens a port itself."""


class WorkerSlot:
    """Keeps one process of a service running on one set of its sockets."""

    def __init__(self, service: Service, sockets: Sockets, env: Mapping[str, str]) -> None:
        self._service = service
        self._sockets = sockets
        self._env = env
        self._child: Child | None = None
        """The process that serves, or is about to."""
        self._replaced_children: dict[Child, asyncio.Task[bool]] = {}
        """Replaced processes that are about to end, each with the task that ends it."""
        self._change = asyncio.Lock()
        self._replaced = asyncio.Event()

    @property
    def drain_timeout(self) -> float:
        """The longest drain timeout of its processes, in seconds."""
        return max((child.drain_timeout for child in (self._child, *self._replaced_children) if child), default=0.0)

    @property
    def page(self) -> str:
        """The address of a page that its process serves besides, with its login; empty for none."""
        return self._child.page if self._child else ""

    async def start(self) -> bool:
        """Start the first process, and return whether it serves."""
        async with self._change:
            return await self._start(limit=None)

    async def keep(self) -> None:
        """Restart the process whenever it ends, for ever."""
        pause = 0.0
        while self._child is not None:
            child, since = self._child, time.monotonic()
            self._replaced.clear()
            await self._end_or_replacement(child)
            if child is self._child:
                status = await child.wait()
                say(f"A process of the {self._service.name} ended with status {status}; starting another one.")
                is_stable = time.monotonic() - since >= STABLE
                pause = 0.0 if is_stable else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._replaced.wait(), pause)
                await self._restart(child)

    async def replace(self) -> bool:
        """Start a new process; once it serves, end the current one. Returns whether it serves."""
        async with self._change:
            child = await self._spawn()
            if child is None:
                return False
            try:
                serves = await child.serves(START_TIMEOUT)
            except asyncio.CancelledError:
                self._end_in_background(child, signal.SIGTERM)
                raise
            if not serves:
                say(f"The new {self._service.name} ended with status {await child.wait()}; the old one goes on.")
                return False
            before, self._child = self._child, child
            self._replaced.set()
        if before is not None:
            self._end_in_background(before, signal.SIGHUP)
        return True

    async def stop(self) -> bool:
        """Close the sockets, and end all processes. Returns whether all ended cleanly."""
        for one in self._sockets:
            one.close()
        for child in self._replaced_children:
            child.send(signal.SIGTERM)  # SIGHUP lets them wait for their clients; now they must not
        ends = [*self._replaced_children.values()]
        if self._child is not None:
            ends.append(asyncio.create_task(self._child.end(signal.SIGTERM)))
        return all(await asyncio.gather(*ends))

    async def _end_or_replacement(self, child: Child) -> None:
        """Wait until the current process ends or is replaced."""
        waiting = {asyncio.create_task(child.wait()), asyncio.create_task(self._replaced.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _restart(self, ended: Child) -> None:
        """Start a process after one that has ended, unless a replacement runs by now."""
        async with self._change:
            if self._child is ended and await self._start(START_TIMEOUT) and self.page:
                print(f"The {self._service.name} is at {self.page} now.", flush=True)  # not logged: it is a login

    async def _start(self, limit: float | None) -> bool:
        child = await self._spawn()
        if child is None:
            return False
        self._child = child
        if await child.serves(limit):
            return True
        say(f"The {self._service.name} ended with status {await child.wait()} before it served.")
        return False

    async def _spawn(self) -> Child | None:
        """Start a process. Returns None, and prints the error, where the system cannot: no memory, no such program."""
        try:
            return await Child.spawn(self._service.command, self._env, [one.fileno() for one in self._sockets])
        except OSError as error:
            say(f"Cannot start the {self._service.name}: {error}.")
            return None

    def _end_in_background(self, child: Child, how: signal.Signals) -> None:
        ending = self._replaced_children[child] = asyncio.create_task(child.end(how))
        ending.add_done_callback(lambda _: self._replaced_children.pop(child, None))
