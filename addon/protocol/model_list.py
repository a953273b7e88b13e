"""Filters a list of models, the response to `GET /v1/models`. Every byte of what is shown stays as it came.

Three forms are known. Names are compared exactly.

- `{"data": [{"id": "gpt-4o", ...}, ...], ...}`: OpenAI, Anthropic, OpenRouter and most others;
- `{"models": [{"name": "models/gemini-2.5-pro", ...}, ...], ...}`: Google, whose requests may leave `models/` out. A
  list may have both fields, as llama.cpp's has;
- `[{"id": "meta-llama/...", ...}, ...]`: Together.

A list is read as strictly as JSON allows: readers differ about all else, and one of them might show what is hidden.
"""

import json
import re
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple, NoReturn

_NAMING = {"data": "id", "models": "name"}
"""The fields that hold models, and the field of each model that names it."""

_PREFIX = "models/"

_BLANKS = re.compile(r"[ \t\n\r]*")


def shown(body: bytes, allowed: Container[str]) -> bytes:
    """Return a list of models, in UTF-8, without those that are not in `allowed`.

    Raises ValueError for what is no list of models in strict JSON, with a name for each of them.
    """
    text = body.decode()
    kept, at = [], 0
    for start, end in cuts(text, allowed):
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]]).encode() if kept else body


def cuts(text: str, allowed: Container[str]) -> list[tuple[int, int]]:
    """Return the spans of a list of models that are to be cut out, in order: items, each with a comma and its blanks.

    Raises ValueError as `shown` does.
    """
    reader = _Reader(text, allowed)
    try:
        lists = reader.lists()
    except RecursionError:
        raise ValueError("the list of models is nested too deeply") from None
    return [cut for items in lists for cut in _cuts(items)]


class _Item(NamedTuple):
    """An item of a list, and its place in the text."""

    start: int
    end: int
    is_shown: bool


def _cuts(items: Sequence[_Item]) -> Iterator[tuple[int, int]]:
    """Yield the spans to cut from one list. A hidden item goes with the comma before it, or the one behind it."""
    is_first = True
    for number, item in enumerate(items):
        if item.is_shown:
            is_first = False
        elif not is_first:
            yield items[number - 1].end, item.end
        elif number + 1 < len(items):
            yield item.start, items[number + 1].start
        else:
            yield item.start, item.end


class _Reader:
    """Reads a list of models, from its start to its end."""

    def __init__(self, text: str, allowed: Container[str]) -> None:
        self._text = text
        self._allowed = allowed
        self._at = 0

    def lists(self) -> list[list[_Item]]:
        """Return the items of each array of models. Raises ValueError, or RecursionError for a deep text."""
        lists = self._fields() if self._next() == "{" else [self._items("id")]
        if not lists:
            raise ValueError("the object holds no list of models")
        if self._next():
            raise ValueError("something follows the list of models")
        return lists

    def _fields(self) -> list[list[_Item]]:
        """Read the fields of the object around the models."""
        lists: list[list[_Item]] = []
        names: set[str] = set()
        self._expect("{")
        while not self._ends("}", is_first=not names):
            name = self._value()
            if not isinstance(name, str) or name in names:
                raise ValueError("a field without a name, or two of one name")
            names.add(name)
            self._expect(":")
            if name in _NAMING:
                lists.append(self._items(_NAMING[name]))
            else:
                self._value()
        return lists

    def _items(self, field: str) -> list[_Item]:
        """Read an array of models, each with its name in a field."""
        items: list[_Item] = []
        self._expect("[")
        while not self._ends("]", is_first=not items):
            self._next()
            start = self._at
            model = self._value()
            items.append(_Item(start, self._at, any(name in self._allowed for name in _names(model, field))))
        return items

    def _ends(self, mark: str, *, is_first: bool) -> bool:
        """Read the end of an array or an object, or the comma before its next item."""
        if self._next() == mark:
            self._at += 1
            return True
        if not is_first:
            self._expect(",")
        return False

    def _value(self) -> object:
        self._next()
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise ValueError(f"no {mark} where one must be")
        self._at += 1

    def _next(self) -> str:
        """Skip blanks, and return the next character; nothing at the end."""
        found = _BLANKS.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]


def _names(model: object, field: str) -> tuple[str, ...]:
    """Return the names by which a request may ask for a model. Raises ValueError for one without a name."""
    match model:
        case {"name": str() as name} if field == "name":
            return name, name.removeprefix(_PREFIX)
        case {"id": str() as name} if field == "id":
            return (name,)
    raise ValueError("a model without a name")


def _object(fields: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(fields)
    if len(found) < len(fields):
        raise ValueError("two fields of one name")
    return found


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("a number that JSON does not know")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)
