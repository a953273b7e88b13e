"""`llm-proxy`: the one command for everything that an operator does by hand. `./run.sh` passes its arguments on."""

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial

import click

from manage_api.cli import demo, processes, supervisor
from store.bootstrap import management_token, open_store
from store.errors import StartupError
from store.settings import Listen, Settings
from store.version import __version__

_CANNOT_START = 1
_BAD_SETTINGS = 2


@click.group(help="Hand out tokens instead of API keys. Settings come from the environment, then from .env.")
@click.version_option(__version__)
def main() -> None:
    """Run a command."""


@main.command()
def start() -> None:
    """Start the proxy and the management API."""
    settings = _or_exit(Settings.load, _BAD_SETTINGS)
    _serve(settings, processes.PROXY, {"PROXY_LISTEN": settings.proxy, "MANAGE_LISTEN": settings.manage})


@main.command()
def web() -> None:
    """Start the same with mitmweb, to watch the traffic."""
    settings = _or_exit(Settings.load, _BAD_SETTINGS)
    listens = {"PROXY_LISTEN": settings.proxy, "MANAGE_LISTEN": settings.manage, "WEB_LISTEN": settings.web}
    _serve(settings, processes.PROXY_WITH_MITMWEB, listens)


@main.command(name="demo")
def run_demo() -> None:
    """Start the same in front of a demo upstream, with a project and a token, in a throw-away folder."""
    settings = _or_exit(Settings.load, _BAD_SETTINGS)
    _require_free_ports({"PROXY_LISTEN": settings.proxy, "MANAGE_LISTEN": settings.manage})
    sys.exit(asyncio.run(demo.run(settings)))


def _serve(settings: Settings, proxy: processes.Command, listens: dict[str, Listen]) -> None:
    _require_free_ports(listens)
    _or_exit(lambda: _prepare(settings), _CANNOT_START)
    sys.exit(
        asyncio.run(
            supervisor.run(
                {"proxy": proxy, "management API": processes.MANAGEMENT},
                env=os.environ,
                ports=[settings.proxy, settings.manage],
                drain_timeout=settings.drain_timeout,
                on_ready=lambda: click.echo(processes.banner(settings)),
            )
        )
    )


def _require_free_ports(listens: dict[str, Listen]) -> None:
    for name, listen in listens.items():
        _or_exit(partial(processes.require_free_port, name, listen), _CANNOT_START)


def _prepare(settings: Settings) -> None:
    """Migrate the store and make the secrets, once, before two processes look for them."""
    open_store(settings).database.close()
    management_token(settings)


def _or_exit[T](do: Callable[[], T], status: int) -> T:
    try:
        return do()
    except StartupError as error:
        click.echo(error, err=True)
        sys.exit(status)
