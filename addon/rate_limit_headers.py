"""The headers that tell clients how their windows of requests and tokens stand, named and written as OpenAI does."""

import functools
from collections.abc import Iterable, Sequence

from store.limits.window import Standing

PREFIX = b"x-ratelimit-"
_SECOND, _MINUTE = 1000, 60_000
"""In milliseconds."""


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
        b"%b%b-%b" % (PREFIX, kind, unit.encode()) for kind in (b"limit", b"remaining", b"reset")
    ]
    return limit, remaining, reset


def about(windows: Sequence[Standing], names: Iterable[bytes]) -> set[bytes]:
    """Return the headers, of some names in small letters, that are about the unit of one of these windows."""
    ends = tuple([b"-" + window.unit.encode() for window in windows])
    return {name for name in names if name.startswith(PREFIX) and name.endswith(ends)}


@functools.lru_cache(16)  # requests that are admitted together have the same
def duration(microseconds: int) -> str:
    """Return a time in the form of Go, which OpenAI uses: `120ms`, `1.5s`, `6m0s`, `1h0m0s`, `0s`.

    It is rounded up to milliseconds.
    """
    milliseconds = -(-microseconds // 1000)
    if 0 < milliseconds < _SECOND:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, _MINUTE)
    seconds = f"{milliseconds / _SECOND:g}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"
