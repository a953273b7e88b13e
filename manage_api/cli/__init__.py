"""`llm-proxy`: the one command for everything that an operator does by hand. `./run.sh` passes its arguments on."""

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from manage_api.cli import (
    backup,
    copying,
    demo,
    migration,
    options,
    processes,
    reading,
    requests,
    rotation,
    supervisor,
    usage,
)
from store.bootstrap import management_token, open_store
from store.lifecycle import BAD_SETTINGS, CANNOT_START, begin, interrupt_at_stop_signals, note_stop_signals, or_exit
from store.request_list import DEFAULT_LIMIT, MAX_LIMIT, OPEN, RequestFilter
from store.settings import Listen, Settings
from store.usage import Source
from store.usage_statement import Dimension, UsageFilter
from store.version import __version__


@click.group(
    help="Hand out tokens instead of API keys. Settings come from the environment, then from .env.",
    epilog="./run.sh passes these on, and has three of its own: setup, test, soak.",
)
@click.version_option(__version__)
def main() -> None:
    """Run a command."""
    begin()


@main.command()
def start() -> None:
    """Start the proxy and the management API."""
    settings = or_exit(Settings.load, BAD_SETTINGS)
    _serve(settings, processes.PROXY, {"PROXY_LISTEN": settings.proxy, "MANAGE_LISTEN": settings.manage})


@main.command()
def web() -> None:
    """Start the same with mitmweb, to watch the traffic."""
    settings = or_exit(Settings.load, BAD_SETTINGS)
    listens = {"PROXY_LISTEN": settings.proxy, "MANAGE_LISTEN": settings.manage, "WEB_LISTEN": settings.web}
    _serve(settings, processes.PROXY_WITH_MITMWEB, listens)


@main.command(name="demo")
def run_demo() -> None:
    """Start the same before a demo upstream; nothing is kept."""
    settings = or_exit(Settings.load, BAD_SETTINGS)
    _require_free_ports({"PROXY_LISTEN": settings.proxy, "MANAGE_LISTEN": settings.manage})
    sys.exit(asyncio.run(demo.run(settings)))


@main.command()
def rotate() -> None:
    """Encrypt the store anew with the first key of ENCRYPTION_KEY."""
    stopped = note_stop_signals()
    sys.exit(rotation.run(or_exit(Settings.load, BAD_SETTINGS), stopped))


@main.command()
@click.option("--dry-run", is_flag=True, help="Tell what would be done; change nothing. Status 3 if there is anything.")
def migrate(dry_run: bool) -> None:
    """Bring the store's schema up to date, as each start does."""
    interrupt_at_stop_signals()
    settings = or_exit(Settings.load, BAD_SETTINGS)
    sys.exit(migration.preview(settings) if dry_run else migration.run(settings))


@main.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path))
def back_up(file: Path) -> None:
    """Copy the store into a new FILE, while it is in use."""
    stopped = note_stop_signals()
    sys.exit(backup.run(or_exit(Settings.load, BAD_SETTINGS), file, stopped))


@main.command(name="copy")
@options.target
def copy_store(target: str) -> None:
    """Copy the store into another, empty database."""
    stopped = note_stop_signals()
    sys.exit(copying.run(or_exit(Settings.load, BAD_SETTINGS), target, stopped))


@main.command(name="usage")
@options.by
@options.filters
@click.option("--format", "form", type=click.Choice(usage.FORMATS), default="table", show_default=True)
def report_usage(by: Sequence[Dimension], form: str, **about: Any) -> None:
    """Show what was used and what it cost."""
    settings = or_exit(Settings.load, BAD_SETTINGS)
    sys.exit(reading.run(settings, lambda store: usage.read(store, by, UsageFilter(**about), form)))


@main.command(name="requests")
@options.filters
@click.option("--status", type=click.IntRange(100, 599), help="Answered with this status.")
@click.option(
    "--usage", "source", type=click.Choice([*(source.value for source in Source), OPEN]), help="How the usage is known."
)
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True)
@click.option("--format", "form", type=click.Choice(requests.FORMATS), default="table", show_default=True)
def list_requests(limit: int, form: str, **about: Any) -> None:
    """List the newest requests."""
    settings = or_exit(Settings.load, BAD_SETTINGS)
    sys.exit(reading.run(settings, lambda store: requests.read(store, RequestFilter(**about), limit, form)))


def _serve(settings: Settings, proxy: processes.Command, listens: dict[str, Listen]) -> None:
    _require_free_ports(listens)
    or_exit(lambda: _prepare(settings), CANNOT_START)
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
        or_exit(partial(processes.require_free_port, name, listen), CANNOT_START)


def _prepare(settings: Settings) -> None:
    """Migrate the store and make the secrets, once, before two processes look for them."""
    open_store(settings).database.close()
    management_token(settings)
