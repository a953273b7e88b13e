"""Decodes server-sent events from a stream of bytes, as in section 9.2.6 of the HTML standard, without any I/O.

A chunk may end anywhere: within an event, a line end, a character. So only line ends are decoded: CR, LF and CRLF.
U+2028 and its like end no line, and the data of an event stays bytes, which parsers of JSON accept.
"""

from typing import NamedTuple

from addon.protocol.head_and_tail import EDGE

MAX_EVENT = 4 * 1024 * 1024
"""Default of the bytes that are held of an event's data. The last event of a response repeats all of its output.

Of larger data the first and the last EDGE bytes are kept.
"""

_LONG_LINE = 4096
"""Bytes of a line from which on it is read before its end; of a field other than the data, those that matter."""

_BOM = b"\xef\xbb\xbf"
_DATA = b"data:"


class Event(NamedTuple):
    """An event: its type, and its data with its lines joined by LF.

    Where `is_cut`, only the first and the last EDGE bytes of the data are there.
    """

    type: bytes
    data: bytes
    is_cut: bool = False


class Decoder:
    """Decodes one stream: each chunk gives the events that it completes.

    It holds at most `max_event` bytes (of the data of one event) beside the chunk. An event that the stream's end cuts
    is dropped.
    """

    __slots__ = (
        "_after_cr",
        "_data",
        "_edge",
        "_in_data",
        "_in_other",
        "_is_cut",
        "_max_event",
        "_partial",
        "_start",
        "_type",
    )

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._edge = min(EDGE, max_event // 2)
        self._start: bytes | None = b""
        self._after_cr = False
        self._partial = bytearray()
        """The start of a line that has not ended."""
        self._in_data = False
        """True within a long line of data, whose start is read."""
        self._in_other = False
        """True within another long line, which is ignored."""
        self._data: bytearray | None = None
        self._is_cut = False
        self._type = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that end in this chunk, in order."""
        *lines, rest = self._with_plain_line_ends(chunk).split(b"\n")
        events = []
        for line in lines:
            if self._in_data or self._in_other:
                self._end_long_line(line)
                continue
            whole = self._complete(line) if self._partial else line
            if whole:
                self._read(whole)
            else:
                if self._data is not None:
                    events.append(self._event(self._data))
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
        name, _, value = line.partition(b":")
        if name == b"data":
            self._add_line(value.removeprefix(b" "))
        elif name == b"event" and len(line) <= _LONG_LINE:
            self._type = value.removeprefix(b" ")

    def _hold(self, rest: bytes) -> None:
        """Hold the start of a line; read that of a long one, whose end may be far away."""
        if self._in_data:
            self._add(rest)
        elif not self._in_other:
            self._partial += rest
            if len(self._partial) > _LONG_LINE:
                self._begin_long_line(self._complete(b""))

    def _begin_long_line(self, start: bytes) -> None:
        self._in_data = start.startswith(_DATA)
        self._in_other = not self._in_data
        if self._in_data:
            self._add_line(start.removeprefix(_DATA).removeprefix(b" "))

    def _end_long_line(self, rest: bytes) -> None:
        if self._in_data:
            self._add(rest)
        self._in_data = self._in_other = False

    def _add_line(self, value: bytes) -> None:
        if self._data is None:
            self._data = bytearray()
            self._add(value)
        else:
            self._add(b"\n" + value)

    def _add(self, value: bytes) -> None:
        if self._data is not None:
            self._data += value
            if len(self._data) > self._max_event:
                self._cut(self._data)

    def _cut(self, data: bytearray) -> None:
        self._is_cut = True
        del data[self._edge : len(data) - self._edge]

    def _event(self, data: bytearray) -> Event:
        if self._is_cut:
            self._cut(data)
        return Event(self._type or b"message", bytes(data), self._is_cut)

    def _begin(self) -> None:
        self._data = None
        self._is_cut = False
        self._type = b""
