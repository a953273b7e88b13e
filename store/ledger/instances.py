"""The processes that admit requests, in the store: each shows that it is alive, and what a dead one left is settled.

Whether a process is alive says its count of beats, to whoever watches it go up, on a clock of his own: clocks of
several machines differ, and a store that was down for a while must not make everybody look dead.
"""

import logging
import time
import uuid

from store.database import Database, Statement
from store.errors import GatewayError
from store.ledger.ledger import Ledger, Opened, Settlement

BEAT = 5.0
"""Seconds from one beat to the next."""

LEASE = 30.0
"""Seconds without a beat, watched all the time, after which a process is gone."""

MAX_GAP = 3 * BEAT
"""Seconds from one look to the next, beyond which nothing was watched: this process may itself have stood still."""

CHUNK = 200
"""Rows that are settled in one transaction at most: requests wait meanwhile."""

_log = logging.getLogger(__name__)

_LEFT = (
    "SELECT id, started_at, project_id, token_id, endpoint FROM request"
    " WHERE instance_id = ? AND settled_at IS NULL ORDER BY id LIMIT ?"
)


def new_id() -> str:
    """Return the id of an instance; it is in the store from its first request, or its first beat."""
    return str(uuid.uuid4())


def end(database: Database, ledger: Ledger, instance_id: str) -> None:
    """Settle what this process has left, and take it out; if the store fails, others will."""
    try:
        settle_left(database, ledger, instance_id)
    except GatewayError as error:
        _log.warning("requests are left to other processes to settle: %s", error.__cause__)
    database.close()


def beat(database: Database, instance_id: str) -> None:
    """Show that a process is alive, also to those who took it for dead. Raises StoreUnavailable."""
    with database.write():
        database.run(
            "INSERT INTO instance (id, beats) VALUES (?, 0) ON CONFLICT (id) DO UPDATE SET beats = instance.beats + 1",
            (instance_id,),
        )


def settle_left(database: Database, ledger: Ledger, instance_id: str) -> int:
    """Settle as unknown what a process that is gone has left open, then forget the process. Returns how much it was.

    In transactions of at most CHUNK rows. Raises StoreUnavailable.
    """
    settled = 0
    while True:
        with database.write(pipelined=True):
            # Others may do the same: what comes to the instance meanwhile is left to the next transaction.
            rows = [Opened(*row) for row in database.lock_rows(Statement(_LEFT, (instance_id, CHUNK)))]
            ledger.settle_each([Settlement(row) for row in rows])
            if len(rows) < CHUNK:
                database.run("DELETE FROM instance WHERE id = ?", (instance_id,))
        settled += len(rows)
        if len(rows) < CHUNK:
            return settled


class Watch:
    """Watches all processes of the store for those that are gone. Its clock is the monotonic one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._last_look = 0.0

    def gone(self) -> list[str]:
        """Return the instances that have not beaten for LEASE, all the while watched. Raises StoreUnavailable."""
        now = time.monotonic()
        if now - self._last_look > MAX_GAP:
            self.look_away()
        self._last_look = now
        with self._database.read():
            beats: dict[str, int | None] = dict.fromkeys(self._with_open_rows())
            beats.update(self._database.execute("SELECT id, beats FROM instance", ()))
        self._seen = {
            instance_id: (count, self._since(instance_id, count, now)) for instance_id, count in beats.items()
        }
        return [instance_id for instance_id, (_, since) in self._seen.items() if now - since >= LEASE]

    def look_away(self) -> None:
        """Begin anew, as the store could not be watched meanwhile."""
        self._seen.clear()

    def _with_open_rows(self) -> list[str]:
        rows = self._database.execute("SELECT DISTINCT instance_id FROM request WHERE settled_at IS NULL", ())
        return [instance_id for (instance_id,) in rows]

    def _since(self, instance_id: str, count: int | None, now: float) -> float:
        before, since = self._seen.get(instance_id, (count, now))
        return since if before == count else now
