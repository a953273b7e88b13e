"""`llm-proxy`: the one command for everything that an operator does by hand. `./run.sh` passes its arguments on.

The commands that start processes are here. Those that read or change the store are imported when one of them is run:
the supervisor of `start` lives as long as the gateway, and would keep their modules in its memory.
"""

import asyncio
import importlib
import os
import pwd
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import click

from manage_api.cli.context import CALLER, load_settings
from manage_api.cli.supervision import services, supervisor
from manage_api.cli.supervision.child import say
from manage_api.cli.supervision.worker_slot import Service
from store.runtime.lifecycle import CANNOT_START, begin, or_exit
from store.runtime.settings import Settings
from store.version import __version__

type Opens = Callable[[Settings], Service]

STORE_COMMANDS: Mapping[str, str] = {
    "admin": "manage_api.cli.admins",
    "audit": "manage_api.cli.audit",
    "backup": "manage_api.cli.backup",
    "copy": "manage_api.cli.copying",
    "migrate": "manage_api.cli.migration",
    "reconcile": "manage_api.cli.reconciliation.command",
    "request": "manage_api.cli.requests",
    "requests": "manage_api.cli.requests",
    "rotate": "manage_api.cli.rotation",
    "usage": "manage_api.cli.usage",
}
"""The modules of the commands that use the store; the function of each is named `NAME_command`."""


class _Commands(click.Group):
    """The commands of `llm-proxy`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, ordered by name."""
        return sorted([*super().list_commands(ctx), *STORE_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; import its module where that has not been done.

        What a command on the store changes is recorded as the change of the system's user.
        """
        if cmd_name not in STORE_COMMANDS:
            return super().get_command(ctx, cmd_name)
        from store.management import audit  # noqa: PLC0415 - it uses the store, as this command does

        audit.begin(audit.Origin(f"cli:{_user()}"))
        command: click.Command = getattr(importlib.import_module(STORE_COMMANDS[cmd_name]), f"{cmd_name}_command")
        return command


def _user() -> str:
    """Return the name of the system's user; its number where it has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@click.group(
    cls=_Commands,
    help="Hand out tokens instead of API keys. Settings come from the environment, then from .env.",
    epilog="./run.sh passes these on, and has four of its own: setup, test, soak, bench.",
)
@click.version_option(__version__)
@click.option(f"--{CALLER}", type=click.Path(path_type=Path), default="", hidden=True)
def main(**_: Path) -> None:
    """Run a command. Relative paths on its command line count from the folder of the caller, if that is given."""
    begin()


@main.command()
def start() -> None:
    """Start the proxy and the management API."""
    settings = load_settings()
    _serve(settings, services.proxy, services.management, says=services.banner)


@main.command()
def proxy() -> None:
    """Start the proxy alone, as one of several machines does."""
    settings = load_settings()
    _serve(settings, services.proxy, says=services.proxy_banner)


@main.command()
def web() -> None:
    """Start both with mitmweb, to watch the traffic; the proxy is one process then."""
    settings = load_settings()
    _serve(settings, services.proxy_with_mitmweb, services.management, says=services.banner)


@main.command()
def demo() -> None:
    """Start both before a demo upstream; nothing is kept."""
    from manage_api.demo import command  # noqa: PLC0415 - it encrypts; other starts need not load that

    settings = load_settings()
    opened = _opened(settings, services.proxy, services.management)
    sys.exit(asyncio.run(command.run(settings, opened)))


def _serve(settings: Settings, *opens: Opens, says: Callable[..., str]) -> None:
    opened = _opened(settings, *opens)
    running = supervisor.run(
        opened,
        env={**services.ALLOCATOR, **os.environ},
        on_ready=lambda pages: click.echo(says(settings, *pages)),
        preparation=services.PREPARATION,
    )
    sys.exit(asyncio.run(running))


def _opened(settings: Settings, *opens: Opens) -> list[Service]:
    say("Starting LLM Proxy ...")  # migrations and workers take seconds
    return [or_exit(partial(one, settings), CANNOT_START) for one in opens]
