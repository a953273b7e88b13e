"""One place for a process of a service: there is always one in it, and another one takes its place without a gap."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from manage_api.cli.supervision.child import Child, say
from manage_api.cli.supervision.ports import Sockets

START_TIMEOUT = 60.0
"""Seconds that a process gets until it serves; the first in its place gets as long as it takes, as it may migrate."""

STABLE = 10.0
"""Seconds after which a process that ends is started again at once."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds until a process that ended sooner is started again: the first at first, then twice as long each time."""


class Service(NamedTuple):
    """What is started: a command, and as many processes of it as there are sets of sockets."""

    name: str
    command: Sequence[str]
    sockets: Sequence[Sockets]
    is_replaceable: bool = True
    """Whether two of its processes can run beside each other: not where it opens a port by itself."""


class Place:
    """Runs a service's command on one set of its sockets."""

    def __init__(self, service: Service, sockets: Sockets, env: Mapping[str, str]) -> None:
        self._service = service
        self._sockets = sockets
        self._env = env
        self._child: Child | None = None
        """The one that serves, or is about to."""
        self._others: dict[Child, asyncio.Task[bool]] = {}
        """Those that have been replaced and are about to end."""
        self._change = asyncio.Lock()
        self._replaced = asyncio.Event()

    @property
    def drain_timeout(self) -> float:
        """For how many seconds its requests may go on at a stop."""
        return max((child.drain_timeout for child in (self._child, *self._others) if child), default=0.0)

    @property
    def page(self) -> str:
        """The address of a page that it serves besides, with its login; empty for none."""
        return self._child.page if self._child else ""

    async def start(self) -> bool:
        """Start the first process; return when it serves, and whether it does."""
        async with self._change:
            return await self._start(limit=None)

    async def keep(self) -> None:
        """Start another process whenever the present one ends, for ever."""
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
        """Start a process that takes the place of the present one once it serves. Tell whether it does."""
        async with self._change:
            child = await self._spawn()
            if child is None:
                return False
            try:
                serves = await child.serves(START_TIMEOUT)
            except asyncio.CancelledError:
                self._let_go(child, signal.SIGTERM)
                raise
            if not serves:
                say(f"The new {self._service.name} ended with status {await child.wait()}; the old one goes on.")
                return False
            before, self._child = self._child, child
            self._replaced.set()
        if before is not None:
            self._let_go(before, signal.SIGHUP)
        return True

    async def stop(self) -> bool:
        """Take no more connections, and end all its processes; tell whether they ended well."""
        for one in self._sockets:
            one.close()
        for child in self._others:
            child.tell(signal.SIGTERM)  # they need not wait for their clients any more
        ends = [*self._others.values()]
        if self._child is not None:
            ends.append(asyncio.create_task(self._child.end(signal.SIGTERM)))
        return all(await asyncio.gather(*ends))

    async def _end_or_replacement(self, child: Child) -> None:
        """Wait until the present process ends, or another one takes its place."""
        waiting = {asyncio.create_task(child.wait()), asyncio.create_task(self._replaced.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _restart(self, ended: Child) -> None:
        """Start a process in the place of one that has ended, unless that was replaced meanwhile."""
        async with self._change:
            if self._child is ended and await self._start(START_TIMEOUT) and self.page:
                print(f"The {self._service.name} is at {self.page} now.", flush=True)  # no line of a log: it is a login

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
        """Start a process; None, and a word to the operator, where the system has no room for it, or no program."""
        try:
            return await Child.spawn(self._service.command, self._env, [one.fileno() for one in self._sockets])
        except OSError as error:
            say(f"Cannot start the {self._service.name}: {error}.")
            return None

    def _let_go(self, child: Child, how: signal.Signals) -> None:
        ending = self._others[child] = asyncio.create_task(child.end(how))
        ending.add_done_callback(lambda _: self._others.pop(child, None))
