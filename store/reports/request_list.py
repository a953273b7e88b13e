"""Lists single requests: the ledger's rows and refusals, newest first, page by page; or one request, by its id."""

import contextlib
import json
import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from store.database import Row
from store.database.sql import Conditions, given, storable, where
from store.errors import NotFound
from store.management import names
from store.reports.pages import DEFAULT_LIMIT, Cursor, Page
from store.store import Store

OPEN: Literal["open"] = "open"
"""Selects, as a source of usage, the requests that are still running."""


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Selects the requests of a list: microseconds from `start` until just before `end`; None selects all.

    `model` is the one that answered, or that was asked. `source` is a `usage.Source`, or OPEN. Both select admitted
    requests only. `code` selects refused requests, and admitted ones that the gateway ended.
    """

    start: int | None = None
    end: int | None = None
    project_id: str | None = None
    token_id: str | None = None
    model: str | None = None
    endpoint: str | None = None
    status: int | None = None
    source: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """An admitted request, or refused ones of a minute. Costs are in `usage.COST_UNIT`s; unknown values are None.

    `code` says why the gateway refused it, or ended it itself; None otherwise. `repeats` is None for an admitted one.
    Of refused ones it is their number, and the other fields are the first one's, as far as it has them.
    """

    id: str
    upstream_request_id: str | None
    session_id: str | None
    client: str | None
    started_at: int
    project_id: str
    token_id: str
    method: str
    path: str
    endpoint: str
    model_asked: str | None
    model: str | None
    status: int | None
    streamed: bool | None
    duration_ms: int | None
    first_byte_ms: int | None
    request_bytes: int | None
    response_bytes: int | None
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    input_audio_tokens: int | None
    output_audio_tokens: int | None
    web_searches: int | None
    file_searches: int | None
    code_containers: int | None
    tool_calls: int | None
    images: int | None
    audio_seconds: int | None
    video_seconds: int | None
    cost: int | None
    cost_is_minimum: bool | None
    told_cost: int | None
    budget_beyond: int | None
    price: str | None
    usage_source: str | None
    code: str | None
    repeats: int | None
    project_name: str | None = None
    token_name: str | None = None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a row of these columns but the names; SQLite has no booleans."""
        columns = dict(zip(_COLUMNS, row, strict=True))
        for name in _BOOLEANS:
            columns[name] = None if columns[name] is None else bool(columns[name])
        return cls(**columns)

    @property
    def budget(self) -> int | None:
        """The amount that it counts against budgets; None for a request that is not settled, or refused."""
        return None if self.usage_source is None else (self.cost or 0) + (self.budget_beyond or 0)

    @property
    def price_used(self) -> dict[str, object] | None:
        """The price that the cost was computed with."""
        return None if self.price is None else json.loads(self.price)


_BOOLEANS = ("streamed", "cost_is_minimum")
_COLUMNS = [field.name for field in fields(RequestRecord) if field.name not in {"project_name", "token_name"}]


