"""The figures of processes as rows of the store: one for each process, and one for all that have ended.

A row is written with the process's heartbeat. When the process has ended, or is taken for dead, its last row is added
to the one of the ended, in the transaction that deletes it: so the sums of all rows never fall. A process that is
killed loses what it counted since its last heartbeat.
"""

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from store.database import Database, Statement
from store.metrics.figures import Counts, Figures, plus
from store.version import __version__

ENDED = "ended"
"""The id of the row of all processes that have ended."""

_UPDATE = "UPDATE process_figures SET figures = ? WHERE instance_id = ?"
_INSERT = (
    "INSERT INTO process_figures (instance_id, figures) VALUES (?, ?)"
    " ON CONFLICT (instance_id) DO UPDATE SET figures = excluded.figures"
)
_NOTHING_YET = (
    "INSERT INTO process_figures (instance_id, figures) VALUES (?, '{}') ON CONFLICT (instance_id) DO NOTHING"
)
_BOTH = "SELECT instance_id, figures FROM process_figures WHERE instance_id IN (?, ?) ORDER BY instance_id"


class Snapshot(NamedTuple):
    """The figures of a process at a time: what it has counted, its present numbers, and its version."""

    counts: Counts
    present: Mapping[str, int] = {}
    version: str = ""

    @classmethod
    def of(cls, text: str) -> "Snapshot":
        """Read the column `figures`."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(self._asdict(), separators=(",", ":"))


class FiguresRow:
    """The row of this process."""

    def __init__(self, instance_id: str, figures: Figures) -> None:
        self.instance_id = instance_id
        self._figures = figures
        self._written: Counts | None = None
        """The counts that the row has; None before it is there."""
        self._retired: Counts = {}
        """The counts that others have added to the row of the ended, as they took this process for dead."""

    def write(self, database: Database) -> None:
        """Write the figures as they are now. Raises StoreUnavailable."""
        counts, retired = self._figures.counts(), self._retired
        with database.write():
            if self._written is None or not self._update(database, plus(counts, retired, -1)):
                retired = plus(retired, self._written or {})
                database.run(_INSERT, (self.instance_id, self._text(plus(counts, retired, -1))))
        self._written, self._retired = plus(counts, retired, -1), retired

    def _update(self, database: Database, counts: Counts) -> int:
        return database.update(_UPDATE, (self._text(counts), self.instance_id))

    def _text(self, counts: Counts) -> str:
        return str(Snapshot(counts, self._figures.present(), __version__))


def retire(database: Database, instance_id: str) -> None:
    """Add the row of a process that has ended to the one of the ended; inside a writing transaction.

    Several may do that for one process: the first one does.
    """
    database.run(_NOTHING_YET, (ENDED,))
    found: dict[str, str] = dict(database.lock_rows(Statement(_BOTH, (ENDED, instance_id))))
    if instance_id in found:
        ended, last = _read(found[ENDED]), _read(found[instance_id])
        database.run(_UPDATE, (str(Snapshot(plus(ended.counts, last.counts))), ENDED))
        database.run("DELETE FROM process_figures WHERE instance_id = ?", (instance_id,))


def read(database: Database) -> Iterator[tuple[str, Snapshot]]:
    """Return the figures of all processes that run, and of those that have ended; inside `read` or `snapshot`."""
    for instance_id, text in database.execute("SELECT instance_id, figures FROM process_figures", ()):
        yield instance_id, _read(text)


def _read(text: str) -> Snapshot:
    return Snapshot.of(text) if text != "{}" else Snapshot({})
