"""The fields of projects and tokens as options: each becomes the field of a body of the API, whose rules hold for it.

An option of a list may be given several times; the list replaces the one that is set. `--no-OPTION` removes it.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from manage_api import words
from manage_api.cli import options
from manage_api.cli.options import Command
from store import clock

_KEPT = object()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a body, and its option. `removed` is the value that removes it; without one it has no `--no-OPTION`.

    `read` reads the option's text; it raises ValueError for a text that is not `expected`.
    """

    name: str
    option: str
    metavar: str
    help: str
    read: Callable[[str], object] = str
    expected: str = ""
    is_list: bool = False
    removed: object = _KEPT


def _expiry(text: str) -> str:
    """Return the time of an expiry as the API takes it; 9999-12-31T23:59:59Z never comes."""
    return clock.to_rfc3339(clock.NEVER if text == "never" else options.ahead(text))


RULES: Sequence[Field] = (
    Field(
        "rate_limits",
        "limit",
        "NUMBER/WINDOW",
        "Requests in each second, minute, hour or day: 60/minute. Tokens: 100000tokens/hour.",
        words.read_window,
        words.WINDOW,
        is_list=True,
        removed=None,
    ),
    Field(
        "budgets",
        "budget",
        "USD/PERIOD",
        "US dollars in each day, week or month (UTC), or in total: 100/month.",
        words.read_budget,
        words.BUDGET,
        is_list=True,
        removed=None,
    ),
    Field(
        "max_parallel_requests",
        "parallel",
        "NUMBER",
        "Requests at once.",
        options.whole_number,
        "a whole number",
        removed=None,
    ),
    Field(
        "allowed_models",
        "model",
        "NAME",
        "Only this model, by its exact name; * stands for any characters: 'gpt-4o*'.",
        is_list=True,
        removed=None,
    ),
    Field(
        "allowed_endpoints",
        "endpoint",
        "ENDPOINT",
        "Only this endpoint: 'POST /v1/chat/completions', '* /v1/files*'.",
        is_list=True,
        removed=None,
    ),
    Field(
        "allowed_ips",
        "ip",
        "ADDRESS",
        "Only from this address or network: 10.0.0.0/8.",
        is_list=True,
        removed=None,
    ),
)
"""The limits and policies, which projects and tokens have alike."""

MAX_REQUESTS = Field(
    "max_requests",
    "max-requests",
    "NUMBER",
    "Requests in the token's whole life.",
    options.whole_number,
    "a whole number",
    removed=0,
)
EXPIRES = Field(
    "expires_at",
    "expires",
    "TIME",
    "When the token expires: 30d, 12h, a date, a time of RFC 3339, or never.",
    _expiry,
    f"never, or {options.TIME}",
)
PROJECT_NAME = Field("name", "name", "NAME", "The new name.")
TOKEN_NAME = Field("name", "name", "NAME", "The new name.", removed=None)

_WORDS: Mapping[str, str] = {
    **{field.name: f"--{field.option}" for field in (*RULES, MAX_REQUESTS, EXPIRES)},
    "name": "the name",
    "api_key": "the key",
    "grace_seconds": "--grace",
    "project_id": "--project",
    "model": "--model",
}
"""The words for a field of a body in a message."""

_QUOTED = re.compile(r"(?:The field )?'(?P<name>\w+)(?:\[(?P<place>\d+)\])?(?:\.(?P<inner>\w+))?'")


def with_fields(
    added: Sequence[Field], *, removable: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of fields to a command; it gets the fields that were given as `body`.

    With `removable` fields the command also has their `--no-OPTION`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def collected(**given: Any) -> None:
            body: dict[str, object] = {}
            for field in added:
                value, is_removed = given.pop(field.name), given.pop(_removal(field), False)
                is_given = value is not None and value != []
                if is_removed and is_given:
                    raise click.UsageError(f"--{field.option} and --no-{field.option} exclude each other.")
                if is_removed:
                    body[field.name] = field.removed
                elif is_given:
                    body[field.name] = value
            command(body=body, **given)

        return options.with_options(collected, [made for field in added for made in _options(field, removable)])

    return decorate


def in_options(message: str) -> str:
    """Return a message about fields of a body in the words of the command line: `--limit` for `rate_limits[0]`."""
    told = _QUOTED.sub(_in_words, message)
    return told[:1].upper() + told[1:]


def _in_words(match: re.Match[str]) -> str:
    name, place, inner = match["name"], match["place"], match["inner"]
    if name == "rates" and inner:
        return f"--{inner.replace('_', '-')}"
    if name not in _WORDS:
        return match.group()
    return _WORDS[name] if place is None else f"{_WORDS[name]} (value {int(place) + 1})"


def _removal(field: Field) -> str:
    return f"no_{field.name}"


def _options(field: Field, removable: bool) -> Sequence[Callable[[Command], Command]]:
    made = [
        click.option(
            f"--{field.option}",
            field.name,
            metavar=field.metavar,
            multiple=field.is_list,
            callback=options.reading(field.read, field.expected),
            help=field.help,
        )
    ]
    if removable and field.removed is not _KEPT:
        removes = f"Remove what --{field.option} sets."
        made.append(click.option(f"--no-{field.option}", _removal(field), is_flag=True, help=removes))
    return made
