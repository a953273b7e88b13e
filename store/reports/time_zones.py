"""Time zones by their IANA names. They come from the system, or from the package tzdata where it has none."""

import functools
import zoneinfo
from zoneinfo import ZoneInfo

UTC = "UTC"
"""The name of the time zone of reports that ask for no other."""

_OF_THE_MACHINE = frozenset({"localtime"})
"""Files beside those of the zones. Their meaning differs from machine to machine."""


def time_zone(name: str) -> ZoneInfo:
    """Return the time zone with a name, such as `Europe/Berlin`. Raises ValueError.

    Only the names of zones are looked up, so that no text leads to another file.
    """
    if name not in names():
        raise ValueError("no time zone")
    return ZoneInfo(name)


@functools.cache
def names() -> frozenset[str]:
    """Return the names of all zones. The search for them opens some 600 files, once a process."""
    return frozenset(zoneinfo.available_timezones() - _OF_THE_MACHINE)
