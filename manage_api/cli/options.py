"""Options and arguments of the commands: times, ids, groups; files and databases, relative to the caller's folder."""

import functools
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from manage_api.cli.context import at_caller
from store.clock import DAY, from_rfc3339
from store.reports.time_zones import time_zone
from store.reports.usage_query import Dimension
from store.runtime import database_url

type Command = Callable[..., None]
type Callback[T] = Callable[[click.Context, click.Parameter, str | None], T | None]


def _read[T](read: Callable[[str], T], expected: str) -> Callback[T]:
    """Make a callback that reads an option by `read`. Its error names what is `expected`, without quoting the text."""

    def convert(_context: click.Context, _parameter: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else read(text)
        except ValueError:
            raise click.BadParameter(f"expected {expected}.") from None

    return convert


def _dimensions(text: str) -> Sequence[Dimension]:
    return list(dict.fromkeys(Dimension(name) for name in text.split(",")))


def _midnight(text: str) -> int:
    moment = from_rfc3339(text)
    if moment % DAY:
        raise ValueError("no midnight")
    return moment


_NAMES = f"any of {', '.join(Dimension)}, separated by commas"

_groups = _read(_dimensions, _NAMES)
_day = _read(_midnight, "a day such as 2026-11-25; days are UTC")
_zone = _read(time_zone, "the IANA name of a time zone, such as Europe/Berlin")
_id = _read(lambda text: str(uuid.UUID(text)), "an id (a UUID)")


def _time(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Read a time. A date alone is its midnight in the time zone of the command line."""
    zone = context.params.get("zone") or UTC
    expected = "a time such as 2026-11-25T14:00:00Z, or a date such as 2026-11-25"
    return _read(lambda text: from_rfc3339(text, zone), expected)(context, parameter, text)


def _file(context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    return at_caller(context, path)


def _target_url(context: click.Context, _parameter: click.Parameter, url: str) -> str:
    """Check the URL. It may hold a password, so no message quotes it."""
    try:
        database_url.check(url)
    except ValueError as error:
        raise click.BadParameter(f"it {error}.") from None
    if database_url.is_postgresql(url):
        return url
    return database_url.sqlite_url(at_caller(context, database_url.sqlite_path(url)))


_PROJECT = click.option("--project", "project_id", metavar="ID", help="Of the project with this id.")
_ENDPOINT = click.option("--endpoint", help="Of an endpoint, such as /v1/chat/completions.")

_TIMES = (
    click.option("--from", "start", metavar="TIME", callback=_time, help="Begun then or later: RFC 3339, or a date."),
    click.option("--to", "end", metavar="TIME", callback=_time, help="Begun before that."),
)
_FILTERS = (
    *_TIMES,
    _PROJECT,
    click.option("--token", "token_id", metavar="ID", callback=_id, help="Of the token with this id, or this value."),
    click.option("--model", help="Of this model."),
    _ENDPOINT,
)
_FILTERS_BY_DAY = (
    click.option("--from", "start", metavar="DAY", callback=_day, help="From this day (UTC) on."),
    click.option("--to", "end", metavar="DAY", callback=_day, help="Before this day (UTC)."),
    _PROJECT,
    _ENDPOINT,
)


_FILTERS_OF_CHANGES = (
    *_TIMES,
    click.option("--project", "project_id", metavar="ID", callback=_id, help="Of the project with this id."),
    click.option(
        "--object", "object_id", metavar="ID", callback=_id, help="Of what has this id: a token, a price, ..."
    ),
)


def with_options(command: Command, added: Sequence[Callable[[Command], Command]]) -> Command:
    """Add options to a command; its help lists them in this order."""
    return functools.reduce(lambda made, option: option(made), reversed(added), command)


def filters(command: Command) -> Command:
    """Add the options of every command that reads the ledger."""
    return _filtered(command, _FILTERS)


def filters_by_day(command: Command) -> Command:
    """Add the options of a command that reads whole days of the ledger."""
    return _filtered(command, _FILTERS_BY_DAY)


def filters_of_changes(command: Command) -> Command:
    """Add the options of a command that reads the audit."""
    return _filtered(command, _FILTERS_OF_CHANGES)


def _filtered(command: Command, added: Sequence[Callable[[Command], Command]]) -> Command:
    @functools.wraps(command)
    def checked(*, start: int | None, end: int | None, **others: Any) -> None:
        if start is not None and end is not None and start >= end:
            raise click.UsageError("Nothing is between the times: --from must be before --to.")
        command(start=start, end=end, **others)

    return with_options(checked, added)


def file(command: Command) -> Command:
    """Add the argument for the file to write, or to read."""
    return click.argument("file", type=click.Path(path_type=Path), callback=_file)(command)


def target(command: Command) -> Command:
    """Add the option for the database to copy to."""
    option = click.option(
        "--to",
        "target",
        metavar="URL",
        envvar="TARGET_DATABASE_URL",
        show_envvar=True,
        required=True,
        callback=_target_url,
        help="As in DATABASE_URL. All users of the machine see command lines: set a password in the environment.",
    )
    return option(command)


def timezone(command: Command) -> Command:
    """Add the option for the time zone of a report."""
    option = click.option(
        "--timezone",
        "zone",
        metavar="NAME",
        callback=_zone,
        is_eager=True,  # read before the times, whose dates it is for
        help="Months, weeks and days of this time zone, such as Europe/Berlin; also dates of --from and --to. "
        "Default: UTC.",
    )
    return option(command)


def by(command: Command) -> Command:
    """Add the option for the groups of a report."""
    option = click.option(
        "--by",
        metavar="GROUPS",
        callback=_groups,
        default="project,model",
        show_default=True,
        help=f"Groups: {_NAMES}.",
    )
    return option(command)
