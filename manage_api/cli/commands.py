"""`llm-proxy`: the one command for everything that an operator does by hand. `./run.sh` passes its arguments on."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from manage_api.cli import backup, copying, migration, options, reading, requests, rotation, usage
from manage_api.cli.supervision import services, supervisor
from manage_api.cli.supervision.child import say
from manage_api.cli.supervision.worker_slot import Service
from manage_api.demo import command
from store.errors import REFUSAL_CODES
from store.ledger.usage import Source
from store.operations.opening import management_token, open_store
from store.reports.request_list import DEFAULT_LIMIT, MAX_LIMIT, OPEN, RequestFilter
from store.reports.usage_query import Dimension, UsageFilter
from store.runtime import logs
from store.runtime.lifecycle import (
    BAD_SETTINGS,
    CANNOT_START,
    begin,
    interrupt_at_stop_signals,
    note_stop_signals,
    or_exit,
)
from store.runtime.settings import Settings
from store.version import __version__

type Opens = Callable[[Settings], Service]


@click.group(
    help="Hand out tokens instead of API keys. Settings come from the environment, then from .env.",
    epilog="./run.sh passes these on, and has four of its own: setup, test, soak, bench.",
)
@click.version_option(__version__)
@click.option(f"--{options.CALLER}", type=click.Path(path_type=Path), default="", hidden=True)
def main(**_: Path) -> None:
    """Run a command. Relative paths on its command line count from the folder of the caller, if that is given."""
    begin()


@main.command()
def start() -> None:
    """Start the proxy and the management API."""
    settings = _settings()
    _serve(settings, services.proxy, services.management, says=services.banner)


@main.command()
def proxy() -> None:
    """Start the proxy alone, as one of several machines does."""
    settings = _settings()
    _serve(settings, services.proxy, says=services.proxy_banner)


@main.command()
def web() -> None:
    """Start both with mitmweb, to watch the traffic; the proxy is one process then."""
    settings = _settings()
    _serve(settings, services.proxy_with_mitmweb, services.management, says=services.banner)


@main.command(name="demo")
def run_demo() -> None:
    """Start both before a demo upstream; nothing is kept."""
    settings = _settings()
    opened = _opened(settings, services.proxy, services.management)
    sys.exit(asyncio.run(command.run(settings, opened)))


@main.command()
def rotate() -> None:
    """Encrypt the store anew with the first key of ENCRYPTION_KEY."""
    stopped = note_stop_signals()
    sys.exit(rotation.run(_settings(), stopped))


@main.command()
@click.option("--dry-run", is_flag=True, help="Tell what would be done; change nothing. Status 3 if there is anything.")
def migrate(dry_run: bool) -> None:
    """Bring the store's schema up to date, as each start does."""
    interrupt_at_stop_signals()
    settings = _settings()
    sys.exit(migration.preview(settings) if dry_run else migration.run(settings))


@main.command(name="backup")
@options.file
def back_up(file: Path) -> None:
    """Copy the store into a new FILE, while it is in use."""
    stopped = note_stop_signals()
    sys.exit(backup.run(_settings(), file, stopped))


@main.command(name="copy")
@options.target
def copy_store(target: str) -> None:
    """Copy the store into another, empty database."""
    stopped = note_stop_signals()
    sys.exit(copying.run(_settings(), target, stopped))


@main.command(name="usage")
@options.by
@options.filters
@click.option("--format", "form", type=click.Choice(usage.FORMATS), default="table", show_default=True)
def report_usage(by: Sequence[Dimension], form: str, **about: Any) -> None:
    """Show what was used and what it cost."""
    settings = _settings()
    sys.exit(reading.run(settings, lambda store: usage.read(store, by, UsageFilter(**about), form)))


@main.command(name="requests")
@options.filters
@click.option("--status", type=click.IntRange(100, 599), help="Answered with this status.")
@click.option("--code", type=click.Choice(REFUSAL_CODES), help="Refused by the gateway for this.")
@click.option(
    "--usage", "source", type=click.Choice([*(source.value for source in Source), OPEN]), help="How the usage is known."
)
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True)
@click.option("--format", "form", type=click.Choice(requests.FORMATS), default="table", show_default=True)
def list_requests(limit: int, form: str, **about: Any) -> None:
    """List the newest requests, admitted and refused."""
    settings = _settings()
    sys.exit(reading.run(settings, lambda store: requests.read(store, RequestFilter(**about), limit, form)))


@main.group()
def request() -> None:
    """Look a single request up."""


@request.command(name="show")
@click.argument("request_id", metavar="ID")
@click.option("--format", "form", type=click.Choice(requests.FORMATS_OF_ONE), default="table", show_default=True)
def show_request(request_id: str, form: str) -> None:
    """Show the request with this ID: ours, or the upstream's, which SDKs show."""
    settings = _settings()
    sys.exit(reading.run(settings, lambda store: requests.show(store, request_id, form)))


def _settings() -> Settings:
    """Read the settings. Of the log only warnings are shown: commands say themselves what they do."""
    settings = or_exit(Settings.load, BAD_SETTINGS)
    logs.configure(max(settings.log_threshold, logging.WARNING), settings.log_format)
    settings.warn()
    return settings


def _serve(settings: Settings, *opens: Opens, says: Callable[..., str]) -> None:
    opened = _opened(settings, *opens)
    or_exit(lambda: _prepare(settings), CANNOT_START)
    env = {**services.ALLOCATOR, **os.environ}
    sys.exit(asyncio.run(supervisor.run(opened, env=env, on_ready=lambda pages: click.echo(says(settings, *pages)))))


def _opened(settings: Settings, *opens: Opens) -> list[Service]:
    say("Starting LLM Proxy ...")  # migrations and workers take seconds
    return [or_exit(partial(one, settings), CANNOT_START) for one in opens]


def _prepare(settings: Settings) -> None:
    """Migrate the store and make the secrets, once, before two processes look for them."""
    open_store(settings).database.close()
    management_token(settings)
