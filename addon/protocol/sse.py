"""Decodes server-sent events from a stream of bytes, as in section 9.2.6 of the HTML standard, without any I/O.

A chunk may end anywhere: within an event, a line end, a character. So only line ends are decoded: CR, LF and CRLF.
U+2028 and its like end no line, and the data of an event stays bytes, which parsers of JSON accept.
"""

from typing import NamedTuple

MAX_EVENT = 4 * 1024 * 1024
"""Default of the bytes that are held of an event. The last event of a response repeats all of its output."""

_BOM = b"\xef\xbb\xbf"
_COMMENT = b":"


class Event(NamedTuple):
    """An event: its type, and its data with its lines joined by LF."""

    type: bytes
    data: bytes


class Decoder:
    """Decodes one stream: each chunk gives the events that it completes.

    It holds at most `max_event` bytes (of one event, with its comments) beside the chunk. A larger event is skipped as
    a whole and counted in `skipped`; the next one is decoded again. An event that the stream's end cuts is dropped.
    """

    __slots__ = ("_after_cr", "_data", "_max_event", "_partial", "_size", "_start", "_type", "skipped")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.skipped = 0
        self._max_event = max_event
        self._start: bytes | None = b""
        self._after_cr = False
        self._partial = bytearray()
        self._data: list[bytes] = []
        self._type = b""
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that end in this chunk, in order."""
        *lines, rest = self._with_plain_line_ends(chunk).split(b"\n")
        events = []
        for line in lines:
            whole = self._complete(line) if self._partial else line
            self._size += len(line)
            if whole:
                self._read(whole)
            else:
                if self._data and not self._is_too_large():
                    events.append(Event(self._type or b"message", b"\n".join(self._data)))
                self._begin()
        if rest:
            self._hold(rest)
        return events

    def _with_plain_line_ends(self, chunk: bytes) -> bytes:
        """Return a chunk without the stream's BOM, and with LF as every line end."""
        if self._start is not None:
            chunk = self._without_bom(self._start + chunk)
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _without_bom(self, start: bytes) -> bytes:
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start  # it may become one
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _complete(self, line: bytes) -> bytes:
        self._partial += line
        whole = bytes(self._partial)
        self._partial.clear()
        return whole

    def _read(self, line: bytes) -> None:
        """Read a field of the event; `id` and `retry` are ignored."""
        if self._is_too_large():
            self._data.clear()
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._type = value.removeprefix(b" ")

    def _hold(self, rest: bytes) -> None:
        """Hold the start of a line; of an event that is too large only that the line is not empty."""
        self._size += len(rest)
        if self._is_too_large():
            self._data.clear()
            self._partial[:] = _COMMENT
        else:
            self._partial += rest

    def _begin(self) -> None:
        self.skipped += self._is_too_large()
        self._data.clear()
        self._type = b""
        self._size = 0

    def _is_too_large(self) -> bool:
        return self._size > self._max_event
