"""Exports: CSV that is safe to open in a spreadsheet (RFC 4180), and JSON lines."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from manage_api import schemas
from store.reports.usage_query import Dimension
from store.reports.usage_report import UsageReport

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""The beginning of a text that a spreadsheet would run as a formula; anybody who names a project could plant one."""


CSV_ENCODINGS: Mapping[str, str] = {"csv": "utf-8", "csv-excel": "utf-8-sig"}
"""The forms of CSV. The second begins with a byte order mark: without it, Excel garbles all letters beyond ASCII."""


def usage_as_csv(report: UsageReport, by: Sequence[Dimension], form: str) -> bytes:
    """Write the groups of a report, one a line, as one of CSV_ENCODINGS."""
    fields = [*schemas.group_fields(by), *schemas.SUMS_FIELDS]
    written = write_csv(fields, (schemas.usage_group(group, by) for group in report.groups))
    return written.encode(CSV_ENCODINGS[form])


def as_json_lines(objects: Iterable[Mapping[str, object]]) -> str:
    """Write one JSON object a line."""
    return "".join(f"{json.dumps(each)}\n" for each in objects)


def write_csv(fields: Sequence[str], objects: Iterable[Mapping[str, object]]) -> str:
    """Write a header and one line an object. None becomes an empty cell; a formula gets an apostrophe before it."""
    return "".join(csv_parts(fields, [objects]))


def csv_parts(fields: Sequence[str], parts: Iterable[Iterable[Mapping[str, object]]]) -> Iterator[str]:
    """Write the same part by part, without holding all of it; lists and objects become JSON."""
    yield _lines([fields])
    for objects in parts:
        yield _lines([_cell(each[name]) for name in fields] for each in objects)


def _lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
