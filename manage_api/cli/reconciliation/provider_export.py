"""Reads a provider's export: CSV of any usual separator, row by row, added up by day and model."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, TextIO

import click

from manage_api.cli import table
from manage_api.cli.reconciliation import cells
from manage_api.cli.reconciliation.columns import COST, Columns
from store.clock import DAY
from store.reports.usage_report import MAX_GROUPS

_SEPARATORS = ",;\t"


class GroupKey(NamedTuple):
    """A day (its midnight in UTC, microseconds) and a model; None is an unknown one, or all of the day."""

    day: int
    model: str | None


@dataclass(slots=True)
class ProviderUsage:
    """The sums of an export. It tells of the days from `start` until just before `end`; None for no days at all."""

    start: int | None = None
    end: int | None = None
    groups: dict[GroupKey, dict[str, Decimal]] = field(default_factory=dict)

    def cover(self, day: int) -> None:
        """Add a day to those that the export tells of."""
        self.start = day if self.start is None else min(self.start, day)
        self.end = day + DAY if self.end is None else max(self.end, day + DAY)


class _Layout(NamedTuple):
    """The positions of the columns in a row, and the number of its cells."""

    width: int
    day: int
    model: int | None
    numbers: Sequence[tuple[str, int]]


def read(path: Path, columns: Columns, start: int | None, end: int | None) -> ProviderUsage:
    """Add up the rows of a file from `start` until just before `end`; None stands for no bound.

    Raises click.BadParameter for a file that cannot be read; the message has the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _added_up(file, columns, start or 0, end)
    except OSError as error:
        raise _unreadable(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _unreadable("is no text in UTF-8") from None


def _unreadable(problem: str) -> click.BadParameter:
    return click.BadParameter(f"the file {problem}.", param_hint="'FILE'")


def _wrong(line: int, problem: str) -> click.BadParameter:
    return click.BadParameter(f"line {line}: {problem}.", param_hint="'FILE'")


def _added_up(file: TextIO, columns: Columns, start: int, end: int | None) -> ProviderUsage:
    separator, header = _header(file)
    layout = _layout(header, columns)
    usage = ProviderUsage()
    for line, row in _rows(file, separator, layout.width):
        day = _value(line, header, row, layout.day, cells.day)
        usage.cover(day)
        if start <= day and (end is None or day < end):
            _add(usage, GroupKey(day, _model(row, layout)), _numbers(line, header, row, layout))
    return usage


def _header(file: TextIO) -> tuple[str, Sequence[str]]:
    """Read the header. Its separator is the one that divides it into the most names."""
    line = file.readline()
    headers = {separator: _cells_of(line, separator) for separator in _SEPARATORS}
    separator = max(headers, key=lambda each: len(headers[each]))
    if not any(headers[separator]):
        raise _unreadable("has no header")
    return separator, headers[separator]


def _cells_of(line: str, separator: str) -> Sequence[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True), [])]
    except csv.Error:
        return []  # another separator than the file's may lie within quotation marks


def _layout(header: Sequence[str], columns: Columns) -> _Layout:
    return _Layout(
        width=len(header),
        day=_position(header, columns.day),
        model=None if columns.model is None else _position(header, columns.model),
        numbers=[(number, _position(header, name)) for number, names in columns.numbers.items() for name in names],
    )


def _position(header: Sequence[str], name: str) -> int:
    exact = [index for index, each in enumerate(header) if each == name]
    found = exact or [index for index, each in enumerate(header) if each.casefold() == name.casefold()]
    if len(found) == 1:
        return found[0]
    problem = f"several columns are named {name!r}" if found else f"no column is named {name!r}"
    raise _wrong(1, f"{problem}; the columns: {', '.join(table.printable(each) for each in header)}")


def _rows(file: TextIO, separator: str, width: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield each row with the number of its line; blank ones are left out."""
    rows = csv.reader(file, delimiter=separator, strict=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _wrong(rows.line_num + 1, str(error)) from None
        if row is None:
            return
        if not any(row):
            continue
        if len(row) != width:
            raise _wrong(rows.line_num + 1, f"{len(row)} cells, and the header has {width}")
        yield rows.line_num + 1, row


def _value[T](line: int, header: Sequence[str], row: Sequence[str], index: int, reads: Callable[[str], T]) -> T:
    text = row[index].strip()
    try:
        return reads(text)
    except ValueError:
        column, shown = table.printable(header[index]), table.printable(text[:50])
        raise _wrong(line, f"'{shown}' in the column {column} is no {_EXPECTED[reads]}") from None


_EXPECTED: dict[Callable[[str], object], str] = {
    cells.day: "day (2026-10-01), time of RFC 3339 or number of Unix seconds",
    cells.count: "whole number, such as 1234",
    cells.amount: "amount of US dollars, such as 12.34",
}


def _model(row: Sequence[str], layout: _Layout) -> str | None:
    return None if layout.model is None else row[layout.model].strip() or None


def _numbers(line: int, header: Sequence[str], row: Sequence[str], layout: _Layout) -> Sequence[tuple[str, Decimal]]:
    """Read the numbers of a row that has any; an empty cell adds nothing."""
    return [
        (number, _value(line, header, row, index, cells.amount if number == COST else cells.count))
        for number, index in layout.numbers
        if row[index].strip()
    ]


def _add(usage: ProviderUsage, key: GroupKey, numbers: Sequence[tuple[str, Decimal]]) -> None:
    if not numbers:  # OpenAI writes such a row for a day without usage
        return
    sums = usage.groups.setdefault(key, {})
    if len(usage.groups) > MAX_GROUPS:
        raise _unreadable(f"has more than {MAX_GROUPS:,} days and models")
    for number, value in numbers:
        sums[number] = cells.EXACT.add(sums.get(number, Decimal()), value)
