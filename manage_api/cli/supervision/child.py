"""A child process: its start, the wait until it serves, and its end."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from typing import Self

from store.runtime.lifecycle import READY, SOCKETS, STOP_AGAIN, STOP_SIGNALS, SUPERVISED

_CLEAN = {0, *(-number for number in STOP_SIGNALS)}  # negative: a signal ended it before it had a handler
_GRACE = 10
"""Seconds after its drain timeout until a process is killed."""

_MAX_MESSAGE = 1024
"""Bytes of the message of a process that serves, at most."""


class Child:
    """A process that ends at a signal, or when its supervisor is gone. The terminal's Ctrl-C does not reach it.

    When it serves, it reports the seconds that its requests get at a stop (`drain_timeout`), and the address of a page
    that it serves besides, with its login (`page`; empty for none).
    """

    def __init__(self, process: Process, ready: int) -> None:
        self.drain_timeout = 0.0
        self.page = ""
        self._process = process
        self._serving = asyncio.create_task(self._read_ready(ready))

    @classmethod
    async def spawn(cls, command: Sequence[str], env: Mapping[str, str], descriptors: Sequence[int]) -> Self:
        """Start a process that listens on open sockets. Raises OSError."""
        ready, reports = os.pipe()
        given = {SUPERVISED: "1", SOCKETS: ",".join(map(str, descriptors)), READY: str(reports)}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env={**env, **given}, stdin=PIPE, process_group=0, pass_fds=[*descriptors, reports]
            )
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(reports)
        return cls(process, ready)

    async def serves(self, limit: float | None) -> bool:
        """Wait until it serves, and return whether it does. Kills it where it does not within `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            if await asyncio.wait_for(self._serving, limit):
                return True
        self.send(signal.SIGKILL)  # a no-op where it has ended by itself
        return False

    async def wait(self) -> int:
        """Wait until it has ended. Returns its exit status, negative for a signal."""
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self, how: signal.Signals) -> bool:
        """End it, and return whether it ended cleanly. The signal is repeated, as an import may swallow one."""
        try:
            async with asyncio.timeout(self.drain_timeout + _GRACE):
                while not await self._ends(how):
                    pass
        except TimeoutError:
            say(f"Killed process {self._process.pid}, which did not end.")
            self.send(signal.SIGKILL)
        return await self.wait() in _CLEAN

    async def _ends(self, how: signal.Signals) -> bool:
        """Send it a signal, and return whether it ends within STOP_AGAIN seconds."""
        self.send(how)
        try:
            async with asyncio.timeout(STOP_AGAIN):
                await self.wait()
        except TimeoutError:
            return False
        return True

    async def _read_ready(self, ready: int) -> bool:
        """Wait until it reports that it serves, or has ended, and close the pipe. Returns whether it serves."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(ready, readable.set)
        try:
            await readable.wait()
            seconds, _, page = os.read(ready, _MAX_MESSAGE).decode(errors="replace").partition(" ")
        finally:
            loop.remove_reader(ready)
            os.close(ready)
        try:
            self.drain_timeout = float(seconds)
        except ValueError:  # nothing, or the message of another version
            return False
        self.page = page.strip()
        return True


def say(text: str) -> None:
    """Print a message for the operator to stderr."""
    print(text, file=sys.stderr, flush=True)
