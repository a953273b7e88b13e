"""Read-only fields of a PATCH. One that has its present value is taken, so that what was read can be sent back."""

import json
from collections.abc import Callable, Mapping

from manage_api.contract import read_only_fields
from manage_api.schemas import JSONObject
from store.clock import from_rfc3339
from store.errors import InvalidRequest


def check[Record](show: Callable[[Record], JSONObject]) -> Callable[[Record], None] | None:
    """Return a check of the request's read-only fields against a record as `show` shows it; None where it has none."""
    sent = read_only_fields()
    return (lambda record: require_present(sent, show(record))) if sent else None


def require_present(sent: Mapping[str, object], shown: Mapping[str, object]) -> None:
    """Compare read-only fields that were sent with the object as it is shown: times as moments, UUIDs in any case.

    Raises InvalidRequest that names those that differ: ignored, they would seem to be changed.
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
