"""The formats of openapi.yaml, as they are checked: in requests by `contract`, in bodies alone by `bodies`."""

import re
from collections.abc import Callable, Mapping

from store.clock import from_rfc3339
from store.reports.time_zones import time_zone

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)

_LENGTH_OF_DATE = len("2026-11-25")


def _is_uuid(value: object) -> bool:
    """Tell whether a text is a UUID in the form of RFC 9562. `uuid.UUID` accepts the digits of any script too."""
    return not isinstance(value, str) or _UUID.fullmatch(value) is not None


def _is_date(value: object) -> bool:
    """Tell whether a text is a date, such as `2026-11-25`."""
    return not isinstance(value, str) or (len(value) == _LENGTH_OF_DATE and _can_be_read(value))


def _is_time(value: object) -> bool:
    """Tell whether a text is a time of RFC 3339, with its offset from UTC."""
    return not isinstance(value, str) or (len(value) > _LENGTH_OF_DATE and _can_be_read(value))


def _is_time_zone(value: object) -> bool:
    """Tell whether a text is the name of a time zone."""
    try:
        return not isinstance(value, str) or bool(time_zone(value))
    except ValueError:
        return False


def _can_be_read(text: str) -> bool:
    try:
        from_rfc3339(text)
    except ValueError:
        return False
    return True


CHECKS: Mapping[str, Callable[[object], bool]] = {
    "uuid": _is_uuid,
    "date": _is_date,
    "date-time": _is_time,
    "time-zone": _is_time_zone,
}
"""Checks by the names of the formats; a value that is no text passes, as its type has a fault of its own."""
