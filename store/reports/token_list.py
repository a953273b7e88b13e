"""Lists tokens for people: found by name or id, filtered, sorted, page by page.

A page reads no value of a token and no balance, and of the tokens that are not on it nothing but what the filter and
the order need: there may be 100,000. Unlike in lists of what has happened, pages are numbered, so that the size of the
whole is seen, and any of them opened.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from store.clock import DAY
from store.database import Row
from store.database.sql import Conditions, given, storable, where
from store.errors import NotFound
from store.store import Store

PAGE_SIZE = 50

SOON = 7 * DAY
"""Microseconds before its end from which on a token expires soon."""


class State(StrEnum):
    """The state of a token. One that expires soon works."""

    WORKING = "working"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Order(StrEnum):
    """The properties that a list is sorted by."""

    NAME = "name"
    CREATED = "created"
    EXPIRES = "expires"
    USED = "used"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Selects tokens: by a part of the name or the beginning of the id, in any case; None selects all."""

    search: str | None = None
    project_id: str | None = None
    state: State | None = None


class TokenRow(NamedTuple):
    """A token of a list. Times are microseconds; `state` is that of the time of the list."""

    id: str
    name: str | None
    project_id: str
    project_name: str
    project_is_active: bool
    state: State
    created_at: int
    expires_at: int
    last_used_at: int | None
    request_count: int
    max_requests: int

    @property
    def works(self) -> bool:
        """True for a token that is neither revoked nor expired; its project may be switched off."""
        return self.state in {State.WORKING, State.EXPIRING}

    @property
    def is_used_up(self) -> bool:
        """True for a token that has made all requests that it may make."""
        return 0 < self.max_requests <= self.request_count


