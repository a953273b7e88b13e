"""Shortens JSON as it streams by, so that a parser of whole documents can judge a body of any size.

The inside of long strings is cut: images, documents, long messages. What is cut is checked as strictly as a parser
would check it, so that the outline is JSON exactly where the body is. Where the demand of a request is asked for, the
tokens of what is cut are counted.
"""

import codecs
import json
import re
import secrets

from addon.demand import Cut, TextBound
from addon.reading.doubt import Doubt

LONG = 256
"""Bytes of a string, as it is written, that is kept."""

CUT = "\u2702"
"""The string that stands for a longer one."""

_CUT_KEY = re.compile(rb'"\\u2702[0-9a-f:]*"[ \t\r\n]*:')

MAX_OUTLINE = 4 * 1024 * 1024
"""Bytes of an outline."""
MAX_PARTS = 250_000
"""Lists, objects and fields of an outline. The parser takes 180 ms and 40 MiB for these at worst, with the rest."""

_STEP = 64 * 1024
"""Bytes that are looked at in one go: nothing else runs meanwhile."""

# RFC 8259, section 7, and only surrogates in pairs. Possessive, so that nothing is kept to try again.
_INSIDE = re.compile(
    rb"""(?:[^"\\\x00-\x1f]++
        | \\(?: ["\\/bfnrt]
              | u(?: [0-9a-cefA-CEF][0-9a-fA-F]{3}
                   | [dD][0-7][0-9a-fA-F]{2}
                   | [dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))
    )*+""",
    re.VERBOSE,
)
_LONGEST_ESCAPE = len(b"\\ud83d\\ude00")

_TOO_COMPLEX = "The body has too many parts to be read with certainty. Send fewer fields and elements in one request."
_NO_JSON = "The body is no strict JSON. Send one JSON object in UTF-8, as a JSON library writes it."


class Outline:
    """Takes a body in pieces of any size. Raises Doubt as soon as that cannot be JSON that all readers read alike.

    With `counts`, the strings that are cut are counted, and `restored` puts their counts in their places.
    """

    def __init__(self, *, counts: bool = False) -> None:
        self._counts = counts
        self._mark = f"{CUT}{secrets.token_hex(8)}:" if counts else CUT  # that no body can hold
        self._cuts: list[Cut] = []
        self._bound: TextBound | None = None
        self._outline = bytearray()
        self._rest = b""
        self._string: bytearray | None = None
        self._length = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
        for start in range(0, len(data), _STEP):
            self._step(data[start : start + _STEP])
            if len(self._outline) > MAX_OUTLINE:
                raise Doubt(_TOO_COMPLEX)

    def finish(self) -> bytes:
        """Return the outline of the whole body."""
        self._check_utf8(b"", is_last=True)
        if self._string is not None or self._rest:
            raise Doubt(_NO_JSON)
        outline = bytes(self._outline)
        if sum(map(outline.count, (b"[", b"{", b":"))) > MAX_PARTS:
            raise Doubt(_TOO_COMPLEX)
        if _CUT_KEY.search(outline):
            raise Doubt(f"The body names a field with more than {LONG} bytes. Send a shorter name.")
        return outline

    def _step(self, data: bytes) -> None:
        self._check_utf8(data)
        data, self._rest = self._rest + data, b""
        place = 0
        while place < len(data):
            place = self._between(data, place) if self._string is None else self._inside(data, place, self._string)

    def _between(self, data: bytes, place: int) -> int:
        """Copy what is outside of strings, up to the next quotation mark."""
        quote = data.find(b'"', place)
        if quote < 0:
            self._outline += data[place:]
            return len(data)
        self._outline += data[place:quote]
        self._string, self._length = bytearray(), 0
        return quote + 1

    def _inside(self, data: bytes, place: int, string: bytearray) -> int:
        """Check the inside of a string, and keep it as long as it is short."""
        found = _INSIDE.match(data, place)
        end = found.end() if found else place
        self._length += end - place
        if self._length <= LONG:
            string += data[place:end]
        elif self._counts:
            self._count(string, data[place:end])
        if end == len(data):
            return end
        if data[end] == ord('"'):
            self._outline += b'"%b"' % bytes(string) if self._length <= LONG else self._cut(string)
            self._string = None
            return end + 1
        if data[end] != ord("\\") or len(data) - end >= _LONGEST_ESCAPE:
            raise Doubt(_NO_JSON)
        self._rest = data[end:]  # an escape that may go on in the next piece
        return len(data)

    def _count(self, start: bytearray, data: bytes) -> None:
        """Count a part of a string that is cut; `start` is what was kept of it."""
        if self._bound is None:
            self._bound = TextBound(is_escaped=True)
            self._bound.feed(bytes(start))
            whole = _INSIDE.match(data, 0, LONG - len(start))
            start += data[: whole.end() if whole else 0]
        self._bound.feed(data)

    def _cut(self, start: bytearray) -> bytes:
        """Return what stands for a string that is cut."""
        bound, self._bound = self._bound, None
        if bound is None:
            return json.dumps(self._mark).encode()
        bound.finish()
        beginning = start.decode(errors="ignore")  # it may end within a character
        self._cuts.append(Cut(json.loads(f'"{beginning}"'), self._length, bound))
        return json.dumps(f"{self._mark}{len(self._cuts) - 1}").encode()

    def restored(self, value: object) -> object:
        """Return the value of the outline with the counts of the strings that were cut in their places."""
        match value:
            case str() if self._cuts and value.startswith(self._mark):
                return self._cuts[int(value.removeprefix(self._mark))]
            case list():
                return [self.restored(item) for item in value]
            case dict():
                return {name: self.restored(item) for name, item in value.items()}
        return value

    def _check_utf8(self, data: bytes, *, is_last: bool = False) -> None:
        try:
            self._decoder.decode(data, is_last)
        except UnicodeDecodeError:
            raise Doubt(_NO_JSON) from None
