"""Reads query parameters into the store's types. They have passed the check against openapi.yaml before."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import flask

from manage_api.bodies import canonical
from store import clock
from store.errors import InvalidRequest
from store.reports.pages import DEFAULT_LIMIT, Cursor
from store.reports.time_zones import time_zone


def parameter(name: str) -> str | None:
    """Return a query parameter. Raises InvalidRequest for a repeated one, as it is ambiguous."""
    values = flask.request.args.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"The query parameter '{name}' is given more than once.")
    return values[0] if values else None


def identifier(name: str) -> str | None:
    """Return a query parameter that is a UUID, in the store's form. Raises InvalidRequest for a repeated one."""
    text = parameter(name)
    return None if text is None else canonical(text)


def moment(name: str, zone: tzinfo | None = None) -> int | None:
    """Return a query parameter that is a time, in microseconds; a date alone is its midnight in `zone` (default: UTC).

    Raises InvalidRequest for a repeated one.
    """
    text = parameter(name)
    return None if text is None else clock.from_rfc3339(text, zone or UTC)


def timezone(name: str) -> ZoneInfo | None:
    """Return a query parameter that names a time zone. Raises InvalidRequest for a repeated one."""
    text = parameter(name)
    return None if text is None else time_zone(text)


def number(name: str) -> int | None:
    """Return a query parameter that is a whole number. Raises InvalidRequest.

    openapi-core reads it with `int`, which accepts blanks, signs, underscores and the digits of any script too.
    """
    text = parameter(name)
    if text is not None and not (text.isascii() and text.isdecimal()):
        raise InvalidRequest(f"The query parameter '{name}' must be written in the digits 0 to 9 alone.")
    return None if text is None else int(text)


def cursor() -> Cursor | None:
    """Return the cursor of a page; None for the first one. Raises InvalidRequest."""
    text = parameter("cursor")
    return Cursor.parse(text) if text else None


def limit() -> int:
    """Return the rows of a page. Raises InvalidRequest."""
    return number("limit") or DEFAULT_LIMIT
