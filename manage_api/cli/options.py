"""Options and arguments of the commands: times, names, groups; files and databases, relative to the caller's folder.

A time is written as in RFC 3339, as a date, or as a duration (`7d`) before or after the present.
"""

import functools
import re
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from manage_api import words
from manage_api.cli import completion
from manage_api.cli.context import at_caller
from store import clock
from store.clock import DAY, from_rfc3339
from store.reports.time_zones import time_zone
from store.reports.usage_query import Dimension
from store.runtime import database_url

type Command = Callable[..., None]
type Callback = Callable[[click.Context, click.Parameter, Any], Any]

TIME = "a time such as 2026-11-25T14:00:00Z, a date such as 2026-11-25, or a duration such as 7d, 12h or 30m"

_WHOLE_NUMBER = re.compile(r"[0-9]{1,20}")


def reading(read: Callable[[str], object], expected: str) -> Callback:
    """Make a callback that reads an option by `read`, each value of it where it has several, and None for none.

    Its error names what is `expected`, without quoting the text.
    """

    def convert(_context: click.Context, _parameter: click.Parameter, given: str | tuple[str, ...] | None) -> object:
        try:
            if isinstance(given, tuple):
                return [read(text) for text in given]
            return None if given is None else read(given)
        except ValueError:
            raise click.BadParameter(f"expected {expected}.") from None

    return convert


def duration(text: str) -> int:
    """Read a duration such as 7d, 12h or 30m, in microseconds. Raises ValueError."""
    found = words.read_duration(text)
    if found is None:
        raise ValueError("no duration")
    return found


def ahead(text: str) -> int:
    """Read a time; a duration counts from now on. Raises ValueError."""
    found = words.read_duration(text)
    return from_rfc3339(text) if found is None else clock.now() + found


def whole_number(text: str) -> int:
    """Read a number in the digits 0 to 9 alone. Raises ValueError."""
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise ValueError("no whole number")
    return int(text)


def _dimensions(text: str) -> Sequence[Dimension]:
    return list(dict.fromkeys(Dimension(name) for name in text.split(",")))


def _midnight(text: str) -> int:
    moment = from_rfc3339(text)
    if moment % DAY:
        raise ValueError("no midnight")
    return moment


_NAMES = f"any of {', '.join(Dimension)}, separated by commas"

_groups = reading(_dimensions, _NAMES)
_day = reading(_midnight, "a day such as 2026-11-25; days are UTC")
_zone = reading(time_zone, "the IANA name of a time zone, such as Europe/Berlin")


def _time(context: click.Context, parameter: click.Parameter, text: str | None) -> object:
    """Read a time; a duration ends now. A date alone is its midnight in the time zone of the command line."""
    zone = context.params.get("zone") or UTC

    def read(text: str) -> int:
        found = words.read_duration(text)
        return from_rfc3339(text, zone) if found is None else clock.now() - found

    return reading(read, TIME)(context, parameter, text)


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


_PROJECT = click.option(
    "--project",
    "project_id",
    metavar="PROJECT",
    shell_complete=completion.projects,
    help="Of the project with this name or id.",
)
_ENDPOINT = click.option("--endpoint", help="Of an endpoint, such as /v1/chat/completions.")

_TIMES = (
    click.option(
        "--since",
        "--from",
        "start",
        metavar="TIME",
        callback=_time,
        help="Begun then or later: a duration until now (7d, 12h, 30m), a date, or a time of RFC 3339.",
    ),
    click.option("--until", "--to", "end", metavar="TIME", callback=_time, help="Begun before that."),
)
_FILTERS = (
    *_TIMES,
    _PROJECT,
    click.option(
        "--token",
        "token_id",
        metavar="TOKEN",
        shell_complete=completion.tokens,
        help="Of the token with this name, id or value.",
    ),
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
    _PROJECT,
    click.option(
        "--object",
        "object_id",
        metavar="OBJECT",
        help="Of a project, a token, a price or an administrator, by the id, or by a name of then.",
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
            raise click.UsageError("Nothing is between the times: --since or --from must be before --to or --until.")
        command(start=start, end=end, **others)

    return with_options(checked, added)


def project(command: Command) -> Command:
    """Add the argument for a project that is there."""
    return click.argument("project", metavar="PROJECT", shell_complete=completion.projects)(command)


def token(command: Command) -> Command:
    """Add the argument for a token that is there."""
    return click.argument("token", metavar="TOKEN", shell_complete=completion.tokens)(command)


def yes(command: Command) -> Command:
    """Add the option that answers the question of a command which destroys."""
    return click.option("--yes", is_flag=True, help="Do not ask. Needed where no terminal is there to answer.")(command)


def as_json(command: Command) -> Command:
    """Add the option for JSON in place of tables."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, with the fields of the API.")(command)


def form(*forms: str) -> Callable[[Command], Command]:
    """Return a function that adds the options for the form of an output: `--format`, and `--json` for short."""

    def add(command: Command) -> Command:
        added = (
            click.option("--format", "form", type=click.Choice(forms), default=forms[0], show_default=True),
            click.option("--json", "as_json", is_flag=True, help="The same as --format json."),
        )

        @functools.wraps(command)
        def chosen(*, form: str, as_json: bool, **others: Any) -> None:
            command(form="json" if as_json else form, **others)

        return with_options(chosen, added)

    return add


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
        help="Months, weeks and days of this time zone, such as Europe/Berlin; also dates of --since and --until. "
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
