"""HTTP responses that more than one resource gives."""

from collections.abc import Callable, Mapping

import flask

from manage_api import export
from manage_api.query import parameter
from manage_api.schemas import JSONObject
from store.reports.pages import Page

NEXT_CURSOR = "X-LLM-Proxy-Next-Cursor"

OWN_PAGE: Mapping[str, str] = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers then send the Origin "null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""The headers that keep pages of others away from each page of this port. Each has its Content-Security-Policy too."""


def no_content() -> flask.Response:
    """Return a 204. It has no body, and so no Content-Type."""
    response = flask.Response(status=204)
    del response.headers["Content-Type"]
    return response


def page[Record](found: Page[Record], show: Callable[[Record], JSONObject]) -> JSONObject | flask.Response:
    """Return a page of a list, as JSON or, with `format=jsonl`, as JSON lines. `show` makes the object of a record."""
    objects = [show(record) for record in found.records]
    next_cursor = found.next_cursor and str(found.next_cursor)
    if parameter("format") == "jsonl":
        headers = {NEXT_CURSOR: next_cursor} if next_cursor else {}
        return flask.Response(export.as_json_lines(objects), mimetype="application/jsonl", headers=headers)
    return {"data": objects, "next_cursor": next_cursor}
