"""Rows of the ledger and their sums, as the gateway writes them."""

import uuid
from collections.abc import Mapping
from typing import Any

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
_SUMMED = ("request_bytes", "response_bytes", *COLUMNS, "cost", "told_cost")


def open_request(store: Store, **columns: Any) -> dict[str, Any]:
    """Write the row of a request that is running; return its columns."""
    row = {"id": new_request_id(), "instance_id": INSTANCE_ID, **_ASKED, **columns}
    with store.database.write():
        Request.create(**row)
    return row


def settle_request(store: Store, **columns: Any) -> dict[str, Any]:
    """Write the row of a request that has ended, and add it to its sums; return its columns."""
    started_at = columns.setdefault("started_at", NOON)
    row = open_request(
        store, **{"settled_at": started_at + clock.SECOND, "usage_source": Source.UNKNOWN, "status": 200, **columns}
    )
    with store.database.write():
        if row.get("upstream_request_id"):
            UpstreamId.create(upstream_request_id=row["upstream_request_id"], request_id=row["id"])
        _add(HourlyUsage, row, clock.HOUR)
        _add(DailyUsage, row, clock.DAY)
    return row


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


def _add(table: type[Sums], row: Mapping[str, Any], unit: int) -> None:
    start = row["started_at"] - row["started_at"] % unit
    key = {**{name: row.get(name) or "" for name in _KEY}, "start": start}
    sums = sums_of(row)
    table.insert(**key, **sums).on_conflict(
        conflict_target=[getattr(table, name) for name in _KEY],
        update={name: getattr(table, name) + number for name, number in sums.items()},
    ).execute()


def without_usage(shown: Any) -> dict[str, Any]:
    """Return a project or a token as lists and other objects show it."""
    return {name: value for name, value in shown.items() if name != "usage"}
