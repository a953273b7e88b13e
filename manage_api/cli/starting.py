"""The commands that start the processes of the gateway. Their supervisor lives as long as it, and loads no store."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial

import click

from manage_api.cli.context import load_settings
from manage_api.cli.supervision import services, supervisor
from manage_api.cli.supervision.child import say
from manage_api.cli.supervision.worker_slot import Service
from store.runtime.lifecycle import CANNOT_START, MITMWEB, or_exit
from store.runtime.settings import Settings

type Opens = Callable[[Settings], Service]


@click.command(name="start")
def start_command() -> None:
    """Start the proxy and the management API."""
    settings = load_settings()
    _serve(settings, services.proxy, services.management, says=services.banner)


@click.command(name="proxy")
def proxy_command() -> None:
    """Start the proxy alone, as one of several machines does."""
    settings = load_settings()
    _serve(settings, services.proxy, says=services.proxy_banner)


@click.command(name="web")
def web_command() -> None:
    """Start both with mitmweb, to watch the traffic; the proxy is one process then."""
    settings = load_settings()
    told = {MITMWEB: f"http://{settings.web}"}
    _serve(settings, services.proxy_with_mitmweb, services.management, says=services.banner, told=told)


@click.command(name="demo")
def demo_command() -> None:
    """Start both before a demo upstream; nothing is kept."""
    from manage_api.demo import command  # noqa: PLC0415 - it encrypts; other starts need not load that

    settings = load_settings()
    opened = _opened(settings, services.proxy, services.management)
    sys.exit(asyncio.run(command.run(settings, opened)))


def _serve(settings: Settings, *opens: Opens, says: Callable[..., str], told: Mapping[str, str] = {}) -> None:
    """Run services until a signal; `told` is the environment that they get beside that of this process."""
    opened = _opened(settings, *opens)
    running = supervisor.run(
        opened,
        env={**services.ALLOCATOR, **os.environ, **told},
        on_ready=lambda pages: click.echo(says(settings, *pages)),
        preparation=services.PREPARATION,
    )
    sys.exit(asyncio.run(running))


def _opened(settings: Settings, *opens: Opens) -> list[Service]:
    say("Starting LLM Proxy ...")  # migrations and workers take seconds
    return [or_exit(partial(one, settings), CANNOT_START) for one in opens]
