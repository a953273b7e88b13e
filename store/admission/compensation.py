"""Compensation: what may have been written for a request that was refused is taken back.

It happens where the store stopped answering in the middle of a COMMIT whose outcome could not be looked up in time. The
request did not go on, so its count goes, and its row, which nothing else refers to.
"""

import logging
import time
from collections.abc import Callable, Sequence

from store.admission.limits import requests as max_requests
from store.admission.write_behind import LOCK_PATIENCE
from store.database import Database, Row, Statement, locks
from store.errors import GatewayError
from store.limits import balance, holds
from store.limits.window import Window
from store.request import Amounts, Opened

_log = logging.getLogger(__name__)

DELAY = 0.5
"""Seconds until results are taken back, and until that is tried again."""


class Compensation[Result]:
    """Results in doubt, until they are taken back. For the writer thread.

    That takes a transaction of its own, as it locks first what others lock last.
    """

    def __init__(self, database: Database, compensate: Callable[[Sequence[Result]], None]) -> None:
        self._database = database
        self._compensate = compensate
        self._results: list[Result] = []
        self._due = 0.0

    def __len__(self) -> int:
        """Return how many results there are to take back."""
        return len(self._results)

    @property
    def due(self) -> float | None:
        """The time to run it, by the monotonic clock; None if there is nothing to take back."""
        return self._due if self._results else None

    def add(self, outcomes: Sequence[Result | GatewayError]) -> None:
        """Take back, in a moment, what may have been written for callers who were refused."""
        results = [outcome for outcome in outcomes if not isinstance(outcome, GatewayError)]
        if results:
            self._results += results
            self._due = time.monotonic() + DELAY

    def run_if_due(self) -> None:
        """Run it when it is time."""
        if self._results and time.monotonic() >= self._due:
            self.run()

    def run(self) -> None:
        """Take all back, or try again later."""
        try:
            with self._database.write(patience=LOCK_PATIENCE, pipelined=True):
                self._compensate(self._results)
        except Exception as error:
            if not isinstance(error, GatewayError):
                _log.exception("a compensation failed, and is tried again")
            self._due = time.monotonic() + DELAY
        else:
            self._results = []


def take_back(database: Database, opened: Sequence[Opened]) -> None:
    """Take back requests, as far as they were counted; inside a writing transaction that does nothing else.

    The transaction that counts a request has its token locked: once that is free, it is known whether there is a row.
    """
    if not opened:
        return
    requests = database.among("id", [row.request_id for row in opened])
    owners = database.among("owner_id", sorted({owner for row in opened for owner in (row.token_id, row.project_id)}))
    tokens = locks.tokens(database, [row.token_id for row in opened])
    now, _, locked = database.read_locked([balance.lock(owners), tokens], Statement("SELECT 1"))
    rows = database.execute(
        f"DELETE FROM request WHERE settled_at IS NULL AND {requests.sql}"  # noqa: S608 - no data
        " RETURNING id, reserved_tokens, reserved_usd",
        requests.parameters,
    )
    reserved = {request_id: Amounts(tokens or 0, usd or 0) for request_id, tokens, usd in rows}
    withdrawn = [row._replace(reserved=reserved[row.request_id]) for row in opened if row.request_id in reserved]
    max_requests.take_back(database, withdrawn)
    _take_back_of_limits(database, withdrawn, now, locked)


def _take_back_of_limits(
    database: Database, withdrawn: Sequence[Opened], now: int, locked: Sequence[Row] | None
) -> None:
    owners = {owner for row in withdrawn for owner in (row.token_id, row.project_id)}
    found = balance.of_owners(database, owners, now)
    balances = {one.id: one for owned in found.values() for one in owned}
    balance.require_locked(balances, locked)
    holds.take_back(database, withdrawn, balances)
    for row in withdrawn:
        for one in (*found[row.token_id], *found[row.project_id]):
            if isinstance(one.state, Window) and one.counted == "requests":
                one.state.take_back(row.started_at)
                one.is_changed = True
    balance.write(database, balances.values())
