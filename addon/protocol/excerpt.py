"""What is kept of a body that may be of any size, and the model that a form names."""

import re

EDGE = 64 * 1024
"""Bytes of the start and of the end that are kept, and that a body may have to be parsed as a whole."""

_BOM = b"\xef\xbb\xbf"
_MODEL_IN_FORM = re.compile(rb'[;\s]name="?model"?\s*(?:;|\r\n|$)', re.IGNORECASE)
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


class Excerpt:
    """All of a body up to `most` bytes (at least EDGE); of a larger one the first and the last EDGE bytes.

    Its BOM, if it has one, is kept but not shown: no JSON begins with it.
    """

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
        return bytes(self._start).removeprefix(_BOM) if self._end is None else None

    def start(self) -> bytes:
        """Return the first bytes, at most EDGE."""
        return bytes(self._start[:EDGE]).removeprefix(_BOM)

    def end(self) -> bytes:
        """Return the last bytes, at most EDGE."""
        return bytes((self._start if self._end is None else self._end)[-EDGE:])


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
