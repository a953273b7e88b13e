"""The headers that tell clients how their window of requests stands, named and written as OpenAI does."""

from store.limits.window import Standing

_PREFIX = b"x-ratelimit-"
_UNIT = b"-requests"


def fields(window: Standing) -> list[tuple[bytes, bytes]]:
    """Return the headers of a window."""
    told = {"limit": str(window.maximum), "remaining": str(window.remaining), "reset": duration(window.resets_in)}
    return [(b"%b%b%b" % (_PREFIX, name.encode(), _UNIT), value.encode()) for name, value in told.items()]


def is_of_requests(name: bytes) -> bool:
    """Tell whether a header, by its name in small letters, is about requests in a window."""
    return name.startswith(_PREFIX) and name.endswith(_UNIT)


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