class RequestList:
    """Reads single requests. Raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def page(
        self, about: RequestFilter, *, limit: int = DEFAULT_LIMIT, after: Cursor | None = None
    ) -> Page[RequestRecord]:
        """Return up to `limit` requests that a filter selects, after a cursor where one is given."""
        with self._database.read():
            rows = [*self._admitted(about, limit + 1, after), *self._refused(about, limit + 1, after)]
            found = sorted(map(RequestRecord.of, rows), key=lambda record: (record.started_at, record.id), reverse=True)
            page = Page.of(found, limit, lambda last: Cursor(last.started_at, last.id))
            return replace(page, records=self._named(page.records))

    def horizon(self, about: RequestFilter, rows: int, *, after: Cursor | None = None) -> int | None:
        """Return the time until which a list by this filter, after a cursor, looks at this number of admitted requests.

        None where it looks at fewer: there is an index of times, and one of projects, tokens and codes each, and none
        of anything else, so that a filter that selects few requests would look at all of them.
        """
        selects_few = (about.model, about.endpoint, about.status, about.source)
        if about.code is not None or about.source == OPEN or all(each is None for each in selects_few):
            return None
        conditions, parameters = where(_places(about, after))
        with self._database.read():
            found = self._database.execute(
                f"SELECT started_at FROM request WHERE {conditions} ORDER BY started_at DESC, id DESC LIMIT 1 OFFSET ?",  # noqa: S608
                [*parameters, rows],
            )
        return found[0][0] if found else None

    def get(self, request_id: str) -> RequestRecord:
        """Return the request with an id of the gateway (in any case), or of the upstream: the newest of several.

        Raises NotFound.
        """
        with self._database.read():
            rows = self._with_id(request_id)
            if not rows:
                raise NotFound(
                    "There is no such request: it may be older than LEDGER_DAYS, have an unknown token, or be one of "
                    "several refusals of a minute, of which only the first is found by its id."
                )
            return self._named([RequestRecord.of(rows[0])])[0]

    def _admitted(self, about: RequestFilter, limit: int, after: Cursor | None) -> list[Row]:
        more = {
            "(model = ? OR model_asked = ?)": None if about.model is None else (about.model, about.model),
            "usage_source = ?": given(None if about.source == OPEN else about.source),
            "code = ?": given(about.code),
        }
        return self._rows(_OPEN_ROWS if about.source == OPEN else _ROWS, about, more, limit, after)

    def _refused(self, about: RequestFilter, limit: int, after: Cursor | None) -> list[Row]:
        if about.model is not None or about.source is not None:
            return []
        return self._rows(_REFUSALS, about, {"code = ?": given(about.code)}, limit, after)

    def _rows(self, sql: str, about: RequestFilter, more: Conditions, limit: int, after: Cursor | None) -> list[Row]:
        conditions, parameters = where(
            {
                **_places(about, after),
                "endpoint = ?": given(about.endpoint),
                "status = ?": given(about.status),
                **more,
            }
        )
        return self._database.execute(
            f"{sql} WHERE {conditions} ORDER BY started_at DESC, id DESC LIMIT ?", [*parameters, limit]
        )

    def _with_id(self, request_id: str) -> list[Row]:
        text = storable(request_id)
        with contextlib.suppress(ValueError):
            ours = str(uuid.UUID(text))
            found = [row for sql in (_ROWS, _REFUSALS) for row in self._database.execute(f"{sql} WHERE id = ?", [ours])]
            if found:
                return found
        return self._database.execute(f"{_ROWS} WHERE id IN ({_WITH_UPSTREAM_ID}) ORDER BY id DESC LIMIT 1", [text])

    def _named(self, records: Sequence[RequestRecord]) -> list[RequestRecord]:
        """Return records with the names of their projects and tokens."""
        projects = names.of_projects(self._database, {record.project_id for record in records})
        tokens = names.of_tokens(self._database, {record.token_id for record in records})
        return [
            replace(record, project_name=projects.get(record.project_id), token_name=tokens.get(record.token_id))
            for record in records
        ]


def _places(about: RequestFilter, after: Cursor | None) -> Conditions:
    """Return the conditions that have indexes."""
    return {
        "started_at >= ?": given(about.start),
        "started_at < ?": given(about.end),
        "project_id = ?": given(about.project_id),
        "token_id = ?": given(about.token_id),
        "(started_at, id) < (?, ?)": after,
    }


def _selected(missing: AbstractSet[str]) -> str:
    return ", ".join(f"NULL AS {name}" if name in missing else name for name in _COLUMNS)


_OF_REFUSALS = {"repeats"}
_OF_BOTH = {
    *("id", "session_id", "client", "started_at", "project_id", "token_id", "method", "path", "endpoint", "status"),
    "code",
}

_ROWS = f"SELECT {_selected(_OF_REFUSALS)} FROM request"  # noqa: S608 - no data
_REFUSALS = f"SELECT {_selected({*_COLUMNS} - _OF_BOTH - _OF_REFUSALS)} FROM refusal"  # noqa: S608 - no data
_WITH_UPSTREAM_ID = "SELECT request_id FROM upstream_id WHERE upstream_request_id = ?"

# The few open requests have an index of their own, which would not be used along with the other conditions.
_OPEN_ROWS = (
    f"WITH open_request AS MATERIALIZED (SELECT * FROM request WHERE settled_at IS NULL)"  # noqa: S608
    f" SELECT {_selected(_OF_REFUSALS)} FROM open_request"
)
