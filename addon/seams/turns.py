"""Handles what happens on a connection in one turn of the event loop, where mitmproxy takes several.

A layer that has a hook called goes on when that is done. Mostly it is done at once, but mitmproxy holds a lock
meanwhile, and so has each hook wait for another turn. Here what happens while something is handled is queued, and
handled next.
What is sent to a peer in a turn goes with one call to the system: a message's headers along with its body.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO

_tasks: set[asyncio.Task[None]] = set()
_drain_all = ConnectionHandler.drain_writers


async def _server_event(self: ConnectionHandler, event: events.Event) -> None:
    """Handle an event and all that comes of it, unless that is done already by who is handling another one."""
    queue: deque[events.Event] = vars(self).setdefault("_queue", deque())
    queue.append(event)
    if len(queue) > 1:
        return
    outgoing: dict[Connection, list[bytes]] = {}
    self.timeout_watchdog.register_activity()
    while queue:
        try:
            for command in self.layer.handle_event(queue[0]):
                _carry_out(self, command, outgoing)
        except Exception:
            self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
        finally:
            queue.popleft()
    _flush(self, outgoing)


def _carry_out(handler: ConnectionHandler, command: commands.Command, outgoing: dict[Connection, list[bytes]]) -> None:
    """Do what a layer wants, as mitmproxy does; what is to be sent is sent later."""
    if isinstance(command, commands.SendData):
        if command.connection in handler.transports:  # it is not closed already
            outgoing.setdefault(command.connection, []).append(command.data)
    elif isinstance(command, commands.StartHook):
        _spawn(handler.hook_task(command))
    elif isinstance(command, commands.OpenConnection):
        opening = _spawn(handler.open_connection(command))
        handler.transports[command.connection] = ConnectionIO(handler=opening)
    elif isinstance(command, commands.RequestWakeup):
        handler.wakeup_timer.add(_spawn(handler.wakeup(command)))
    elif isinstance(command, commands.CloseConnection):
        if command.connection in handler.transports:
            _flush(handler, outgoing)
            half_close = isinstance(command, commands.CloseTcpConnection) and command.half_close
            handler.close_connection(command.connection, half_close)
    elif isinstance(command, commands.Log):
        handler.log(command.message, command.level)
    elif not isinstance(command, commands.ConnectionCommand):
        raise TypeError(f"unexpected command: {command}")


def _flush(handler: ConnectionHandler, outgoing: dict[Connection, list[bytes]]) -> None:
    for connection, parts in outgoing.items():
        transport = handler.transports.get(connection)
        if transport is not None and transport.writer is not None and not transport.writer.is_closing():
            transport.writer.write(b"".join(parts))
    outgoing.clear()


def _spawn(coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """Run a coroutine as a task; begin at once."""
    task = asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
    if not task.done():
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    return task


async def _drain_writers(self: ConnectionHandler) -> None:
    """Wait for peers that take what is sent slower than it comes; mostly there are none."""
    if not all(_is_drained(transport.writer) for transport in self.transports.values()):
        await _drain_all(self)  # type: ignore[no-untyped-call]


def _is_drained(writer: object) -> bool:
    if writer is None:
        return True
    if not isinstance(writer, asyncio.StreamWriter):
        return False
    return not writer.is_closing() and writer.transport.get_write_buffer_size() == 0


def install() -> None:
    """Have every connection of the process handled this way; there is no hook for it."""
    ConnectionHandler.server_event = _server_event  # type: ignore[method-assign]
    ConnectionHandler.drain_writers = _drain_writers  # type: ignore[method-assign]
