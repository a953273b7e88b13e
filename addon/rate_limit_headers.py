"""The headers that tell clients how their windows of requests and tokens stand, named and written as OpenAI does."""

import functools

from store.limits.window import Standing

_PREFIX = b"x-ratelimit-"


def fields(window: Standing) -> list[tuple[bytes, bytes]]:
    """Return the headers of a window."""
    limit, remaining, reset = _names(window.unit)
    return [
        (limit, b"%d" % window.maximum),
        (remaining, b"%d" % window.remaining),
        (reset, duration(window.resets_in).encode()),
    ]


@functools.cache
def _names(unit: str) -> tuple[bytes, bytes, bytes]:
    limit, remaining, reset = [
        b"%b%b-%b" % (_PREFIX, kind, unit.encode()) for kind in (b"limit", b"remaining", b"reset")
    ]
    return limit, remaining, reset


def is_of(window: Standing, name: bytes) -> bool:
    """Tell whether a header, by its name in small letters, is about the unit of a window."""
    return name.startswith(_PREFIX) and name.endswith(b"-" + window.unit.encode())


def duration(microseconds: int) -> str:
    """Return a time in the form of Go, which OpenAI uses: `120ms`, `1.5s`, `6m0s`, `1h0m0s`, `0s`.

    It is rounded up to milliseconds.
    """
    seconds, milliseconds = divmod(-(-microseconds // 1000), 1000)
    if milliseconds and not seconds:
        return f"{milliseconds}ms"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}.{milliseconds:03}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
