"""Housekeeping: the background thread of each process.

It tidies the database, sends heartbeats with the process's figures, settles what dead processes left open, moves totals
on, and deletes what has been kept for long enough. While the store fails, it tries again later.
"""

import logging
import threading
import time
from collections.abc import Callable

from store.errors import GatewayError
from store.ledger import instances, retention, totals
from store.ledger.instances import HEARTBEAT, Watch
from store.ledger.ledger import Ledger
from store.limits import holds
from store.metrics.process_figures import FiguresRow
from store.store import Store

TIDYING = 1.0
"""Seconds from one tidying of the database to the next."""

CLEANING = 600.0
"""Seconds from one search for what can be deleted to the next."""

_log = logging.getLogger(__name__)


class Housekeeping:
    """The thread. `ledger_days` is how long rows are kept, `audit_days` those of the audit (None: for ever).

    `figures` are those of this process, if it admits requests.
    """

    def __init__(
        self, store: Store, ledger_days: int, figures: FiguresRow | None = None, *, audit_days: int | None = None
    ) -> None:
        self._database = store.database
        self._ledger = Ledger(store.database)
        self._ledger_days = ledger_days
        self._audit_days = audit_days
        self._figures = figures
        self._watch = Watch(store.database)
        self._next_cleaning = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, after the transaction under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        next_turn = time.monotonic() + HEARTBEAT
        while not self._stopped.wait(min(TIDYING, HEARTBEAT)):
            self._try(self._database.tidy)
            if time.monotonic() >= next_turn:
                next_turn = time.monotonic() + HEARTBEAT
                self._try(self._turn)
        self._database.close()

    def _try(self, task: Callable[[], object]) -> None:
        """Run one task. A failure is logged and does not stop the other tasks."""
        try:
            task()
        except GatewayError as error:
            self._watch.restart()
            _log.warning("the store does not answer: %s", error.__cause__)
        except Exception:
            _log.exception("a task of the housekeeping failed")

    def _turn(self) -> None:
        if self._figures is not None:
            instances.beat(self._database, self._figures.instance_id)
            self._figures.write(self._database)
        for instance_id in self._watch.gone():
            settled = instances.settle_left(self._database, self._ledger, instance_id)
            level = logging.WARNING if settled else logging.DEBUG
            _log.log(
                level,
                "a process is dead; its open requests are settled",
                extra={"instance_id": instance_id, "requests_left": settled},
            )
        holds.reclaim(self._database)
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + CLEANING
            holds.recount(self._database)
            totals.move_on(self._database, self._stopped)
            retention.clean(self._database, self._ledger_days, self._stopped, audit_days=self._audit_days)
