"""Reads the model in a multipart form (RFC 7578) that all readers read alike.

Only the canonical form is taken, which is what clients send: readers differ on everything else, such as lines that end
with LF, text before the first part, comments, continued lines, or a name that is given twice.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from addon.demand import Cut, TextBound
from addon.protocol.json_fields import Fields
from addon.reading.doubt import Doubt
from addon.reading.names import MAX_MODEL, MODEL, checked_model, folded, names_models

KEPT = 4096
"""Bytes of a field, or of a file, that are kept."""

MAX_HEADERS = 4096
"""Bytes of the headers of a part."""
MAX_PARTS = 1000
"""Parts of a form; each takes ten microseconds."""

_LINE = b"\r\n"
_END_OF_HEADERS = b"\r\n\r\n"
_END = b"--"

_HEADER = re.compile(rb"(content-(?:disposition|type|length)): {0,4}([^\x00-\x1f\x7f]*)", re.IGNORECASE)
_DISPOSITION = re.compile(
    rb"""form-data;[ ]?name=(?: "([A-Za-z0-9_.\[\]-]+)" | ([A-Za-z0-9_.-]+) )
        (?P<file> (?: ;[ ]?filename=(?: "[^"\\;\x00-\x1f\x7f]*" | [A-Za-z0-9_.-]+ ) )?
                  (?: ;[ ]?filename\*=utf-8''[A-Za-z0-9%!\#$&+.^_`|~-]+ )? )""",
    re.IGNORECASE | re.VERBOSE,
)
_NESTING = re.compile(rb"\s*(?:multipart|message)/", re.IGNORECASE)
_TEXT = re.compile(rb"""text/plain(?:;[ ]?charset="?(?:utf-8|us-ascii|iso-8859-1)"?)?""", re.IGNORECASE)
_NAME_AGAIN = re.compile(rb"name\s*\*?\s*=", re.IGNORECASE)
_CHARSET = "charset"
"""The folded name of the field `_charset_`, which changes how others are decoded (HTML, section 4.10.22)."""

_UNUSUAL = "The form is written in an unusual way. Send it as an HTTP library writes it."
_TWICE = "The form names a model in two fields. Send one field 'model'."


class FormFields(NamedTuple):
    """The fields of a form. Files, and long texts, are `Cut`: their beginnings and their sizes."""

    model: str
    fields: Fields


class Form:
    """Takes a form in pieces of any size, and keeps little more than its model. Raises Doubt where readers may differ.

    `boundary` is that of the Content-Type.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"--" + boundary
        self._buffer = bytearray()
        self._read = self._first
        self._is_model = False
        self._value = bytearray()
        self._model: str | None = None
        self._fields: dict[str, object] = {}
        self._name, self._is_file = "", False
        self._size = 0
        self._parts = 0

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
        self._buffer += data
        while self._read():
            pass

    def finish(self) -> FormFields:
        """Return the model of the whole form, and its other fields."""
        if self._read != self._epilogue or bytes(self._buffer) not in {b"", _LINE}:
            raise Doubt(_UNUSUAL)
        if self._model is None:
            raise Doubt("The form does not name its model. Send it in a field 'model'.")
        return FormFields(self._model, self._fields)

    # Each of these reads one element, and returns whether there was a whole one.

    def _first(self) -> bool:
        start = self._delimiter + _LINE
        if not start.startswith(self._buffer[: len(start)]):
            raise Doubt(_UNUSUAL)
        if len(self._buffer) < len(start):
            return False
        del self._buffer[: len(start)]
        self._read = self._headers
        return True

    def _headers(self) -> bool:
        end = self._buffer.find(_END_OF_HEADERS, 0, MAX_HEADERS + len(_END_OF_HEADERS))
        if end < 0:
            if len(self._buffer) > MAX_HEADERS:
                raise Doubt(_UNUSUAL)
            return False
        headers = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END_OF_HEADERS)]
        self._begin(headers)
        self._read = self._data
        return True

    def _data(self) -> bool:
        found = self._buffer.find(self._delimiter)
        if found < 0:
            self._take(len(self._buffer) - len(self._delimiter) - len(_LINE))
            return False
        end = found + len(self._delimiter) + len(_LINE)
        if len(self._buffer) < end:
            return False
        after = bytes(self._buffer[end - len(_LINE) : end])
        if self._buffer[max(0, found - len(_LINE)) : found] != _LINE or after not in {_LINE, _END}:
            raise Doubt(_UNUSUAL)
        self._take(found - len(_LINE))
        self._complete()
        del self._buffer[: len(_LINE) + len(self._delimiter) + len(_LINE)]
        self._read = self._headers if after == _LINE else self._epilogue
        return True

    def _epilogue(self) -> bool:
        if not _LINE.startswith(self._buffer):
            raise Doubt(_UNUSUAL)
        return False

    def _begin(self, block: bytes) -> None:
        """Begin a part with its headers."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Doubt(f"The form has more than {MAX_PARTS} parts. Send fewer.")
        headers: dict[bytes, bytes] = {}
        for line in block.split(_LINE):
            found = _HEADER.fullmatch(line)
            if not found or found[1].lower() in headers or self._delimiter in line:
                raise Doubt(_UNUSUAL)
            headers[found[1].lower()] = found[2].strip()
        found = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
        kind = headers.get(b"content-type")
        if not found or _NAME_AGAIN.search(found["file"].replace(b"filename", b"")) or not _is_utf8(found["file"]):
            raise Doubt(_UNUSUAL)
        if kind is not None and _NESTING.match(kind):
            raise Doubt("A part of the form is a form itself, which readers read differently. Send plain parts.")
        self._begin_field((found[1] or found[2]).decode(), kind, is_file=bool(found["file"]))

    def _begin_field(self, name: str, kind: bytes | None, *, is_file: bool) -> None:
        fold = folded(name)
        self._name, self._is_file, self._size, self._value = name, is_file, 0, bytearray()
        self._is_model = name == MODEL
        if fold == _CHARSET:
            raise Doubt("The form changes its charset. Send it in UTF-8, without the field '_charset_'.")
        if not names_models(fold):
            return
        if not self._is_model or self._model is not None:
            raise Doubt(_TWICE)
        if is_file or (kind is not None and not _TEXT.fullmatch(kind)):
            raise Doubt("The field 'model' of the form is no plain text. Send it without a file name or a type.")

    def _take(self, length: int) -> None:
        """Move bytes of a part out of the buffer."""
        if length <= 0:
            return
        self._size += length
        if len(self._value) < KEPT:
            self._value += self._buffer[: min(length, KEPT - len(self._value))]
        if self._is_model and self._size > MAX_MODEL:
            raise Doubt(f"The name of a model is longer than {MAX_MODEL} bytes.")
        del self._buffer[:length]

    def _complete(self) -> None:
        if not self._is_model:
            self._add_field()
            return
        if not _is_utf8(self._value):
            raise Doubt("The field 'model' of the form is no UTF-8.")
        self._model = checked_model(self._value.decode())
        self._is_model = False

    def _add_field(self) -> None:
        """Keep a field: a text, or the beginning of a file; of several with one name, a list."""
        value: object = Cut(self._value.decode("latin-1"), self._size, TextBound())
        if not self._is_file and self._size <= KEPT:
            value = self._value.decode(errors="replace")
        known = self._fields.get(self._name)
        self._fields[self._name] = value if known is None else [*(known if isinstance(known, list) else [known]), value]


def read_form(pieces: Iterable[bytes], boundary: bytes) -> FormFields:
    """Return the fields of a form in pieces of any size. Raises Doubt where readers may differ."""
    form = Form(boundary)
    for piece in pieces:
        form.feed(piece)
    return form.finish()


def _is_utf8(data: bytes | bytearray) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
