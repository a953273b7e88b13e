"""Serves until a signal comes; the addons are there before the port opens."""

import asyncio

from mitmproxy import options
from mitmproxy.master import Master

from addon.serving import config_files, listening, log_redaction
from addon.serving.lean_master import LeanMaster
from addon.serving.startup import add_gateway
from store.errors import StartupError
from store.runtime.lifecycle import given_sockets, is_supervised
from store.runtime.settings import Settings


def serve(settings: Settings) -> None:
    """Serve with only those addons of mitmproxy that this needs. Raises StartupError."""
    asyncio.run(_serve(settings))


def serve_with_mitmweb(settings: Settings) -> None:
    """Serve in mitmweb. Raises StartupError."""
    asyncio.run(_serve_with_mitmweb(settings))


async def _serve(settings: Settings) -> None:
    master = LeanMaster()
    _prepare(master, settings)
    await master.run()


async def _serve_with_mitmweb(settings: Settings) -> None:
    from mitmproxy.tools.web.master import WebMaster  # noqa: PLC0415 - it imports all of mitmproxy

    master = WebMaster(options.Options(), with_termlog=False)
    master.options.update(web_open_browser=False)
    _prepare(master, settings)
    log_redaction.hide_login("mitmproxy.tools.web.master")
    if not is_supervised():  # the supervisor prints it in its own words
        print(f"mitmweb: {master.web_url}", flush=True)
    try:
        await master.run()
    except OSError as error:  # from this port only: the proxy's port fails with a line in the log
        raise StartupError(f"Cannot listen on {settings.web} (WEB_LISTEN): {error.__cause__}.") from error


def _prepare(master: Master, settings: Settings) -> None:
    add_gateway(master, settings)
    config_files.use(master, settings.mitmproxy_dir)
    listening.wait_to_serve(given_sockets())
    master.options.update(mode=[listening.reverse_mode(settings)])
