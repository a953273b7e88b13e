"""Lists changes: the rows of the audit, newest first, page by page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from store.database import Row
from store.database.sql import given, storable, where
from store.reports.pages import DEFAULT_LIMIT, Cursor, Page
from store.store import Store


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Selects changes: microseconds from `start` until just before `end`; None selects all.

    `object_id` is that of the object of a change, or one of the ids of a change of several; `object_name` is the name
    that the object had.
    """

    start: int | None = None
    end: int | None = None
    actor: str | None = None
    action: str | None = None
    object_id: str | None = None
    project_id: str | None = None
    object_name: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A change. Its names are those of the time of the change; `changes` has each field before and after it."""

    id: str
    changed_at: int
    actor: str
    action: str
    object_id: str | None
    object_name: str | None
    project_id: str | None
    changes: dict[str, dict[str, object]]
    ids: list[str]
    address: str | None
    request_id: str | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a row of these columns."""
        columns = dict(zip(_COLUMNS, row, strict=True))
        return cls(**{**columns, "changes": json.loads(columns["changes"]), "ids": json.loads(columns["ids"] or "[]")})


_COLUMNS = [field.name for field in fields(AuditRecord)]
_ROWS = f"SELECT {', '.join(_COLUMNS)} FROM audit"  # noqa: S608 - no data
_NAMED = "SELECT object_id, action FROM audit WHERE object_name = ? AND object_id IS NOT NULL ORDER BY changed_at, id"
_ABOUT = "(object_id = ? OR ids IS NOT NULL AND ids LIKE ?)"


class AuditLog:
    """Reads changes. Raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def page(self, about: AuditFilter, *, limit: int = DEFAULT_LIMIT, after: Cursor | None = None) -> Page[AuditRecord]:
        """Return up to `limit` changes that a filter selects, after a cursor where one is given."""
        object_id = about.object_id and storable(about.object_id)
        conditions, parameters = where(
            {
                "changed_at >= ?": given(about.start),
                "changed_at < ?": given(about.end),
                "actor = ?": given(about.actor),
                "action = ?": given(about.action),
                _ABOUT: None if object_id is None else (object_id, f'%"{object_id}"%'),
                "project_id = ?": given(about.project_id),
                "object_name = ?": given(about.object_name),
                "(changed_at, id) < (?, ?)": after,
            }
        )
        with self._database.read():
            rows = self._database.execute(
                f"{_ROWS} WHERE {conditions} ORDER BY changed_at DESC, id DESC LIMIT ?", [*parameters, limit + 1]
            )
        return Page.of([AuditRecord.of(row) for row in rows], limit, lambda last: Cursor(last.changed_at, last.id))

    def named(self, name: str) -> Sequence[tuple[str, str]]:
        """Return the ids of all that had a name at one of its changes, each with the action of the first of these."""
        with self._database.read():
            rows = self._database.execute(_NAMED, [storable(name)])
        return [*{str(object_id): str(action) for object_id, action in reversed([*rows])}.items()]
