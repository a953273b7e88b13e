"""`/audit`: the changes that administrators made, with each field before and after."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flask

from manage_api import schemas, words
from manage_api.pages import downloads, filters, rendering
from store.errors import InvalidRequest
from store.management import names
from store.management.admins import Admins
from store.management.audit import ACTIONS
from store.management.prices import OwnPrices
from store.reports.audit_log import AuditFilter, AuditLog, AuditRecord
from store.reports.pages import MAX_LIMIT, Page
from store.store import Store

PARAMETERS = ("actor", "action", "object_id", "project_id", "from", "to")
"""The parameters of the query that select changes."""

TIMES: Sequence[tuple[str, str]] = (("today", "Today"), ("7d", "7 days"), ("this month", "This month"))
"""Times that a link selects: the text of the filter, and the link's."""

SHOWN = 50
"""Rows of a page."""

MOST_IDS = 50
"""Ids of a change of several objects that a page shows at most."""

FIELDS = (
    *("id", "changed_at", "actor", "action", "object_id", "object_name", "project_id", "changes", "ids", "address"),
    "request_id",
)
"""The columns of the CSV: the fields of the schema `AuditRow`."""


class _Change(NamedTuple):
    """A field, with its texts before and after a change."""

    field: str
    before: str
    after: str


def blueprint(store: Store) -> flask.Blueprint:
    """Make the pages of a store's audit."""
    pages = _Pages(store)
    routes = flask.Blueprint("audit", __name__)
    routes.get("/audit")(pages.index)
    routes.get("/audit.csv")(pages.as_csv)
    routes.get("/audit.jsonl")(pages.as_json_lines)
    return routes


class _Pages:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = AuditLog(store)
        self._prices = OwnPrices(store)
        self._admins = Admins(store)

    def index(self) -> str | tuple[str, int]:
        try:
            return self._list(self._log.page(_about(), limit=SHOWN, after=filters.cursor()))
        except InvalidRequest as error:
            return self._list(Page([], None), error.message), error.status

    def as_csv(self) -> flask.Response:
        return downloads.as_csv("audit", FIELDS, self._parts())

    def as_json_lines(self) -> flask.Response:
        return downloads.as_json_lines("audit", self._parts())

    def _list(self, page: Page[AuditRecord], message: str | None = None) -> str:
        with self._store.database.read():
            projects = names.of_present_projects(self._store.database)
        return flask.render_template(
            "audit/index.html",
            page=page,
            message=message,
            given=filters.present(*PARAMETERS),
            choices=filters.choices(self._store, projects),
            actions=[(action, action) for action in ACTIONS],
            times=TIMES,
            changes_of=_changes_of,
            links=self._links(page.records, projects),
            most_ids=MOST_IDS,
            most=downloads.MAX_ROWS,
        )

    def _links(self, records: Sequence[AuditRecord], projects: Mapping[str, str]) -> Mapping[str, str]:
        """Return the pages of those objects of changes that are still there, by their ids."""
        kinds = {record.action.partition(".")[0] for record in records}
        ids = {each for record in records for each in [record.object_id, *record.ids[:MOST_IDS]] if each}
        with self._store.database.read():
            tokens = names.present_tokens(self._store.database, ids)
        prices = self._prices.list() if "price" in kinds else []
        admins = self._admins.list() if "admin" in kinds else []
        return {
            **{each: flask.url_for("pages.tokens.show", token_id=each) for each in tokens},
            **{each: flask.url_for("pages.projects.show", project_id=each) for each in ids if each in projects},
            **dict.fromkeys(ids & {price.id for price in prices}, flask.url_for("pages.prices.index")),
            **dict.fromkeys(ids & {admin.id for admin in admins}, flask.url_for("pages.admins.index")),
        }

    def _parts(self) -> Iterator[list[schemas.JSONObject]]:
        about = _about()
        pages = downloads.pages(lambda after: self._log.page(about, limit=MAX_LIMIT, after=after))
        return ([*map(schemas.audit_row, page)] for page in pages)


def _about() -> AuditFilter:
    """Read the filter of the query: its object is an id, or the name that it had. Raises InvalidRequest."""
    about = filters.text("object_id")
    object_id = about and filters.as_uuid(about)
    return AuditFilter(
        start=filters.moment("from", "From"),
        end=filters.moment("to", "Before"),
        actor=filters.text("actor"),
        action=filters.choice("action", "Action", ACTIONS),
        object_id=object_id,
        object_name=None if object_id else about,
        project_id=filters.project_id(),
    )


def _changes_of(record: AuditRecord) -> Iterator[_Change]:
    """Return the fields of a change. Of an object that is new, those alone that have a value."""
    for name, change in record.changes.items():
        before, after = (_shown(name, change.get(when)) for when in ("before", "after"))
        if before != after:
            yield _Change(name.replace("_", " "), before, after)


def _shown(name: str, value: object) -> str:
    match value:
        case None | "" | []:
            return rendering.NONE
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key} {each}" for key, each in value.items())
        case list():
            return ", ".join(_entries(name, value))
        case _:
            return str(value)


def _entries(name: str, entries: Sequence[Any]) -> Sequence[str]:
    try:
        return _IN_WORDS[name](entries)
    except (LookupError, TypeError):  # a list without words, or of a newer version
        return [each if isinstance(each, str) else json.dumps(each) for each in entries]


_IN_WORDS: Mapping[str, Callable[[Sequence[Any]], Sequence[str]]] = {
    "rate_limits": words.windows,
    "budgets": words.budgets,
}
"""The fields whose values have words."""
