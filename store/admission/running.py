"""Running requests: those whose token may make no more requests, or does not have their value any more.

Nothing is locked: what is read is committed. The store's clock decides, as for admissions.
"""

import itertools
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from store.admission.decision import refusal_of
from store.database import Database, Statement
from store.errors import GatewayError, InvalidToken
from store.management import previous_values

MOST_TOKENS = 10_000
"""Tokens that one statement asks for: SQLite takes 32,766 values."""

_SELECT = (
    "SELECT token.id, lookup, previous_lookup, previous_expires_at, token.is_active, expires_at, project.is_active"
    " FROM token JOIN project ON project.id = token.project_id WHERE "
)


class Running(NamedTuple):
    """A token that has requests under way, and the HMAC of the value that they came with; empty for a replay."""

    token_id: str
    lookup: str


class Watch(NamedTuple):
    """Asks for those of some running requests that are to end."""

    running: AbstractSet[Running]


class _Token(NamedTuple):
    """A token as far as its running requests depend on it."""

    id: str
    lookup: str
    previous_lookup: str | None
    previous_expires_at: int | None
    token_is_active: bool
    token_expires_at: int
    project_is_active: bool

    def ends(self, lookup: str, now: int) -> GatewayError | None:
        """Return why the requests that came with a value are to end, or None."""
        works = previous_values.working_until(self.previous_expires_at, self.token_expires_at, now) is not None
        if lookup not in {"", self.lookup} and not (works and lookup == self.previous_lookup):
            return _gone()
        return refusal_of(self, now)


def ended(database: Database, watches: Sequence[Watch]) -> Mapping[Running, GatewayError]:
    """Return why requests are to end, by their tokens and values; those that may go on are not among them."""
    running = {each for watch in watches for each in watch.running}
    if not running:
        return {}
    now, tokens = _read(database, sorted({each.token_id for each in running}))
    found = {}
    for each in running:
        token = tokens.get(each.token_id)
        error = _gone() if token is None else token.ends(each.lookup, now)
        if error is not None:
            found[each] = error
    return found


def _read(database: Database, ids: Sequence[str]) -> tuple[int, Mapping[str, _Token]]:
    """Return the store's time, and those tokens that there are."""
    now, tokens = 0, dict[str, _Token]()
    for some in itertools.batched(ids, MOST_TOKENS):
        named = database.among("token.id", some)
        read = database.read_locked([], Statement(_SELECT + named.sql, named.parameters))
        now = max(now, read.now)  # without rows it means nothing, and may be 0
        tokens |= {token.id: token for token in map(_Token._make, read.rows)}
    return now, tokens


def _gone() -> InvalidToken:
    return InvalidToken("The token was deleted, or its value was replaced by a new one.")
