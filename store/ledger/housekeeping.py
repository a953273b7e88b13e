"""What each process does beside its work, in a thread of its own.

It tidies the database, shows that it is alive, settles what dead processes have left, and deletes what has been kept
for long enough. While the store fails, it is tried again later.
"""

import logging
import threading
import time
from collections.abc import Callable

from store.errors import GatewayError
from store.ledger import instances, retention
from store.ledger.instances import BEAT, Watch
from store.ledger.ledger import Ledger
from store.store import Store

TIDYING = 1.0
"""Seconds from one time that the database is tidied to the next."""

CLEANING = 600.0
"""Seconds from one look for what can be deleted to the next."""

_log = logging.getLogger(__name__)


class Housekeeping:
    """The thread. `ledger_days` says how long rows stay.

    `instance_id` is the process's own, if it admits requests.
    """

    def __init__(self, store: Store, ledger_days: int, instance_id: str | None = None) -> None:
        self._database = store.database
        self._ledger = Ledger(store.database)
        self._ledger_days = ledger_days
        self._instance_id = instance_id
        self._watch = Watch(store.database)
        self._next_cleaning = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, after the transaction that is under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        next_turn = time.monotonic() + BEAT
        while not self._stopped.wait(min(TIDYING, BEAT)):
            self._try(self._database.tidy)
            if time.monotonic() >= next_turn:
                next_turn = time.monotonic() + BEAT
                self._try(self._turn)
        self._database.close()

    def _try(self, act: Callable[[], object]) -> None:
        """Do something; whatever is wrong with that, all else goes on."""
        try:
            act()
        except GatewayError as error:
            self._watch.look_away()
            _log.warning("the store does not answer: %s", error.__cause__)
        except Exception:
            _log.exception("housekeeping failed")

    def _turn(self) -> None:
        if self._instance_id is not None:
            instances.beat(self._database, self._instance_id)
        for instance_id in self._watch.gone():
            settled = instances.settle_left(self._database, self._ledger, instance_id)
            level = logging.WARNING if settled else logging.DEBUG
            _log.log(level, "a process is gone", extra={"instance_id": instance_id, "requests_left": settled})
        if time.monotonic() >= self._next_cleaning:
            self._next_cleaning = time.monotonic() + CLEANING
            retention.clean(self._database, self._ledger_days, self._stopped)
