"""A process that is started here: whether it serves, and how it is ended."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Self

from store.runtime.lifecycle import READY, SOCKETS, STOP_SIGNALS, SUPERVISED

_CLEAN = {0, *(-number for number in STOP_SIGNALS)}  # the latter before it could see to the signal itself
_GRACE = 10
"""Seconds that a process gets beyond its own drain before it is killed."""

_PATIENCE = 2.0
"""Seconds after which a process is told again to end."""

_LONGEST = 1024
"""Bytes that a process says when it serves, at most."""


class Child:
    """A process that stops when told to, or when this one is gone; the terminal's Ctrl-C does not reach it.

    When it serves it says for how many seconds its requests may go on once it is told to end (`drain_timeout`), and the
    address of a page that it serves besides, with its login (`page`; empty for none).
    """

    def __init__(self, process: Process, told: int) -> None:
        self.drain_timeout = 0.0
        self.page = ""
        self._process = process
        self._serving = asyncio.create_task(self._read_that_it_serves(told))

    @classmethod
    async def spawn(cls, command: Sequence[str], env: Mapping[str, str], descriptors: Sequence[int]) -> Self:
        """Start a process, which listens on open sockets. Raises OSError."""
        told, tells = os.pipe()
        given = {SUPERVISED: "1", SOCKETS: ",".join(map(str, descriptors)), READY: str(tells)}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env={**env, **given}, stdin=PIPE, process_group=0, pass_fds=[*descriptors, tells]
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tells)
        return cls(process, told)

    async def serves(self, limit: float | None) -> bool:
        """Wait until it serves; tell whether it does. One that does not, or not in `limit` seconds, is killed."""
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(self._serving, limit):
                return True
        self.tell(signal.SIGKILL)  # unless it has ended by itself
        return False

    async def wait(self) -> int:
        """Wait until it has ended; return its exit status, below zero for a signal."""
        return await self._process.wait()

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self, how: signal.Signals) -> bool:
        """End it; tell whether it ended well. It is told again, as an import may swallow a signal."""
        try:
            async with asyncio.timeout(self.drain_timeout + _GRACE):
                while not await self._ends(how):
                    pass
        except TimeoutError:
            say(f"Killed process {self._process.pid}, which did not end.")
            self.tell(signal.SIGKILL)
        return await self.wait() in _CLEAN

    async def _ends(self, how: signal.Signals) -> bool:
        """Tell it to end; return whether it does, soon."""
        self.tell(how)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.wait()
        except TimeoutError:
            return False
        return True

    async def _read_that_it_serves(self, told: int) -> bool:
        """Wait until it says that it serves, or is gone. Close what it says it on."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(told, readable.set)
        try:
            await readable.wait()
            seconds, _, page = os.read(told, _LONGEST).decode(errors="replace").partition(" ")
        finally:
            loop.remove_reader(told)
            os.close(told)
        try:
            self.drain_timeout = float(seconds)
        except ValueError:  # nothing, or what another version says
            return False
        self.page = page.strip()
        return True


def say(text: str) -> None:
    """Tell an operator."""
    print(text, file=sys.stderr, flush=True)
