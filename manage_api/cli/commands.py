"""`llm-proxy`: the one command for everything that an operator does by hand. `./run.sh` passes its arguments on.

A command is imported when it is run, so that each loads no more than it needs, and starts fast.
"""

import contextlib
import importlib
import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from manage_api.cli.context import CALLER
from store.runtime.lifecycle import begin
from store.runtime.redaction import mask_secrets
from store.version import __version__

_GATEWAY = "The gateway"

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Projects, tokens and prices": {
        "project": "manage_api.cli.projects",
        "token": "manage_api.cli.tokens",
        "price": "manage_api.cli.prices",
    },
    "Requests and costs": {
        "request": "manage_api.cli.requests",
        "requests": "manage_api.cli.requests",
        "usage": "manage_api.cli.usage",
        "reconcile": "manage_api.cli.reconciliation.command",
    },
    "People": {
        "admin": "manage_api.cli.admins",
        "audit": "manage_api.cli.audit",
    },
    "The store": {
        "backup": "manage_api.cli.backup",
        "copy": "manage_api.cli.copying",
        "migrate": "manage_api.cli.migration",
        "rotate": "manage_api.cli.rotation",
    },
    _GATEWAY: {
        "start": "manage_api.cli.starting",
        "proxy": "manage_api.cli.starting",
        "web": "manage_api.cli.starting",
        "demo": "manage_api.cli.starting",
    },
}
"""The sections of the help, and the modules of their commands; the function of each is named `NAME_command`."""

MODULES: Mapping[str, str] = {name: module for section in SECTIONS.values() for name, module in section.items()}

_EPILOG = """
\b
Exit status:
  0  it is done
  1  it is not done: a rule refuses it, there is no store, or it does not answer
     (reconcile: the export and the ledger differ)
  2  the command line is wrong, or a setting, or nothing has the name or id
  3  migrate --dry-run: there is something to do
  4  several have the name: give the id

./run.sh passes these on, and has six of its own: setup, test, soak, newest, screenshots, bench.
"""

_WORDS = f"{__name__}.words"
"""The place in click's context where the words of the command line are kept."""


@contextlib.contextmanager
def _masked(ctx: click.Context) -> Iterator[None]:
    """Mask keys and tokens of the command line in errors about it: click quotes words that it does not expect."""
    try:
        yield
    except click.ClickException as error:
        for word in filter(None, ctx.meta[_WORDS]):
            error.message = error.message.replace(word, mask_secrets(word))  # type: ignore[misc]
        raise


class _Commands(click.Group):
    """The commands of `llm-proxy`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line up to the command's name."""
        ctx.meta[_WORDS] = [word for argument in args for word in (argument, argument.partition("=")[2])]
        with _masked(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with _masked(ctx):
            return super().invoke(ctx)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, ordered by name."""
        return sorted(MODULES)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; its module is imported by that.

        The changes of a command on the store are recorded as those of the system's user.
        """
        if cmd_name not in MODULES:
            return None
        if cmd_name not in SECTIONS[_GATEWAY]:
            from store.management import audit  # noqa: PLC0415 - it uses the store, as this command does

            audit.begin(audit.Origin(f"cli:{_user()}"))
        command: click.Command = getattr(importlib.import_module(MODULES[cmd_name]), f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                found = ((name, self.get_command(ctx, name)) for name in section)
                formatter.write_dl([(name, command.get_short_help_str(90)) for name, command in found if command])


def _user() -> str:
    """Return the name of the system's user; its number where it has no name, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@click.group(
    cls=_Commands,
    help="Hand out tokens instead of API keys. Settings come from the environment, then from .env.",
    epilog=_EPILOG,
)
@click.version_option(__version__)
@click.option(f"--{CALLER}", type=click.Path(path_type=Path), default="", hidden=True)
def main(**_: Path) -> None:
    """Run a command. Relative paths on its command line count from the folder of the caller, if that is given."""
    begin()
