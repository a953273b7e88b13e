"""Refused requests of known tokens, beside the ledger: why a token fails can be looked up.

A client in a loop must not fill the store. So the first refusal of a token with a code gets a row, and those that
follow in the same minute are counted in it. Each process counts its own.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from store.clock import MINUTE
from store.database import Database
from store.errors import GatewayError, TokenRefused
from store.holder import Holder
from store.ledger import Opening
from store.text import storable
from store.tokens import masked

WRITE_DELAY = 1.0
"""Seconds that a count of further refusals waits for more of them."""

MAX_TALLIES = 10_000
"""Rows that a process adds in a minute at most; what is refused beyond them is in the log alone."""

_COLUMNS = {
    "id": "TEXT",
    "started_at": "BIGINT",
    **dict.fromkeys(("project_id", "token_id", "method", "path", "endpoint", "session_id", "client"), "TEXT"),
    "status": "INTEGER",
    "code": "TEXT",
    "repeats": "BIGINT",
}
_INSERT = f"INSERT INTO refusal ({', '.join(_COLUMNS)})"
_COUNT = "ON CONFLICT (id) DO UPDATE SET repeats = excluded.repeats"

_log = logging.getLogger(__name__)


class Refused(NamedTuple):
    """A request that was refused: as it was known then, whose it is, and when that was (microseconds)."""

    opening: Opening
    holder: Holder
    at: int


class Tally(NamedTuple):
    """The first of some refusals, and their number."""

    first: Refused
    status: int
    code: str
    repeats: int = 1

    @property
    def id(self) -> str:
        """The row's id: that of the first request."""
        return self.first.opening.request_id


class Refusals:
    """Counts the refusals of one process, in its event loop; `leave` takes what is to be written."""

    def __init__(self, leave: Callable[[Tally], None]) -> None:
        self._leave = leave
        self._minute = 0
        self._tallies: dict[tuple[str, str], Tally] = {}
        """Those of the minute, by token and code."""
        self._grown: dict[str, Tally] = {}
        """Those whose number is not written, by their ids."""

    def note(self, error: TokenRefused) -> None:
        """Count a refusal. The first of its minute is left at once, the number of the others in WRITE_DELAY."""
        refused = error.refused
        if refused is None:
            return
        minute = refused.at // MINUTE
        if minute != self._minute:
            self._minute, self._tallies = minute, {}
        key = refused.holder.token_id, error.code
        tally = self._tallies.get(key)
        if tally is not None:
            self._tallies[key] = grown = tally._replace(repeats=tally.repeats + 1)
            self._grow(grown)
        elif len(self._tallies) < MAX_TALLIES:
            self._tallies[key] = first = Tally(refused, error.status, error.code)
            self._leave(first)
            if len(self._tallies) == MAX_TALLIES:
                _log.warning("further refusals of this minute are in the log alone", extra={"rows": MAX_TALLIES})

    def take_grown(self) -> Sequence[Tally]:
        """Return what is still to be written."""
        grown, self._grown = self._grown, {}
        return [*grown.values()]

    def _grow(self, tally: Tally) -> None:
        if not self._grown:
            asyncio.get_running_loop().call_later(WRITE_DELAY, self._leave_grown)
        self._grown[tally.id] = tally

    def _leave_grown(self) -> None:
        for tally in self.take_grown():
            self._leave(tally)


def write(database: Database, tallies: Sequence[Tally]) -> None:
    """Add the rows of refusals, or bring their numbers up to date; inside a writing transaction.

    Of several tallies of one row the last one counts. A row is its process's own: no other writes it.
    """
    latest = {tally.id: tally for tally in tallies}
    rows = [_row(latest[row_id]) for row_id in sorted(latest)]
    for table in database.tables([*_COLUMNS.values()], rows):
        database.run(f"{_INSERT} {table.sql} {_COUNT}", table.parameters)


def write_or_drop(database: Database, tallies: Sequence[Tally]) -> None:
    """Write refusals as `write` does; what cannot be written is dropped, so that it holds up nothing else."""
    try:
        with database.savepoint():
            write(database, tallies)
    except GatewayError:
        raise
    except Exception:
        _log.exception("refusals cannot be written", extra={"rows": len(tallies)})


def _row(tally: Tally) -> Sequence[object]:
    opening, holder, at = tally.first
    return (
        *(opening.request_id, at, holder.project_id, holder.token_id, opening.method),
        *(storable(masked(opening.path)), storable(opening.endpoint), opening.session_id, opening.client),
        *(tally.status, tally.code, tally.repeats),
    )
