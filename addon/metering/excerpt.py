"""What is kept of a body that may be of any size, and the fields that can be read in it."""

import re
from collections.abc import Iterator

from addon.conversation.fields import Fields, parse

EDGE = 64 * 1024
"""Bytes of the start and of the end that are kept, and that a body may have to be parsed as a whole."""

_TRIES = 16
"""How often a name is looked for from the end: each try parses up to EDGE bytes."""
_KEYS = (b'"usage"', b'"model"', b'"service_tier"')
_MODEL_IN_FORM = re.compile(rb'[;\s]name="?model"?\s*(?:;|\r\n|$)', re.IGNORECASE)
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


class Excerpt:
    """All of a body up to `most` bytes (at least EDGE); of a larger one the first and the last EDGE bytes."""

    __slots__ = ("_end", "_most", "_start", "size")

    def __init__(self, most: int = EDGE) -> None:
        self.size = 0
        self._most = most
        self._start = bytearray()
        self._end: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if self._end is not None:
            self._end += data[-EDGE:]
            if len(self._end) > 2 * EDGE:
                del self._end[:-EDGE]
            return
        self._start += data
        if self.size > self._most:
            self._end = self._start[-EDGE:]
            self._start = self._start[:EDGE]

    def whole(self) -> bytes | None:
        """Return the whole body, or None where it is not kept."""
        return bytes(self._start) if self._end is None else None

    def start(self) -> bytes:
        """Return the first bytes, at most EDGE."""
        return bytes(self._start[:EDGE])

    def end(self) -> bytes:
        """Return the last bytes, at most EDGE."""
        return bytes((self._start if self._end is None else self._end)[-EDGE:])


def fields_of(document: Excerpt) -> Fields:
    """Return the top-level fields of a JSON object: all of a small one, of a large one what the excerpt tells.

    Of a large one that is `usage`, `model` and `service_tier` near its end, and what stands whole at its start.
    """
    if document.size <= EDGE:
        return parse(document.start()) or _first_fields(document.start())
    last = _last_fields(document.end())
    if {"usage", "model"} <= last.keys():
        return last  # the start of a list of vectors takes 2 ms
    return {**_first_fields(document.start()), **last}


def model_in_form(form: Excerpt, content_type: str) -> str | None:
    """Return the field `model` of a multipart form that tells it near its start or its end."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    boundary = b"--" + (found[1] or found[2]).encode(errors="replace")
    for edge in (form.start(), form.end()):
        for part in edge.split(boundary)[1:-1]:
            head, _, value = part.partition(b"\r\n\r\n")
            if _MODEL_IN_FORM.search(head):
                return value.removesuffix(b"\r\n").decode(errors="replace")
    return None


def _first_fields(start: bytes) -> Fields:
    """Return the fields that stand whole at the start of an object; the last one may be cut."""
    found = parse(start, cut=True)
    if found:
        found.popitem()
    return found


def _last_fields(end: bytes) -> Fields:
    """Return the fields from one of _KEYS on, where all that follows it shows that it is a key of the outermost object.

    Only then what follows, with a brace before it, is an object. In a text the name's quotation marks are escaped.
    """
    found: Fields = {}
    for key in _KEYS:
        rests = (parse(b"{" + end[place:]) for place in _places(key, end))
        found = {**next(filter(None, rests), {}), **found}
    return found


def _places(key: bytes, end: bytes) -> Iterator[int]:
    """Yield where a key stands, from the last to the first."""
    place = len(end)
    for _ in range(_TRIES):
        place = end.rfind(key, 0, place)
        if place < 0:
            return
        if not end.endswith(b"\\", 0, place):
            yield place
