"""The parameters of a query, read as the store wants them; openapi.yaml has been enforced when they get here."""

import uuid

import flask

from store import clock
from store.errors import InvalidRequest


def parameter(name: str) -> str | None:
    """Return a parameter of the query. Raises InvalidRequest for a repeated one: it is not known which is meant."""
    values = flask.request.args.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"The query parameter '{name}' is given more than once.")
    return values[0] if values else None


def identifier(name: str) -> str | None:
    """Return a UUID of the query as the store writes it. Raises InvalidRequest for a repeated one."""
    text = parameter(name)
    return None if text is None else canonical(text)


def moment(name: str) -> int | None:
    """Return a time of the query in microseconds. Raises InvalidRequest for a repeated one."""
    text = parameter(name)
    return None if text is None else clock.from_rfc3339(text)


def number(name: str) -> int | None:
    """Return a whole number of the query. Raises InvalidRequest.

    Python's own reader, which openapi-core uses, takes blanks, signs, underscores and the digits of any script too.
    """
    text = parameter(name)
    if text is not None and not (text.isascii() and text.isdecimal()):
        raise InvalidRequest(f"The query parameter '{name}' must be written in the digits 0 to 9 alone.")
    return None if text is None else int(text)


def canonical(text: str) -> str:
    """Write a UUID as the store does: in lower case."""
    return str(uuid.UUID(text))
