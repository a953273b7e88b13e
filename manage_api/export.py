"""CSV as RFC 4180 has it, that is safe to open in a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""Beginnings of texts that a spreadsheet would compute, and that anybody who names a project could send there."""


def write(fields: Sequence[str], objects: Iterable[Mapping[str, object]]) -> str:
    """Write a header and one line an object; None is an empty cell, and a formula gets an apostrophe before it."""
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(fields)
    lines.writerows([_cell(each[name]) for name in fields] for each in objects)
    return text.getvalue()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
