"""PATCH: the changes that a body names, and its read-only fields.

A read-only field is accepted with its current value, so that an object that was read can be sent back.
"""

import json
from collections.abc import Callable, Mapping

import flask

from manage_api import bodies
from manage_api.contract import read_only_fields
from manage_api.schemas import JSONObject
from store.clock import from_rfc3339
from store.errors import InvalidRequest


def changes[Changes: Mapping[str, object]](fields: type[Changes]) -> Changes:
    """Return the fields of a TypedDict that the request's body names."""
    return bodies.named(fields, flask.request.get_json())


def check[Record](show: Callable[[Record], JSONObject]) -> Callable[[Record], None] | None:
    """Return a check of the request's read-only fields against a record, shown by `show`; None without such fields."""
    sent = read_only_fields()
    return (lambda record: require_present(sent, show(record))) if sent else None


def require_present(sent: Mapping[str, object], shown: Mapping[str, object]) -> None:
    """Compare read-only fields that were sent with the current object: times by their moment, UUIDs in any case.

    Raises InvalidRequest that names the fields that differ. If they were ignored, they would seem to be changed.
    """
    other = [name for name, value in sent.items() if _comparable(value) != _comparable(shown[name])]
    if other:
        subject = "The field {} is" if len(other) == 1 else "The fields {} are"
        raise InvalidRequest(
            f"{subject.format(', '.join(f"'{name}'" for name in other))} read-only, and cannot be changed from the "
            "present value. Leave out what is not to be changed; a counter may have moved since it was read."
        )


def _comparable(value: object) -> object:
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    try:
        return from_rfc3339(value)
    except ValueError:
        return f'"{value.lower()}"'
