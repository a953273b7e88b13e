"""Runs several processes as one: they start together, and when one ends, or a signal comes, all end."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence

from manage_api.cli.processes import Command
from store.lifecycle import STOP_SIGNALS, SUPERVISED, ignore_stop_signals
from store.settings import Listen

_CLEAN = {0, *(-number for number in STOP_SIGNALS)}  # the latter before it could see to the signal itself
_GRACE = 10
"""Seconds that a process gets beyond its own drain before it is killed."""


async def run(
    commands: Mapping[str, Command],
    *,
    env: Mapping[str, str],
    ports: list[Listen],
    drain_timeout: float,
    on_ready: Callable[[], object],
) -> int:
    """Run `commands` (by name) until one ends or a signal comes; return the exit status for it all.

    `on_ready` is called (in a thread) once every port answers `/health`. 0: stopped by a signal, and every process
    ended cleanly. 1: anything else.
    """
    stopped = _stop_on_signals()
    processes = {name: await _start(command, env) for name, command in commands.items()}
    watchers = {asyncio.create_task(process.wait(), name=name) for name, process in processes.items()}
    announcer = asyncio.create_task(_announce(ports, on_ready))
    signalled = asyncio.create_task(stopped.wait())
    try:
        done = await _first_end(watchers | {signalled}, announcer)
        for watcher in watchers & done if not stopped.is_set() else ():
            _say(f"The {watcher.get_name()} ended with status {watcher.result()}; stopping.")
    finally:
        announcer.cancel()
        signalled.cancel()
        await _stop_all([*processes.values()], drain_timeout + _GRACE)
    ignore_stop_signals(asyncio.get_running_loop())
    clean = stopped.is_set() and all(process.returncode in _CLEAN for process in processes.values())
    return 0 if clean else 1


def _stop_on_signals() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def _start(command: Command, env: Mapping[str, str]) -> Process:
    """Start a process that stops when told to, or when this one is gone; the terminal's Ctrl-C does not reach it."""
    return await asyncio.create_subprocess_exec(*command, env={**env, SUPERVISED: "1"}, stdin=PIPE, process_group=0)


async def _first_end(ends: set[asyncio.Task[object]], announcer: asyncio.Task[None]) -> set[asyncio.Task[object]]:
    """Wait for the first end; an announcement that fails counts as one."""
    done, _ = await asyncio.wait({*ends, announcer}, return_when=asyncio.FIRST_COMPLETED)
    if done == {announcer}:
        announcer.result()
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _announce(ports: list[Listen], on_ready: Callable[[], object]) -> None:
    for listen in ports:
        while not await _answers(listen):  # noqa: ASYNC110 - nothing tells when another process listens
            await asyncio.sleep(0.05)
    await asyncio.to_thread(on_ready)


async def _answers(listen: Listen) -> bool:
    """Tell whether a port is served; a process that is about to start may refuse, reset or close a connection."""
    try:
        reader, writer = await asyncio.open_connection(*listen)
        try:
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
    except OSError:
        return False


async def _stop_all(processes: Sequence[Process], patience: float) -> None:
    """Stop the last one first: what the others need was started before them."""
    _say(f"Stopping; requests under way get up to {patience - _GRACE:g} seconds.")
    for process in reversed(processes):
        await _stop(process, patience)


async def _stop(process: Process, patience: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience)
    except TimeoutError:
        _say(f"Killed process {process.pid}, which did not end.")
        process.kill()
        await process.wait()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
