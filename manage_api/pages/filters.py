"""Reads the filters of a page from its query, as people type them: times, projects, tokens by their names.

An empty parameter is none: a form sends all of its fields. Unlike the API's, times may be relative, so that an address
that is kept shows the last hour, or the last month, on any day.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import urlencode

import flask

from manage_api import words
from store import clock
from store.errors import InvalidRequest
from store.management import names
from store.management.tokens import TokenRecord, Tokens
from store.reports.pages import Cursor
from store.store import Store

TIMES = "a time ago such as “1h” or “7d”, today, yesterday, this or last week or month, 2026-11-25, or 2026-11-25 18:30"
"""The texts that `moment` reads, for people."""

MAX_TEXT = 2048
"""Characters of a filter at most."""

_OFFERED = 20
"""Tokens of a name that are offered at most."""

_LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?")

_DAYS: Mapping[str, Callable[[date], date]] = {
    "today": lambda day: day,
    "yesterday": lambda day: day - timedelta(days=1),
    "this week": lambda day: day - timedelta(days=day.weekday()),
    "last week": lambda day: day - timedelta(days=day.weekday() + 7),
    "this month": lambda day: day.replace(day=1),
    "last month": lambda day: (day.replace(day=1) - timedelta(days=1)).replace(day=1),
}
"""Words for days, by today's date: a week begins on Monday."""


def text(name: str) -> str | None:
    """Return a parameter of the query; None for an empty one. Raises InvalidRequest for one over MAX_TEXT."""
    found = flask.request.args.get(name, "").strip()
    if len(found) > MAX_TEXT:
        raise InvalidRequest("The address is too long: a filter has up to 2,048 characters.")
    return found or None


def present(*names_of_parameters: str) -> dict[str, Any]:
    """Return those parameters of the query that are given, to make links of."""
    return {name: given for name in names_of_parameters if (given := flask.request.args.get(name, "").strip())}


def address(place: str, query: Mapping[str, Any], /, **changes: object) -> str:
    """Return the address of a page (its endpoint in Flask) with a query, and changes of it; None leaves one out.

    `url_for` cannot make it: `endpoint` is a parameter of ours.
    """
    asked = {name: value for name, value in {**query, **changes}.items() if value is not None}
    return "?".join(filter(None, [flask.url_for(place), urlencode(asked, doseq=True)]))


def moment(name: str, label: str, zone: tzinfo = UTC) -> int | None:
    """Return a parameter that is one of TIMES, in microseconds. Raises InvalidRequest."""
    given = text(name)
    try:
        return None if given is None else read_moment(given, clock.now(), zone)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"“{label}” must be {TIMES}.") from None


def read_moment(given: str, now: int, zone: tzinfo) -> int:
    """Read one of TIMES as people write it in a time zone, or a time of RFC 3339. Raises ValueError, OverflowError."""
    word, ago = given.lower(), words.read_duration(given)
    if ago is not None:
        return max(now - ago, 0)
    if word in _DAYS:
        return clock.midnight(_DAYS[word](clock.date_in(now, zone)), zone)
    if _LOCAL.fullmatch(given):
        return min(max(_microseconds(datetime.fromisoformat(given).replace(tzinfo=zone)), 0), clock.NEVER)
    return clock.from_rfc3339(given, zone)


def number(name: str, label: str, least: int, most: int) -> int | None:
    """Return a parameter that is a whole number. Raises InvalidRequest."""
    given = text(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 20 and least <= int(given) <= most):  # noqa: PLR2004
        raise InvalidRequest(f"“{label}” must be a whole number from {least} to {most}.")
    return int(given)


def choice(name: str, label: str, choices: Sequence[str]) -> str | None:
    """Return a parameter that is one of some texts. Raises InvalidRequest."""
    given = text(name)
    if given is not None and given not in choices:
        raise InvalidRequest(f"“{label}” must be one of the choices of the form.")
    return given


def project_id() -> str | None:
    """Return the parameter `project_id` in the store's form. Raises InvalidRequest."""
    given = text("project_id")
    found = given and as_uuid(given)
    if given and not found:
        raise InvalidRequest("“Project” must be one of the choices of the form, or a project's id.")
    return found


def token_id(store: Store) -> str | None:
    """Return the public id of the parameter `token_id`: a token's id, value or name, of a deleted one too.

    Raises InvalidRequest for a name that no token has, or several have: `tokens_of_name` are those to choose from.
    """
    given = text("token_id")
    if given is None:
        return None
    canonical = as_uuid(given)
    if canonical:
        return Tokens(store).public_id(canonical)
    with store.database.read():
        found = names.tokens_named(store.database, given)
        deleted = names.tokens_named(store.database, given, deleted=True)
    if not found and not deleted:
        raise InvalidRequest("No token has this name or id.")
    if not found and len(deleted) > 1:
        raise InvalidRequest(f"{len(deleted):,} tokens of this name are deleted: give the id of one.")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found):,} tokens have this name. Choose one of them:")
    return (found or deleted)[0]


def tokens_of_name(store: Store) -> Sequence[TokenRecord]:
    """Return the first tokens that have the name in the parameter `token_id`, if several have it; otherwise none."""
    given = flask.request.args.get("token_id", "").strip()
    if not given or len(given) > MAX_TEXT or as_uuid(given):
        return ()
    with store.database.read():
        found = names.tokens_named(store.database, given)
    tokens = Tokens(store)
    return [tokens.get(each) for each in found[:_OFFERED]] if len(found) > 1 else ()


def has_value_of(token_id: str | None) -> bool:
    """Tell whether the query has the value of the token that it selects: that must not stay in an address."""
    given = as_uuid(flask.request.args.get("token_id", "").strip())
    return token_id is not None and given not in {None, token_id}


def cursor() -> Cursor | None:
    """Return the cursor of the page. Raises InvalidRequest."""
    given = text("cursor")
    return Cursor.parse(given) if given else None


def as_uuid(given: str) -> str | None:
    """Return a UUID in the store's form; None for another text."""
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return None


def choices(store: Store, projects: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """Return the ids and names of projects, ordered by name, to choose one; the chosen one may be a deleted one."""
    chosen = as_uuid(flask.request.args.get("project_id", "").strip())
    if chosen and chosen not in projects:
        with store.database.read():
            name = names.of_projects(store.database, [chosen]).get(chosen, chosen)
        projects = {**projects, chosen: f"{name} (deleted)"}
    return sorted(projects.items(), key=lambda pair: (pair[1].lower(), pair))


def _microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
