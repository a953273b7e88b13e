"""The program itself: its versions, and the path of the script that mitmproxy's own tools load."""

import importlib.metadata
from pathlib import Path

import click

from store.schema import MIGRATIONS
from store.version import __version__

SCRIPT = Path(__file__).parents[2] / "addon" / "proxy.py"


def print_versions(context: click.Context, _parameter: click.Parameter, is_wanted: bool) -> None:
    """Print the versions of the project, of mitmproxy and of the schema, and end; the callback of `--version`."""
    if is_wanted and not context.resilient_parsing:
        click.echo(f"LLM Proxy {__version__}")
        click.echo(f"mitmproxy {importlib.metadata.version('mitmproxy')}")
        click.echo(f"schema {max(path.stem for path in MIGRATIONS.glob('[0-9]*.py'))}")
        context.exit()


@click.command(name="addon-path")
def addon_path_command() -> None:
    """Print the path of the script for mitmproxy's own tools, as `mitmdump -s` takes it."""
    click.echo(SCRIPT)
