"""Writes tables for a terminal: aligned columns, numbers to the right, amounts of money with six decimals.

On a terminal a table is as wide as that: it lacks columns, and longer texts are cut. Elsewhere it is whole.
"""

import json
import shutil
import sys
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from manage_api import export
from store import clock

UNKNOWN = "-"

JSON_FORMS = ("jsonl", "json")

_CUT = "…"

_GAP = "  "

_NARROWEST = 8
"""Columns of a terminal that a text keeps at least, however narrow the terminal is."""


class NumberText(str):
    """A number that is written already; it stands on the right, as numbers do."""

    __slots__ = ()


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write(
    columns: Mapping[str, str],
    objects: Iterable[Mapping[str, object]],
    *,
    width: int | None = None,
    dispensable: Sequence[str] = (),
    whole: Collection[str] = (),
) -> str:
    """Write the fields that `columns` names, each under its title. None becomes a dash.

    Where lines are longer than `width`, the `dispensable` columns are left out, one after the other, until they fit.
    Then texts are cut, the longest first, and those of the columns `whole` last. Numbers are never cut.
    """
    rows = [*objects]
    made = {name: _column(title, [each[name] for each in rows]) for name, title in columns.items()}
    if width is not None:
        for name in dispensable:
            if _length(made.values()) > width:
                made.pop(name, None)
        of_text = {name: column for name, column in made.items() if not column.is_numeric}
        _narrow([column for name, column in of_text.items() if name not in whole], _length(made.values()) - width)
        _narrow([*of_text.values()], _length(made.values()) - width)
    return "".join(_line([(column.texts[index], column) for column in made.values()]) for index in range(len(rows) + 1))


def filled(
    columns: Mapping[str, str], objects: Sequence[Mapping[str, object]], optional: Collection[str]
) -> Mapping[str, str]:
    """Return the columns without those of the `optional` ones in which no object has a value."""
    empty = {name for name in optional if all(each[name] is None for each in objects)}
    return {name: title for name, title in columns.items() if name not in empty}


def fields(values: Mapping[str, object]) -> str:
    """Write one field a line: its name, and its value, which is never cut."""
    width = max(_width(name) for name in values)
    return "".join(f"{_padded(name, width)}{_GAP}{_text(value)}\n" for name, value in values.items())


def as_json(shown: object) -> str:
    """Write JSON, in place of a table."""
    return json.dumps(shown, ensure_ascii=False, indent=2) + "\n"


def in_json(form: str, objects: Sequence[Mapping[str, object]]) -> str:
    """Write objects as one of JSON_FORMS: an array, or an object a line."""
    return export.as_json_lines(objects) if form == "jsonl" else as_json(objects)


def moment(microseconds: int | None) -> str | None:
    """Return a time as tables show it: UTC, to the minute; `never` for the expiry of a token that has none."""
    if microseconds is None:
        return None
    return "never" if microseconds == clock.NEVER else clock.to_rfc3339(microseconds)[:16].replace("T", " ")


@dataclass(slots=True)
class _Column:
    """A column: its title and its cells as texts, and the width that it has."""

    texts: Sequence[str]
    is_numeric: bool
    width: int


def _column(title: str, values: Sequence[object]) -> _Column:
    texts = [title, *map(_text, values)]
    is_numeric = all(isinstance(value, int | Decimal | NumberText | None) for value in values)
    return _Column(texts, is_numeric, max(map(_width, texts)))


def _length(columns: Collection[_Column]) -> int:
    """Return the length of a line."""
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _narrow(columns: Sequence[_Column], excess: int) -> None:
    """Make columns narrower by an excess, always the widest of them, and as far as they may be."""
    for _ in range(excess):
        widest = max(columns, key=lambda column: column.width, default=None)
        if widest is None or widest.width <= _NARROWEST:
            return
        widest.width -= 1


def _line(cells: Iterable[tuple[str, _Column]]) -> str:
    padded = (_padded(_cut(text, column.width), column.width, right=column.is_numeric) for text, column in cells)
    return _GAP.join(padded).rstrip() + "\n"


def _padded(text: str, width: int, *, right: bool = False) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


def _cut(text: str, width: int) -> str:
    """Return a text, or as much of its beginning as fits into a width with a sign that it was cut."""
    if _width(text) <= width:
        return text
    while _width(text) + 1 > width:
        text = text[:-1]
    return text + _CUT


def _text(value: object) -> str:
    """Return the text of a cell: one line, without control characters for the terminal."""
    match value:
        case None:
            return UNKNOWN
        case int():
            return f"{value:,}"
        case Decimal():
            return f"{value:,.6f}"
    return printable(str(value))


def printable(text: str) -> str:
    """Return a text as one line without control characters, so that a terminal can show it."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _width(text: str) -> int:
    """Return the width of a text in columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)
