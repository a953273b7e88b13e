"""Files of lists, written page by page while they are sent: no list is held as a whole."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import flask

from manage_api import export
from store.reports.pages import Cursor, Page

MAX_ROWS = 10_000
"""Rows of a file at most."""

type Parts = Iterable[Iterable[Mapping[str, object]]]
"""The objects of a list, some at a time."""


def pages[Record](read: Callable[[Cursor | None], Page[Record]]) -> Iterator[Sequence[Record]]:
    """Return the records of a list, page by page, MAX_ROWS at most.

    The first page is read at once, so that its error is still answered as one.
    """
    return _following(read, read(None))


def _following[Record](read: Callable[[Cursor | None], Page[Record]], page: Page[Record]) -> Iterator[Sequence[Record]]:
    left = MAX_ROWS
    while True:
        yield page.records[:left]
        left -= len(page.records)
        if left <= 0 or page.next_cursor is None:
            return
        page = read(page.next_cursor)


def as_csv(name: str, fields: Sequence[str], parts: Parts) -> flask.Response:
    """Return CSV as a file of a name."""
    return _file(export.csv_parts(fields, parts), "text/csv", f"{name}.csv")


def as_json_lines(name: str, parts: Parts) -> flask.Response:
    """Return JSON lines as a file of a name."""
    return _file(map(export.as_json_lines, parts), "application/jsonl", f"{name}.jsonl")


def _file(content: Iterable[str], media_type: str, name: str) -> flask.Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return flask.Response(content, mimetype=media_type, headers=headers)
