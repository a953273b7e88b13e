"""Reads forms into the bodies of the API, whose rules hold for them, and shows objects in the same words.

A field is a line of text, or a text with one entry a line. Beside each field of an object that is there already a form
holds the text that it had (`was-…`): only fields that were changed are written, so that a form that was open for long
undoes no change of another administrator.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from manage_api import words
from store import clock
from store.errors import InvalidRequest
from store.management.projects import ProjectRecord
from store.management.tokens import TokenRecord

type Texts = Mapping[str, str]
"""The fields of a form."""

NOTHING = "nothing"
"""The only entry of a list that allows nothing."""

_NEVER = "never"


class Field(NamedTuple):
    """A field of a form: its label, the help below it, and how its text, or a line of it, is read and shown.

    `read` raises ValueError for a text that is not `expected`. `empty` is the value of an empty text, unless the field
    `is_required`.
    """

    name: str
    label: str
    help: str
    read: Callable[[str], object] = str
    expected: str = ""
    is_list: bool = False
    empty: object = None
    is_required: bool = False


def _whole_number(text: str) -> int:
    plain = text.replace(",", "").replace(" ", "")
    if not (plain.isascii() and plain.isdecimal()) or len(plain) > len(str(10**20)):
        raise ValueError("no whole number")
    return int(plain)


def _expiry(text: str) -> str:
    if text.lower() == _NEVER:
        return clock.to_rfc3339(clock.NEVER)
    duration = words.read_duration(text)
    if duration is not None:
        return clock.to_rfc3339(clock.now() + duration)
    return clock.to_rfc3339(clock.from_rfc3339(text))


NAME = Field("name", "Name", "")
RULES: Sequence[Field] = (
    Field(
        "rate_limits",
        "Limits",
        "One a line, such as “60 requests a minute” or “100,000 tokens an hour”. No line: no limit.",
        words.read_window,
        "requests or tokens in a second, minute, hour or day, such as “60 requests a minute”",
        is_list=True,
    ),
    Field(
        "budgets",
        "Budgets",
        "One a line, such as “$100 a month” or “$5 a day”; days are those of UTC. No line: no budget.",
        words.read_budget,
        "US dollars in a day, week or month, or in total, such as “$100 a month”",
        is_list=True,
    ),
    Field(
        "max_parallel_requests", "Requests at once", "Empty: any number.", _whole_number, "a whole number, such as 8"
    ),
    Field(
        "allowed_models",
        "Models",
        "One a line, by its exact name. No line: all models; “nothing”: none.",
        is_list=True,
    ),
    Field(
        "allowed_endpoints",
        "Endpoints",
        "One a line, such as “POST /v1/chat/completions” or “* /v1/files*”. No line: all endpoints.",
        is_list=True,
    ),
    Field(
        "allowed_ips",
        "Addresses",
        "One a line: the addresses or networks of clients, such as 10.0.0.0/8. No line: all addresses.",
        is_list=True,
    ),
)
MAX_REQUESTS = Field(
    "max_requests",
    "Requests in all",
    "In the token's whole life. Empty: any number.",
    _whole_number,
    "a whole number, such as 1000",
    empty=0,
)
EXPIRES = Field(
    "expires_at",
    "Expires",
    "A time from now, such as “30 days” or “12 hours”, a date such as 2026-12-31, or “never”.",
    _expiry,
    "a time from now such as “30 days”, a date such as 2026-12-31, a time of RFC 3339, or “never”",
    is_required=True,
)


def body(fields: Sequence[Field], form: Texts) -> dict[str, object]:
    """Return the fields of a form as the API takes them, without those that still have the text that they had.

    Raises InvalidRequest that names the field, and the line, that cannot be read.
    """
    return {field.name: _value(field, form.get(field.name, "")) for field in fields if _is_changed(field.name, form)}


def in_labels(message: str, fields: Sequence[Field]) -> str:
    """Return a message about fields of a body with the labels of the form: `Limits (line 1)` for `rate_limits[0]`."""
    labels = {field.name: field.label for field in fields}

    def label(match: re.Match[str]) -> str:
        found = labels.get(match["name"])
        if found is None:
            return match.group()
        return f"“{found}”" if match["place"] is None else f"“{found}” (line {int(match['place']) + 1})"

    told = _QUOTED.sub(label, message)
    return told[:1].upper() + told[1:]


_QUOTED = re.compile(r"(?:[Tt]he field )?'(?P<name>\w+)(?:\[(?P<place>\d+)\](?:\.\w+)?)?'")


def texts_of(record: ProjectRecord | TokenRecord) -> dict[str, str]:
    """Return the texts of the fields of a project or a token."""
    parallel = record.max_parallel_requests
    return {
        "name": record.name or "",
        "rate_limits": "\n".join(words.windows(record.rate_limits)),
        "budgets": "\n".join(words.budgets(record.budgets)),
        "max_parallel_requests": "" if parallel is None else str(parallel),
        **{name: _lines(record.policies.get(name)) for name in ("allowed_models", "allowed_endpoints", "allowed_ips")},
    }


def _lines(entries: object) -> str:
    if entries is None:
        return ""
    return "\n".join(map(str, entries)) or NOTHING  # type: ignore[call-overload] # a list of the API


def _is_changed(name: str, form: Texts) -> bool:
    was = form.get(f"was-{name}")
    return was is None or _unified(form.get(name, "")) != _unified(was)


def _unified(text: str) -> Sequence[str]:
    """Return the lines of a text without the blanks around them: browsers end lines by CR LF."""
    return [line.strip() for line in text.strip().splitlines()]


def _value(field: Field, text: str) -> object:
    lines = [line for line in _unified(text) if line]
    if field.is_list:
        if lines == [NOTHING] and field.read is str:
            return []
        return [_read(field, line, number) for number, line in enumerate(lines, 1)] or field.empty
    return _read(field, text.strip()) if lines or field.is_required else field.empty


def _read(field: Field, text: str, line: int | None = None) -> object:
    try:
        return field.read(text)
    except ValueError:
        place = "" if line is None else f" (line {line})"
        raise InvalidRequest(f"“{field.label}”{place} must be {field.expected}.") from None
