"""Rows of the ledger and their sums, as the gateway writes them."""

import itertools
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peewee import EXCLUDED

from store import clock
from store.database.models import DailyUsage, HourlyUsage, Refusal, Request, Sums, UpstreamId
from store.ids import new_request_id
from store.ledger.usage import COLUMNS, Source
from store.store import Store

NOON = 20_000 * clock.DAY + 12 * clock.HOUR
"""2024-10-04T12:00:00Z, in microseconds."""

INSTANCE_ID = str(uuid.UUID(int=1))
PROJECT_ID = str(uuid.UUID(int=2))
TOKEN_ID = str(uuid.UUID(int=3))

_ASKED: Mapping[str, Any] = {
    "started_at": NOON,
    "project_id": PROJECT_ID,
    "token_id": TOKEN_ID,
    "method": "POST",
    "path": "/v1/chat/completions",
    "endpoint": "/v1/chat/completions",
}
_KEY = ("start", "project_id", "token_id", "model", "endpoint")
_BATCH = 50
"""Rows of a statement: to write many at once takes a fifth of the time."""
_SUMMED = ("request_bytes", "response_bytes", *COLUMNS, "cost", "told_cost")


def open_request(store: Store, **columns: Any) -> dict[str, Any]:
    """Write the row of a request that is running; return its columns."""
    row = {"id": new_request_id(), "instance_id": INSTANCE_ID, **_ASKED, **columns}
    with store.database.write():
        Request.create(**row)
    return row


def settle_request(store: Store, **columns: Any) -> dict[str, Any]:
    """Write the row of a request that has ended, and add it to its sums; return its columns."""
    (row,) = settle_requests(store, [columns])
    return row


def settle_requests(store: Store, each: Iterable[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
    """Write the rows of requests that have ended, and add them to their sums; return their columns."""
    rows = [_settled(**columns) for columns in each]
    with store.database.write():
        for _, alike in itertools.groupby(rows, key=list):
            for batch in itertools.batched(alike, _BATCH):
                Request.insert_many(batch).execute()
        for row in rows:
            if row.get("upstream_request_id"):
                UpstreamId.create(upstream_request_id=row["upstream_request_id"], request_id=row["id"])
        _add(HourlyUsage, rows, clock.HOUR)
        _add(DailyUsage, rows, clock.DAY)
    return rows


def _settled(*, started_at: int = NOON, **columns: Any) -> dict[str, Any]:
    ended = {"settled_at": started_at + clock.SECOND, "usage_source": Source.UNKNOWN, "status": 200}
    return {"id": new_request_id(), "instance_id": INSTANCE_ID, **_ASKED, "started_at": started_at, **ended, **columns}


def refuse_request(store: Store, **columns: Any) -> dict[str, Any]:
    """Write the row of a refused request; return its columns."""
    refusal = {"status": 429, "code": "rate_limit_exceeded", "repeats": 1}
    row = {"id": new_request_id(), **_ASKED, **refusal, **columns}
    with store.database.write():
        Refusal.create(**row)
    return row


def forget(store: Store, before: int) -> None:
    """Delete rows and hourly sums that are older, as at the end of LEDGER_DAYS."""
    with store.database.write():
        Request.delete().where((Request.started_at < before) & Request.settled_at.is_null(False)).execute()
        HourlyUsage.delete().where(HourlyUsage.start < before - before % clock.HOUR).execute()


def sums_of(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the amounts that one settled request adds to its sums."""
    source = row["usage_source"]
    known = {name: row.get(name) or 0 for name in _SUMMED}
    return {
        "requests": 1,
        "observed": int(source == Source.OBSERVED),
        "estimated": int(source == Source.ESTIMATED),
        "unpriced": int(source != Source.UNKNOWN and row.get("cost") is None),
        "minimum": int(bool(row.get("cost_is_minimum"))),
        **known,
        "cost_where_told": 0 if row.get("told_cost") is None else row.get("cost") or 0,
    }


def _add(table: type[Sums], rows: Sequence[Mapping[str, Any]], unit: int) -> None:
    """Add each row to the sums of its hour or its day."""
    added: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        start = row["started_at"] - row["started_at"] % unit
        added[start, *(row.get(name) or "" for name in _KEY[1:])].update(sums_of(row))
    for batch in itertools.batched(added.items(), _BATCH):
        sums = [dict(zip(_KEY, key, strict=True)) | numbers for key, numbers in batch]
        table.insert_many(sums).on_conflict(
            conflict_target=[getattr(table, name) for name in _KEY],
            update={name: getattr(table, name) + getattr(EXCLUDED, name) for name in batch[0][1]},
        ).execute()


def without_usage(shown: Any) -> dict[str, Any]:
    """Return a project or a token as lists and other objects show it."""
    return {name: value for name, value in shown.items() if name != "usage"}
