"""A bounded copy of a body of any size: all of a small one, the head and the tail of a large one."""

EDGE = 64 * 1024
"""Bytes of the head and of the tail; a body of up to so many may be parsed as a whole."""

_BOM = b"\xef\xbb\xbf"


class HeadAndTail:
    """Keeps a whole body of up to `most` bytes (at least EDGE); of a larger one the first and the last EDGE bytes.

    A BOM is kept but not returned: parsers of JSON reject it.
    """

    __slots__ = ("_end", "_most", "_start", "size")

    def __init__(self, most: int = EDGE) -> None:
        self.size = 0
        self._most = most
        self._start = bytearray()
        self._end: bytearray | None = None

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
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
        """Return the whole body, or None where it is larger than what is kept."""
        return bytes(self._start).removeprefix(_BOM) if self._end is None else None

    def start(self) -> bytes:
        """Return the first bytes, at most EDGE."""
        return bytes(self._start[:EDGE]).removeprefix(_BOM)

    def end(self) -> bytes:
        """Return the last bytes, at most EDGE."""
        return bytes((self._start if self._end is None else self._end)[-EDGE:])
