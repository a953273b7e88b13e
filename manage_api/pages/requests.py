"""`/requests`: single requests, admitted and refused; each is explained on its own page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import flask
from werkzeug.wrappers import Response as BaseResponse

from manage_api import schemas
from manage_api.pages import downloads, explanations, filters
from store.clock import to_rfc3339_exact
from store.database import Database
from store.errors import REQUEST_CODES, InvalidRequest, NotFound
from store.ledger.price_lines import Explanation, explain
from store.ledger.usage import COLUMNS, Source
from store.management import names
from store.management.tokens import TokenRecord
from store.reports.pages import MAX_LIMIT, Page
from store.reports.request_list import OPEN, RequestFilter, RequestList, RequestRecord
from store.store import Store

PARAMETERS = ("project_id", "token_id", "model", "endpoint", "status", "code", "source", "from", "to")
"""The parameters of the query that select requests."""

SOURCES: Mapping[str, str] = {
    OPEN: "still running",
    Source.OBSERVED: "told by the upstream",
    Source.ESTIMATED: "estimated",
    Source.UNKNOWN: "unknown",
}
"""The sources of usage, in words."""

TIMES: Sequence[tuple[str, str]] = (("1h", "Last hour"), ("today", "Today"), ("7d", "7 days"))
"""Times that a link selects: the text of the filter, and the link's."""

SHOWN = 100
"""Rows of a page."""

SEARCHED = 50_000
"""Requests that a page looks at: a filter that selects few of them would look at all, for seconds."""

FIELDS = (
    *("id", "upstream_request_id", "session_id", "started_at", "project_id", "project_name", "token_id", "token_name"),
    *("client", "method", "path", "endpoint", "model_asked", "model", "status", "code", "repeats", "streamed"),
    *("duration_ms", "time_to_first_byte_ms", "request_bytes", "response_bytes", *COLUMNS, "cost_usd"),
    *("cost_is_minimum", "budget_usd", "told_cost_usd", "price", "usage_source"),
)
"""The columns of the CSV: the fields of the schema `LedgerRow`."""


def blueprint(store: Store) -> flask.Blueprint:
    """Make the pages of a store's requests."""
    pages = _Pages(store)
    routes = flask.Blueprint("requests", __name__)
    routes.get("/requests")(pages.index)
    routes.get("/requests.csv")(pages.as_csv)
    routes.get("/requests.jsonl")(pages.as_json_lines)
    routes.get("/requests/<request_id>")(pages.show)
    return routes


class _Pages:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._requests = RequestList(store)

    def index(self) -> BaseResponse | str | tuple[str, int]:
        try:
            request_id = filters.text("id")
            if request_id:
                found = self._requests.get(request_id)
                return flask.redirect(flask.url_for(".show", request_id=found.id), 303)
            about = self._about()
            if filters.has_value_of(about.token_id):
                return flask.redirect(filters.address(".index", _given(), token_id=about.token_id), 303)
            after = filters.cursor()
            horizon = self._requests.horizon(about, SEARCHED, after=after)
            if horizon is not None:
                about = replace(about, start=horizon)
            page = self._requests.page(about, limit=SHOWN, after=after)
        except (InvalidRequest, NotFound) as error:
            return self._list(Page([], None), error.message, filters.tokens_of_name(self._store)), error.status
        return self._list(page, horizon=None if page.next_cursor else horizon)

    def as_csv(self) -> flask.Response:
        return downloads.as_csv("requests", FIELDS, self._parts())

    def as_json_lines(self) -> flask.Response:
        return downloads.as_json_lines("requests", self._parts())

    def show(self, request_id: str) -> BaseResponse | str:
        record = self._requests.get(request_id)
        if record.id != request_id:
            return flask.redirect(flask.url_for(".show", request_id=record.id), 303)
        projects, tokens = _present(self._store.database, [record])
        return flask.render_template(
            "requests/show.html",
            record=record,
            counts={name: count for name in COLUMNS if (count := getattr(record, name)) is not None},
            cost=_explained(record),
            end=explanations.of_end(record),
            usage=explanations.of_usage(record),
            projects=projects,
            tokens=tokens,
        )

    def _list(
        self,
        page: Page[RequestRecord],
        message: str | None = None,
        several: Sequence[TokenRecord] = (),
        horizon: int | None = None,
    ) -> str:
        projects, tokens = _present(self._store.database, page.records)
        return flask.render_template(
            "requests/index.html",
            page=page,
            message=message,
            several=several,
            given=_given(),
            choices=filters.choices(self._store, projects),
            projects=projects,
            tokens=tokens,
            codes=[(code, code) for code in REQUEST_CODES],
            sources=SOURCES,
            times=TIMES,
            live="live" in flask.request.args and "cursor" not in flask.request.args,
            horizon=horizon,
            further=None if horizon is None else to_rfc3339_exact(horizon),
            searched=SEARCHED,
            most=downloads.MAX_ROWS,
        )

    def _about(self) -> RequestFilter:
        return RequestFilter(
            start=filters.moment("from", "From"),
            end=filters.moment("to", "Before"),
            project_id=filters.project_id(),
            token_id=filters.token_id(self._store),
            model=filters.text("model"),
            endpoint=filters.text("endpoint"),
            status=filters.number("status", "Status", 100, 599),
            source=filters.choice("source", "Usage", tuple(SOURCES)),
            code=filters.choice("code", "Code", REQUEST_CODES),
        )

    def _parts(self) -> Iterator[list[schemas.JSONObject]]:
        about = self._about()
        pages = downloads.pages(lambda after: self._requests.page(about, limit=MAX_LIMIT, after=after))
        return ([*map(schemas.ledger_row, page)] for page in pages)


def _given() -> dict[str, Any]:
    return filters.present(*PARAMETERS)


def _present(database: Database, records: Sequence[RequestRecord]) -> tuple[Mapping[str, str], set[str]]:
    """Return the projects, and the tokens of these records, that are not deleted: those alone have pages."""
    with database.read():
        present = names.present_tokens(database, {record.token_id for record in records})
        return names.of_present_projects(database), present


def _explained(record: RequestRecord) -> Explanation | None:
    price = record.price_used
    if record.cost is None or price is None:
        return None
    return explain(price, {name: getattr(record, name) for name in COLUMNS}, record.cost)
