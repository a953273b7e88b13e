"""Instances: the processes that admit requests, as rows of the store. What a dead one left open is settled by others.

A process is alive while its heartbeat counter rises. Each observer times that with its own monotonic clock: clocks of
several machines differ, and a store that was down for a while must not make every process look dead.
"""

import logging
import time
import uuid

from store.database import Database, Row, Statement
from store.database.transactions import transact
from store.errors import GatewayError
from store.ledger.ledger import Ledger, Settlement
from store.limits import holds
from store.metrics import process_figures
from store.metrics.process_figures import FiguresRow
from store.request import Amounts, Opened

HEARTBEAT = 5.0
"""Seconds from one heartbeat to the next."""

LEASE = 30.0
"""Seconds without a heartbeat, watched all the time, after which a process is dead."""

MAX_GAP = 3 * HEARTBEAT
"""Seconds from one look to the next; with more, this process may itself have stood still, and has watched nothing."""

CHUNK = 200
"""Rows that are settled in one transaction at most: requests wait for it."""

_log = logging.getLogger(__name__)

_LEFT = (
    "SELECT id, started_at, project_id, token_id, endpoint,"
    " EXISTS (SELECT 1 FROM slot WHERE slot.request_id = request.id), reserved_tokens, reserved_usd FROM request"
    " WHERE instance_id = ? AND settled_at IS NULL ORDER BY id LIMIT ?"
)


def new_id() -> str:
    """Return the id of a new instance; it is in the store from its first request, or its first heartbeat."""
    return str(uuid.uuid4())


def end(database: Database, ledger: Ledger, figures: FiguresRow) -> None:
    """Settle what this process left open, and delete its rows; if the store fails, other processes will."""
    try:
        figures.write(database)
        settle_left(database, ledger, figures.instance_id)
    except GatewayError as error:
        _log.warning("open requests are left to other processes to settle: %s", error.__cause__)
    database.close()


def beat(database: Database, instance_id: str) -> None:
    """Raise the heartbeat counter of a process; adds its row if there is none. Raises StoreUnavailable."""
    with database.write():
        database.run(
            "INSERT INTO instance (id, beats) VALUES (?, 0) ON CONFLICT (id) DO UPDATE SET beats = instance.beats + 1",
            (instance_id,),
        )


def settle_left(database: Database, ledger: Ledger, instance_id: str) -> int:
    """Settle as unknown the requests that a dead process left open, then delete its rows. Returns their number.

    In transactions of at most CHUNK rows. Raises StoreUnavailable.
    """
    settled = 0
    while True:
        number = transact(database, lambda: _settle_some(database, ledger, instance_id), pipelined=True)
        settled += number
        if number < CHUNK:
            return settled


def _settle_some(database: Database, ledger: Ledger, instance_id: str) -> int:
    # Other processes may do the same: rows that the instance opens now are left to the next transaction.
    rows = [_opened(row) for row in database.lock_rows(Statement(_LEFT, (instance_id, CHUNK)))]
    holds.settle_alone(database, ledger.settle_each([Settlement(row) for row in rows]))
    if len(rows) < CHUNK:
        database.run("DELETE FROM instance WHERE id = ?", (instance_id,))
        process_figures.retire(database, instance_id)
    return len(rows)


def _opened(row: Row) -> Opened:
    has_slots, tokens, usd = row[5:]
    opened = Opened(*row[:5])
    reserved = Amounts(tokens or 0, usd or 0)
    return opened._replace(has_slots=bool(has_slots), is_counted=tokens is not None, reserved=reserved)


class Watch:
    """Finds the dead among all processes of the store. Its clock is the monotonic one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._last_look = 0.0

    def gone(self) -> list[str]:
        """Return the instances without a heartbeat for LEASE, watched all the time. Raises StoreUnavailable."""
        now = time.monotonic()
        if now - self._last_look > MAX_GAP:
            self.restart()
        self._last_look = now
        with self._database.read():
            beats: dict[str, int | None] = dict.fromkeys(self._with_open_rows())
            beats.update(self._database.execute("SELECT id, beats FROM instance", ()))
        self._seen = {
            instance_id: (count, self._since(instance_id, count, now)) for instance_id, count in beats.items()
        }
        return [instance_id for instance_id, (_, since) in self._seen.items() if now - since >= LEASE]

    def restart(self) -> None:
        """Begin the leases again, as the store could not be watched for a while."""
        self._seen.clear()

    def _with_open_rows(self) -> list[str]:
        rows = self._database.execute("SELECT DISTINCT instance_id FROM request WHERE settled_at IS NULL", ())
        return [instance_id for (instance_id,) in rows]

    def _since(self, instance_id: str, count: int | None, now: float) -> float:
        before, since = self._seen.get(instance_id, (count, now))
        return since if before == count else now
