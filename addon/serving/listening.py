"""Opens the proxy's port when the addons are ready, and closes it to drain."""

import asyncio
import functools
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.proxy.mode_servers import AsyncioServerInstance, ReverseInstance, ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

from addon.replacing import replace
from store.network.sockets import bound_to_ipv6
from store.runtime.lifecycle import BACKLOG, STOP_SIGNALS, ignore_stop_signals
from store.runtime.settings import Settings

_log = logging.getLogger(__name__)

_listen = ReverseInstance.listen

LAST_REQUESTS = 1.0
"""Seconds that kept connections get at a stop for one more request, whose response says that it is the last one."""

_ANY = "::"
"""All interfaces; mitmproxy itself writes an empty text for them."""

_POLL = 0.05
"""Seconds between two checks whether connections are left."""


def reverse_mode(settings: Settings) -> str:
    """Return the settings as a mode of mitmproxy: `reverse:<origin of UPSTREAM_URL>@<PROXY_LISTEN>`."""
    upstream, listen = settings.upstream, settings.proxy
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"reverse:{upstream.scheme}://{host}:{upstream.port}@{listen.host}:{listen.port}"


def wait_to_serve(sockets: Sequence[socket.socket]) -> None:
    """Bind the port, and accept connections from `serve` on only, when the addons are ready.

    `sockets` are open already; without any, mitmproxy opens its own.

    REPLACES: `ReverseInstance.listen` in mitmproxy.proxy.mode_servers.
    WHY: mitmproxy accepts connections as soon as its port is open, has no option for sockets that are open already, and
    takes the system's short backlog. No upstream issue known.
    REMOVE WHEN: the listening sockets of a mode can be passed in, and `running` comes before they accept.
    """

    async def listen(instance: ReverseInstance, host: str, port: int) -> list[asyncio.Server]:
        start = functools.partial(asyncio.start_server, instance.handle_stream, backlog=BACKLOG, start_serving=False)
        own = sockets or bound_to_ipv6(host, port)
        return [await start(sock=one) for one in own] if own else [await start(host, port)]

    replace(ReverseInstance, "listen", listen)


def serve(master: Master) -> None:
    """Accept connections on each port that does not yet."""
    for server in _listening(master):
        if not server.is_serving():
            spawn(server.start_serving())


def switch_to(master: Master, mode: str) -> None:
    """Listen in `mode` instead of what mitmproxy started with; end the process (exit 1) if that fails.

    Scripts load while the first servers start, so this is for `running`, and the addon must refuse earlier connections.

    REPLACES: `ReverseInstance.listen`, by a function that also accepts IPv4 on `[::]`, and has a longer backlog.
    WHY: asyncio binds `[::]` for IPv6 alone. No upstream issue known.
    REMOVE WHEN: mitmproxy listens on both for a mode with the address `::`.
    """
    replace(ReverseInstance, "listen", _listen_on_both)
    master.options.update(mode=[mode])
    spawn(_exit_unless_listening(master))


def show_address(master: Master) -> None:
    """Set the two options that mitmweb's page shows as the address of the port; of several modes, the first one's.

    mitmproxy leaves them unset where a mode has an address of its own.
    """
    spawn(_show_address(master))


async def stop(master: Master) -> None:
    """Accept no more connections; those that are open or just accepted stay open."""
    for server in _listening(master):
        for one in server.sockets:
            master.event_loop.remove_reader(one.fileno())
    await asyncio.sleep(0)  # when it stops listening, asyncio closes connections that it has not handed over yet
    await spawn(_proxyserver(master).servers.update([]))


class Drain:
    """Ends a process on a signal: it stops listening, waits for the requests under way, then shuts down.

    `drained` returns when no request is under way; from its first call on, each connection closes with its next
    response. After `timeout` seconds the remaining requests are cut, and `finish` is called.

    On a kept connection a request may have been sent that has not arrived yet. So idle connections stay open for a
    while: on SIGTERM and SIGINT for LAST_REQUESTS; on SIGHUP, which means that another process serves already, for all
    of `timeout`. Signals may come more than once.
    """

    def __init__(
        self,
        master: Master,
        drained: Callable[[], Awaitable[None]],
        finish: Callable[[], Awaitable[None]],
        timeout: float,
    ) -> None:
        self._master = master
        self._drained = drained
        self._finish = finish
        self._timeout = timeout
        self._is_draining = False
        self._is_hasty = False
        for number in STOP_SIGNALS:
            master.event_loop.add_signal_handler(number, self._begin, number)

    def _begin(self, number: signal.Signals) -> None:
        self._is_hasty |= number != signal.SIGHUP
        if not self._is_draining:
            self._is_draining = True
            spawn(self._drain())

    async def _drain(self) -> None:
        deadline = self._master.event_loop.time() + self._timeout
        await stop(self._master)
        try:
            async with asyncio.timeout_at(deadline):
                await self._drained()
            await self._connections_end(deadline)
            async with asyncio.timeout_at(deadline):
                await self._drained()
        except TimeoutError:
            _log.warning("cut the requests that did not end in %g seconds", self._timeout)
        await self._finish()
        ignore_stop_signals(self._master.event_loop)
        self._master.shutdown()

    async def _connections_end(self, deadline: float) -> None:
        """Wait until the clients have closed their connections, or the time for idle ones is over."""
        connections, clock = _proxyserver(self._master).connections, self._master.event_loop.time
        soon = min(deadline, clock() + LAST_REQUESTS)
        while connections and clock() < (soon if self._is_hasty else deadline):  # noqa: ASYNC110
            await asyncio.sleep(_POLL)  # mitmproxy has no event for it


_tasks: set[asyncio.Task[object]] = set()


def spawn[T](coroutine: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Run a coroutine as a task and keep a reference: the event loop holds a weak one only."""
    task = asyncio.create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


async def _listen_on_both(instance: ReverseInstance, host: str, port: int) -> list[Any]:
    """Listen as mitmproxy does, and accept IPv4 on `[::]` too: asyncio would accept IPv6 alone."""
    start = functools.partial(asyncio.start_server, instance.handle_stream, backlog=BACKLOG)
    own = bound_to_ipv6(host, port)
    return [await start(sock=one) for one in own] if own else await _listen(instance, host, port)


async def _exit_unless_listening(master: Master) -> None:
    if not all(server.is_running for server in await _started(master)):
        sys.exit(1)  # mitmproxy has logged why


async def _show_address(master: Master) -> None:
    for server in (await _started(master))[:1]:
        host = server.mode.listen_host(master.options.listen_host)
        for _, port, *_ in server.listen_addrs[:1]:
            master.options.update(listen_host="" if host == _ANY else host, listen_port=port)


async def _started(master: Master) -> Sequence[ServerInstance[ProxyMode]]:
    """Return the servers of the modes that are set, when each of them listens or has failed."""
    servers = _proxyserver(master).servers
    await servers.update([ProxyMode.parse(mode) for mode in master.options.mode])
    return [*servers]


def _listening(master: Master) -> list[asyncio.Server]:
    instances = [one for one in _proxyserver(master).servers if isinstance(one, AsyncioServerInstance)]
    servers = [server for instance in instances for server in instance._servers]  # noqa: SLF001
    return [server for server in servers if isinstance(server, asyncio.Server)]


def _proxyserver(master: Master) -> Proxyserver:
    proxyserver = master.addons.get("proxyserver")
    if not isinstance(proxyserver, Proxyserver):
        raise TypeError("mitmproxy runs without its proxyserver addon")
    return proxyserver
