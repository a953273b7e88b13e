"""The launcher: `python -m addon` is how `./run.sh` starts the proxy; `python -m addon --web` shows it in mitmweb.

Unlike `mitmdump -s` it has the addon in place before the port opens, and nothing watches the addon's files.
"""

import asyncio

import click
from mitmproxy import options
from mitmproxy.master import Master

from addon.seams import listening, own_files
from addon.seams.lean_master import LeanMaster
from addon.startup import add_gateway
from store.errors import StartupError
from store.lifecycle import BAD_SETTINGS, CANNOT_START, begin, given_sockets, or_exit
from store.settings import Settings


@click.command(help=__doc__)
@click.option("--web", is_flag=True, help="Show the traffic in mitmweb, on WEB_LISTEN.")
def main(*, web: bool) -> None:
    """Serve until a signal comes."""
    begin()
    settings = or_exit(Settings.load, BAD_SETTINGS)
    or_exit(lambda: asyncio.run(_serve_web(settings) if web else _serve(settings)), CANNOT_START)


async def _serve(settings: Settings) -> None:
    master = LeanMaster()
    _prepare(master, settings)
    await master.run()


async def _serve_web(settings: Settings) -> None:
    from mitmproxy.tools.web.master import WebMaster  # noqa: PLC0415 - a tenth of a second, for nothing without --web

    master = WebMaster(options.Options(), with_termlog=False)
    master.options.update(web_open_browser=False)
    _prepare(master, settings)
    print(f"mitmweb: {master.web_url}", flush=True)
    try:
        await master.run()
    except OSError as error:  # all that is opened with an exception: the proxy's port fails with a line in the log
        raise StartupError(f"Cannot listen on {settings.web} (WEB_LISTEN): {error.__cause__}.") from error


def _prepare(master: Master, settings: Settings) -> None:
    add_gateway(master, settings)
    own_files.use(master, settings.mitmproxy_dir)
    listening.wait_to_serve(given_sockets())
    master.options.update(mode=[listening.reverse_mode(settings)])


if __name__ == "__main__":
    main()
