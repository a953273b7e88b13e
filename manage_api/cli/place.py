"""One place for a process of a service: there is always one in it, and another one takes its place without a gap."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from manage_api.cli.ports import Sockets
from store.lifecycle import READY, SOCKETS, STOP_SIGNALS, SUPERVISED

_CLEAN = {0, *(-number for number in STOP_SIGNALS)}  # the latter before it could see to the signal itself
_GRACE = 10
"""Seconds that a process gets beyond its own drain before it is killed."""

_PATIENCE = 2.0
"""Seconds after which a process is told again to end."""

START_TIMEOUT = 60.0
"""Seconds that a process gets to take another one's place."""

STABLE = 10.0
"""Seconds after which a process that ends is started again at once."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds until a process that ended sooner is started again: the first at first, then twice as long each time."""


class Service(NamedTuple):
    """What is started: a command, as many processes of it as there are sets of sockets, and how long they drain."""

    name: str
    command: Sequence[str]
    sockets: Sequence[Sockets]
    drain_timeout: float


class Place:
    """Runs a service's command on one set of its sockets."""

    def __init__(self, service: Service, sockets: Sockets, env: Mapping[str, str]) -> None:
        self._service = service
        self._descriptors = [one.fileno() for one in sockets]
        self._env = env
        self._process: Process | None = None
        """The one that serves, or is about to."""
        self._others: dict[Process, asyncio.Task[bool]] = {}
        """Those that have been replaced and are about to end."""
        self._change = asyncio.Lock()
        self._replaced = asyncio.Event()

    async def start(self) -> bool:
        """Start a process; return when it serves, and whether it does."""
        async with self._change:
            self._process, serving = await self._spawn()
            if await serving:
                return True
            say(f"The {self._service.name} ended with status {await self._process.wait()} before it served.")
            return False

    async def keep(self) -> None:
        """Start another process whenever the present one ends, for ever."""
        pause = 0.0
        while self._process is not None:
            process, since = self._process, time.monotonic()
            await self._end_or_replacement(process)
            if process is self._process:
                status = process.returncode
                say(f"A process of the {self._service.name} ended with status {status}; starting another one.")
                is_stable = time.monotonic() - since >= STABLE
                pause = 0.0 if is_stable else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                await asyncio.sleep(pause)
                await self.start()

    async def replace(self) -> bool:
        """Start a process that takes the place of the present one once it serves. Tell whether it does."""
        async with self._change:
            process, serving = await self._spawn()
            try:
                serves = await _in_time(serving)
            except asyncio.CancelledError:
                self._let_go(process, signal.SIGTERM)
                raise
            if not serves:
                _signal(process, signal.SIGKILL)
                say(f"The new {self._service.name} ended with status {await process.wait()}; the old one goes on.")
                return False
            before, self._process = self._process, process
            self._replaced.set()
        if before is not None:
            self._let_go(before, signal.SIGHUP)
        return True

    async def stop(self) -> bool:
        """End all its processes; tell whether they ended well."""
        for process in self._others:
            _signal(process, signal.SIGTERM)  # they need not wait for their clients any more
        ends = [*self._others.values()]
        if self._process is not None:
            ends.append(asyncio.create_task(self._end(self._process, signal.SIGTERM)))
        return all(await asyncio.gather(*ends))

    async def _end_or_replacement(self, process: Process) -> None:
        """Wait until the present process ends, or another one takes its place."""
        self._replaced.clear()
        waiting = {asyncio.create_task(process.wait()), asyncio.create_task(self._replaced.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _spawn(self) -> tuple[Process, asyncio.Task[bool]]:
        """Start a process that stops when told to, or when this one is gone; the terminal's Ctrl-C does not reach it.

        Returns it, and whether it will serve.
        """
        told, tells = os.pipe()
        given = {SUPERVISED: "1", SOCKETS: ",".join(map(str, self._descriptors)), READY: str(tells)}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._service.command,
                env={**self._env, **given},
                stdin=PIPE,
                process_group=0,
                pass_fds=[*self._descriptors, tells],
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tells)
        return process, asyncio.create_task(_is_told(told))

    def _let_go(self, process: Process, how: signal.Signals) -> None:
        self._others[process] = asyncio.create_task(self._end(process, how))

    async def _end(self, process: Process, how: signal.Signals) -> bool:
        """End a process; tell whether it ended well. It is told again, as an import may swallow a signal."""
        try:
            async with asyncio.timeout(self._service.drain_timeout + _GRACE):
                while not await _ends(process, how):
                    pass
        except TimeoutError:
            say(f"Killed process {process.pid}, which did not end.")
            process.kill()
            await process.wait()
        self._others.pop(process, None)
        return process.returncode in _CLEAN


async def _is_told(descriptor: int) -> bool:
    """Wait until something is written to a pipe, or its other end is closed, which is False. Close it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return bool(os.read(descriptor, 1))
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _in_time(serving: asyncio.Task[bool]) -> bool:
    try:
        return await asyncio.wait_for(serving, START_TIMEOUT)
    except TimeoutError:
        return False


async def _ends(process: Process, how: signal.Signals) -> bool:
    """Tell a process to end; return whether it does, soon."""
    _signal(process, how)
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        return False
    return True


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def say(text: str) -> None:
    """Tell an operator."""
    print(text, file=sys.stderr, flush=True)
