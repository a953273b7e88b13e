"""Rows of refused requests of known tokens, so that an operator can look up why a token fails.

A client in a loop must not fill the store. So the first refusal of a token with a code gets a row, and those that
follow in the same minute are counted in it. Each process counts its own.
"""

import asyncio
import itertools
import logging
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

from store import clock
from store.clock import MINUTE
from store.database import Database
from store.database.sql import storable
from store.database.transactions import attempt
from store.errors import TokenRefused
from store.ledger import totals
from store.request import Refused

WRITE_DELAY = 0.5
"""Seconds that refusals wait for further ones."""

CHUNK = 100
"""Rows that are enqueued after each delay at most."""

MOST_UNWRITTEN = 1000
"""Entries that may wait when refusals are enqueued: with more, the store does not keep up."""

MAX_TALLIES = 5000
"""Rows that a process adds in a minute at most; further refusals are only in the log."""

_COLUMNS = {
    "id": "TEXT",
    "started_at": "BIGINT",
    **dict.fromkeys(("project_id", "token_id", "method", "path", "endpoint", "session_id", "client"), "TEXT"),
    "status": "INTEGER",
    "code": "TEXT",
    "repeats": "BIGINT",
}
_row = operator.itemgetter(*_COLUMNS)
_INSERT = f"INSERT INTO refusal ({', '.join(_COLUMNS)})"
_COUNT = "ON CONFLICT (id) DO UPDATE SET repeats = excluded.repeats"

_log = logging.getLogger(__name__)


class Tally(NamedTuple):
    """The first of some refusals with the same token and code, and their number."""

    first: Refused
    status: int
    code: str
    repeats: int = 1

    @property
    def id(self) -> str:
        """The row's id: that of the first request."""
        return self.first.opening.request_id


class Refusals:
    """Counts the refusals of one process, in its event loop.

    `enqueue` puts rows into the write-behind queue; `queue_length` returns its length. Settlements wait in it too, and
    must neither be dropped nor be delayed for refusals: so these come some at a time, each row once, and not while the
    store does not keep up.
    """

    def __init__(self, enqueue: Callable[[Tally], None], queue_length: Callable[[], int]) -> None:
        self._enqueue = enqueue
        self._queue_length = queue_length
        self._minute = 0
        self._tallies: dict[tuple[str, str], Tally] = {}
        """The rows of the minute, by token and code."""
        self._unwritten: dict[str, Tally] = {}
        """The rows that are to be enqueued, by their ids."""
        self._is_due = False
        self._is_full = False
        """True once the log has reported that there are too many in this minute."""

    def count(self, error: TokenRefused) -> None:
        """Count a refusal. Its row is enqueued after WRITE_DELAY, or later where there are many."""
        refused = error.refused
        if refused is None:
            return
        minute = refused.at // MINUTE
        if minute > self._minute:  # clocks that step back begin no rows
            self._minute, self._tallies, self._is_full = minute, {}, False
        key = refused.holder.token_id, error.code
        tally = self._tallies.get(key)
        if tally is not None:
            self._keep(key, tally._replace(repeats=tally.repeats + 1))
        elif max(len(self._tallies), len(self._unwritten)) < MAX_TALLIES:
            self._keep(key, Tally(refused, error.status, error.code))
        elif not self._is_full:
            self._is_full = True
            _log.warning("further refusals of this minute are only in the log", extra={"rows": MAX_TALLIES})

    def pop_unwritten(self) -> Sequence[Tally]:
        """Remove and return the rows that are not enqueued yet."""
        unwritten, self._unwritten = self._unwritten, {}
        return [*unwritten.values()]

    def _keep(self, key: tuple[str, str], tally: Tally) -> None:
        self._tallies[key] = self._unwritten[tally.id] = tally
        self._enqueue_later()

    def _enqueue_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(WRITE_DELAY, self._enqueue_some)

    def _enqueue_some(self) -> None:
        self._is_due = False
        if self._queue_length() < MOST_UNWRITTEN:
            for row_id in [*itertools.islice(self._unwritten, CHUNK)]:
                self._enqueue(self._unwritten.pop(row_id))
        if self._unwritten:
            self._enqueue_later()


def write(database: Database, tallies: Sequence[Tally]) -> None:
    """Add the rows of refusals, or update their numbers; inside a writing transaction.

    Of several tallies of one row the last one counts. No other process writes the row.
    """
    latest = {tally.id: tally for tally in tallies}
    edge = clock.now() - totals.LATE
    for tally in latest.values():
        if tally.first.at < edge:
            _note_late(database, tally)
    rows = [_row(_columns(latest[row_id])) for row_id in sorted(latest)]
    for table in database.tables([*_COLUMNS.values()], rows):
        database.run(f"{_INSERT} {table.sql} {_COUNT}", table.parameters)


def _note_late(database: Database, tally: Tally) -> None:
    """Have the totals count what a row that is written late has more than before."""
    rows = database.execute("SELECT repeats FROM refusal WHERE id = ?", (tally.id,))
    more = tally.repeats - sum(repeats for (repeats,) in rows)
    totals.note_refusals(database, tally.first.at, tally.id, {(tally.first.holder.project_id, tally.code): more})


def write_each(database: Database, tallies: Sequence[Tally]) -> None:
    """Write refusals as `write` does; one that cannot be written is dropped, and does not hold up the others."""
    if not _try(database, tallies):
        for tally in tallies:
            if not _try(database, [tally]):
                _log.error("a refusal cannot be written", extra={"request_id": tally.id})


def _try(database: Database, tallies: Sequence[Tally]) -> bool:
    """Write all refusals or none; return whether that was possible. Raises errors of the database itself."""
    fault = attempt(database, lambda: write(database, tallies))
    if fault is not None:
        _log.error("cannot write refusals", exc_info=fault, extra={"rows": len(tallies)})
    return fault is None


def _columns(tally: Tally) -> dict[str, object]:
    opening, holder, at = tally.first
    return {
        "id": tally.id,
        "started_at": at,
        "project_id": holder.project_id,
        "token_id": holder.token_id,
        "method": opening.method,
        "path": opening.kept_path,
        "endpoint": storable(opening.endpoint),
        "session_id": opening.session_id,
        "client": opening.client and storable(opening.client),
        "status": tally.status,
        "code": tally.code,
        "repeats": tally.repeats,
    }
