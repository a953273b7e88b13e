"""Opens the proxy's port once the addon is there, and closes it to drain."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.proxy.mode_specs import ProxyMode

from store.lifecycle import STOP_SIGNALS, ignore_stop_signals
from store.settings import Settings

_log = logging.getLogger(__name__)


def reverse_mode(settings: Settings) -> str:
    """Write the settings as a mode of mitmproxy: `reverse:<origin of UPSTREAM_URL>@<PROXY_LISTEN>`."""
    upstream, listen = settings.upstream, settings.proxy
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return f"reverse:{upstream.scheme}://{host}:{upstream.port}@{listen.host}:{listen.port}"


def switch_to(master: Master, mode: str) -> None:
    """Listen in `mode` instead of what mitmproxy started with; end the process (exit 1) if that fails.

    Scripts load while the first servers start, so this is for `running`, and the addon must refuse what comes before.
    """
    master.options.update(mode=[mode])
    spawn(_exit_unless_listening(master))


def stop(master: Master) -> asyncio.Task[bool]:
    """Accept no more connections; those that are open stay open."""
    return spawn(_proxyserver(master).servers.update([]))


def drain_on_signals(
    master: Master, drained: Callable[[], Awaitable[None]], finish: Callable[[], Awaitable[None]], timeout: float
) -> None:
    """On SIGTERM, SIGINT and SIGHUP stop listening, let requests under way end, then shut down.

    `drained` returns once there are none; after `timeout` seconds they are cut. `finish` is what comes after that.
    Signals may come more than once.
    """
    draining = asyncio.Event()

    async def drain() -> None:
        await stop(master)
        try:
            await asyncio.wait_for(drained(), timeout)
        except TimeoutError:
            _log.warning("cut the requests that did not end in %g seconds", timeout)
        await finish()
        ignore_stop_signals(master.event_loop)
        master.shutdown()

    def on_signal() -> None:
        if not draining.is_set():
            draining.set()
            spawn(drain())

    for number in STOP_SIGNALS:
        master.event_loop.add_signal_handler(number, on_signal)


_tasks: set[asyncio.Task[object]] = set()


def spawn[T](coroutine: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Run a coroutine and keep it: the event loop alone would let it be collected."""
    task = asyncio.create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


async def _exit_unless_listening(master: Master) -> None:
    servers = _proxyserver(master).servers
    await servers.update([ProxyMode.parse(mode) for mode in master.options.mode])
    if not all(server.is_running for server in servers):
        sys.exit(1)  # mitmproxy has logged why


def _proxyserver(master: Master) -> Proxyserver:
    proxyserver = master.addons.get("proxyserver")
    if not isinstance(proxyserver, Proxyserver):
        raise TypeError("mitmproxy runs without its proxyserver addon")
    return proxyserver
