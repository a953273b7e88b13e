"""The ledger's rows, newest first, page by page.

A page begins behind the last row of the one before, whose time and id are its cursor: what was added meanwhile, and how
far back a page is, changes nothing.
"""

import base64
import json
import re
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, Self

from store.bootstrap import Store
from store.database import Row
from store.errors import InvalidRequest
from store.sql import given, where

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

OPEN: Literal["open"] = "open"
"""Stands among the sources of usage for requests that are still running."""

_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}")


class Cursor(NamedTuple):
    """The row behind which a page begins."""

    started_at: int
    request_id: str

    def __str__(self) -> str:
        """Write it as 32 characters that pass in a query as they are; every such text is a cursor."""
        packed = struct.pack(">q16s", self.started_at, uuid.UUID(self.request_id).bytes)
        return base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor. Raises InvalidRequest."""
        if _CURSOR.fullmatch(text) is None:
            raise InvalidRequest("The cursor is invalid: send the one of the page before, unchanged.")
        started_at, request_id = struct.unpack(">q16s", base64.urlsafe_b64decode(text))
        return cls(started_at, str(uuid.UUID(bytes=request_id)))


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests are listed: microseconds from `start` until just before `end`; None leaves it open.

    `model` is the one that answered, or that was asked. `source` is a `usage.Source`, or OPEN.
    """

    start: int | None = None
    end: int | None = None
    project_id: str | None = None
    token_id: str | None = None
    model: str | None = None
    endpoint: str | None = None
    status: int | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A row of the ledger. `cost` is in `usage.COST_UNIT`s; what is not known (yet) is None."""

    id: str
    upstream_request_id: str | None
    session_id: str | None
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
    cost: int | None
    price: str | None
    usage_source: str | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a row of these columns; SQLite has no booleans."""
        columns = dict(zip(_COLUMNS, row, strict=True))
        streamed = columns.pop("streamed")
        return cls(**columns, streamed=None if streamed is None else bool(streamed))

    @property
    def price_used(self) -> dict[str, object] | None:
        """What the cost was computed with."""
        return None if self.price is None else json.loads(self.price)


@dataclass(frozen=True, slots=True)
class Page:
    """Requests, newest first, and where the next page begins, if there is one."""

    requests: Sequence[RequestRecord]
    next_cursor: Cursor | None


_COLUMNS = [field.name for field in fields(RequestRecord)]
_SELECTED = ", ".join(_COLUMNS)


class RequestList:
    """Reads rows of the ledger. Raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def page(self, about: RequestFilter, *, limit: int = DEFAULT_LIMIT, after: Cursor | None = None) -> Page:
        """Return up to `limit` requests that a filter leaves, behind `after` where that is given."""
        conditions, parameters = where(
            {
                "started_at >= ?": given(about.start),
                "started_at < ?": given(about.end),
                "project_id = ?": given(about.project_id),
                "token_id = ?": given(about.token_id),
                "endpoint = ?": given(about.endpoint),
                "status = ?": given(about.status),
                "(model = ? OR model_asked = ?)": None if about.model is None else (about.model, about.model),
                "usage_source = ?": given(None if about.source == OPEN else about.source),
                "(started_at, id) < (?, ?)": after,
            }
        )
        sql = _OPEN_ROWS if about.source == OPEN else _ROWS
        with self._database.read():
            rows = self._database.execute(
                f"{sql} WHERE {conditions} ORDER BY started_at DESC, id DESC LIMIT ?", [*parameters, limit + 1]
            )
        records = [RequestRecord.of(row) for row in rows[:limit]]
        last = records[-1] if len(rows) > limit else None
        return Page(records, None if last is None else Cursor(last.started_at, last.id))


_ROWS = f"SELECT {_SELECTED} FROM request"  # noqa: S608 - no data

# The few that are open have an index of their own; asked for with the others' conditions it would not be used.
_OPEN_ROWS = (
    f"WITH open_request AS MATERIALIZED (SELECT {_SELECTED} FROM request WHERE settled_at IS NULL)"  # noqa: S608
    f" SELECT {_SELECTED} FROM open_request"
)
