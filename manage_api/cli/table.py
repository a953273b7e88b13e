"""Writes tables for a terminal: aligned columns, numbers to the right, amounts of money with six decimals."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

UNKNOWN = "-"


class NumberText(str):
    """A number that is written already; it stands on the right, as numbers do."""

    __slots__ = ()


def write(columns: Mapping[str, str], objects: Iterable[Mapping[str, object]]) -> str:
    """Write the fields that `columns` names, each under its title. None becomes a dash."""
    number = int | Decimal | NumberText | None
    rows = [[each[name] for name in columns] for each in objects]
    texts = [list(columns.values()), *([_text(value) for value in row] for row in rows)]
    widths = [max(_width(text) for text in column) for column in zip(*texts, strict=True)]
    numeric = [all(isinstance(row[index], number) for row in rows) for index in range(len(columns))]
    return "".join(_line(line, widths, numeric) for line in texts)


def _line(texts: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    cells = []
    for text, width, right in zip(texts, widths, numeric, strict=True):
        blanks = " " * (width - _width(text))
        cells.append(blanks + text if right else text + blanks)
    return "  ".join(cells).rstrip() + "\n"


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