@dataclass(frozen=True, slots=True)
class TokenPage:
    """The tokens of a page, with its number, and the number of all tokens that are selected."""

    tokens: Sequence[TokenRow]
    number: int
    total: int

    @property
    def first(self) -> int:
        """The place of the first token of the page among all."""
        return (self.number - 1) * PAGE_SIZE + 1

    @property
    def pages(self) -> int:
        """The number of pages; an empty list has one."""
        return max(-(-self.total // PAGE_SIZE), 1)


class _Part(NamedTuple):
    """The rows of a page in the order of the list, or in the opposite one: those that are passed over are read too."""

    offset: int
    limit: int
    is_backwards: bool

    @classmethod
    def of_page(cls, number: int, total: int) -> Self:
        """Return the part from the nearer end of the list."""
        before = (number - 1) * PAGE_SIZE
        limit = min(PAGE_SIZE, total - before)
        behind = total - before - limit
        return cls(behind, limit, True) if behind < before else cls(before, limit, False)


class TokenCounts(NamedTuple):
    """The tokens of a project: all of them, and those that work."""

    total: int
    working: int


class TokenList:
    """Reads lists of tokens. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def page(
        self, about: TokenFilter, order: Order = Order.CREATED, *, descending: bool = True, number: int = 1
    ) -> TokenPage:
        """Return a page of the tokens that a filter selects; the last one for a number beyond it."""
        conditions, parameters = where(self._conditions(about))
        with self._database.snapshot(limit=self._database.timeout):
            ((total,),) = self._database.execute(
                f"SELECT COUNT(*) FROM token WHERE {conditions}",  # noqa: S608 - no data
                parameters,
            )
            number = max(min(number, -(-total // PAGE_SIZE)), 1)
            shown = _Part.of_page(number, total)
            is_dense = about == TokenFilter() or total >= _DENSE * (shown.offset + shown.limit)
            by = (_BY_INDEX if is_dense else _BY_SORTING)[order][descending != shown.is_backwards]
            found = self._database.execute(
                f"SELECT id FROM token WHERE {conditions} ORDER BY {by} LIMIT ? OFFSET ?",  # noqa: S608 - no data
                [*parameters, shown.limit, shown.offset],
            )
            ids = [token_id for (token_id,) in (reversed(found) if shown.is_backwards else found)]
            return TokenPage(self._rows(ids), number, total)

    def of_ids(self, ids: Sequence[str]) -> Sequence[TokenRow]:
        """Return the tokens with some public ids, in their order; an id that no token has is omitted."""
        with self._database.read():
            return self._rows(ids)

    def get(self, token_id: str) -> TokenRow:
        """Return the token with a public id. Raises NotFound, for a token's value too."""
        found = self.of_ids([token_id])
        if not found:
            raise NotFound("There is no such token.")
        return found[0]

    def counts(self) -> Mapping[str, TokenCounts]:
        """Return the numbers of the projects' tokens, by the ids of projects that have any."""
        with self._database.read():
            found = self._database.execute(_COUNTS, [self._database.now()])
        return {project_id: TokenCounts(int(total), int(working or 0)) for project_id, total, working in found}

    def running(self, project_id: str | None = None) -> Mapping[str, int]:
        """Return the numbers of the requests that run now, by the ids of tokens that have any."""
        conditions, parameters = where({"project_id = ?": given(project_id)})
        with self._database.read():
            found = self._database.execute(
                f"{_RUNNING} WHERE {conditions} GROUP BY token_id",
                parameters,
            )
        return dict(found)

    def _conditions(self, about: TokenFilter) -> Conditions:
        now = self._database.now()
        return {
            f"({_NAME} LIKE ? ESCAPE '!' OR id LIKE ? ESCAPE '!')": _patterns(about.search),
            "project_id = ?": given(about.project_id),
            "NOT is_active": [] if about.state == State.REVOKED else None,
            "is_active": None if about.state in {None, State.REVOKED} else [],
            # With the sign no index is used: one of times would find the rows of most tokens one by one.
            "+expires_at > ?": given(now) if about.state in {State.WORKING, State.EXPIRING} else None,
            "+expires_at <= ?": _LATEST[about.state](now) if about.state in _LATEST else None,
        }

    def _rows(self, ids: Sequence[str]) -> Sequence[TokenRow]:
        if not ids:
            return []
        now, among = self._database.now(), self._database.among("token.id", [storable(each) for each in ids])
        found = self._database.execute(f"{_SELECT} WHERE {among.sql}", among.parameters)
        by_id = {row[0]: _row(row, now) for row in found}
        return [by_id[token_id] for token_id in dict.fromkeys(ids) if token_id in by_id]


def state_of(now: int, expires_at: int, *, is_active: bool) -> State:
    """Return the state of a token at a time."""
    if not is_active:
        return State.REVOKED
    if expires_at <= now:
        return State.EXPIRED
    return State.EXPIRING if expires_at <= now + SOON else State.WORKING


def _row(row: Row, now: int) -> TokenRow:
    columns = dict(zip(_COLUMNS, row, strict=True))
    is_active, project_is_active = bool(columns.pop("is_active")), bool(columns.pop("project_is_active"))
    state = state_of(now, columns["expires_at"], is_active=is_active)
    return TokenRow(**columns, project_is_active=project_is_active, state=state)


def _patterns(search: str | None) -> Sequence[str] | None:
    if not search:
        return None
    text = storable(search).lower()
    for character in "!%_":
        text = text.replace(character, f"!{character}")
    return [f"%{text}%", f"{text}%"]


_NAME = "LOWER(token_name)"
"""SQLite lowers ASCII alone, and compares other letters as they are."""

_LATEST: Mapping[State | None, Callable[[int], Sequence[int]]] = {
    State.EXPIRED: lambda now: [now],
    State.EXPIRING: lambda now: [now + SOON],
}
"""The latest ends of the tokens of some states."""

_DENSE = 20
"""In the order of an index rows are found one by one, each for the time of so many in a scan. That is faster as long as
a filter selects so many times the rows that are passed over and shown: not many others are met on the way."""

_BY_SORTING: Mapping[Order, tuple[str, str]] = {
    Order.NAME: ("token_name IS NULL ASC, token_name ASC, id ASC", "token_name IS NULL DESC, token_name DESC, id DESC"),
    Order.CREATED: ("+created_at ASC, id ASC", "+created_at DESC, id DESC"),
    Order.EXPIRES: ("+expires_at ASC, id ASC", "+expires_at DESC, id DESC"),
    # There is no index of these: each admission would have to change it.
    Order.USED: ("COALESCE(last_used_at, 0) ASC, id ASC", "COALESCE(last_used_at, 0) DESC, id DESC"),
    Order.REQUESTS: ("request_count ASC, id ASC", "request_count DESC, id DESC"),
}
"""Ascending and descending, as no index has them. Tokens without a name are the last ones, or the first."""

_BY_INDEX: Mapping[Order, tuple[str, str]] = {
    **_BY_SORTING,
    Order.NAME: ("token_name ASC NULLS LAST, id ASC", "token_name DESC NULLS FIRST, id DESC"),
    Order.CREATED: ("created_at ASC, id ASC", "created_at DESC, id DESC"),
    Order.EXPIRES: ("expires_at ASC, id ASC", "expires_at DESC, id DESC"),
}
"""The same orders, as indexes have them on both engines."""

_COLUMNS: Mapping[str, str] = {
    "id": "token.id",
    "name": "token_name",
    "project_id": "project.id",
    "project_name": "project.name",
    "project_is_active": "project.is_active",
    "is_active": "token.is_active",
    "created_at": "token.created_at",
    "expires_at": "expires_at",
    "last_used_at": "last_used_at",
    "request_count": "request_count",
    "max_requests": "max_requests",
}
_SELECT = f"SELECT {', '.join(_COLUMNS.values())} FROM token JOIN project ON project.id = project_id"  # noqa: S608
_COUNTS = (
    "SELECT project_id, COUNT(*), SUM(CASE WHEN is_active AND expires_at > ? THEN 1 ELSE 0 END) FROM token"
    " GROUP BY project_id"
)
# The few open requests have an index of their own, which would not be used along with another condition.
_RUNNING = (
    "WITH open_request AS MATERIALIZED (SELECT project_id, token_id FROM request WHERE settled_at IS NULL)"
    " SELECT token_id, COUNT(*) FROM open_request"
)
