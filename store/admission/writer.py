"""Writer: the one thread of a process that commits what waits, each time in one transaction.

A commit costs far more than a count, so what arrives together shares one. There are two kinds of work:

- **Requests** are awaited. The promise to a caller: an answer comes within `timeout` seconds, and after
  StoreUnavailable nothing of the request was written, or it is taken back. Where the store is not reached, or other
  transactions are in the way, a request is tried again until its deadline.
- **Entries** of the write-behind queue are not awaited. Several go along with the requests that come next, as one costs
  a request as much time as ten; they go alone when none come for a moment. While the store fails they are kept, and
  tried again.
"""

import itertools
import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from store.admission.compensation import Compensation
from store.admission.inbox import Inbox
from store.admission.pending_request import PendingRequest, refuse_all, resolve_all
from store.admission.write_behind import LOCK_PATIENCE, WriteBehind
from store.database import Database
from store.errors import GatewayError, OutcomeUnknown, StoreLocked, StoreUnavailable, StoreUnreachable

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds until an unreachable store is tried again: up to the first at first, then twice as long each time."""

_log = logging.getLogger(__name__)


class Work[Item, Result, Entry](Protocol):
    """The content of the transactions. All but `abandoned` runs in the writer thread, inside a transaction."""

    def decide(self, items: Sequence[Item], /) -> Sequence[Result | GatewayError]:
        """Return a result, or the error to raise, for each item, in the order of arrival; after `record`."""

    def finish(self) -> None:
        """Do what `record` has left to `decide`, where there are no items."""

    def record(self, entries: Sequence[Entry], /) -> None:
        """Write entries. What is raised costs the transaction."""

    def record_each(self, entries: Sequence[Entry], /) -> None:
        """Write entries that may have failed before; one that cannot be written does not hold up the others."""

    def compensate(self, results: Sequence[Result], /) -> None:
        """Take back, as far as they were written, results whose callers were refused; alone in its transaction."""

    def abandoned(self, result: Result, /) -> Entry | None:
        """Return the entry that settles a result whose caller has gone; in the event loop."""


class Committed[Item, Result](NamedTuple):
    """The transaction is written: the requests that it began, and their outcomes."""

    begun: Sequence[PendingRequest[Item, Result]]
    outcomes: Sequence[Result | GatewayError]


class Retry(NamedTuple):
    """Nothing was written, and nothing is wrong with the work: the store is unreachable, or others were in the way."""

    error: StoreUnreachable | StoreLocked


class Failed(NamedTuple):
    """Nothing was written, and another try would fail too."""

    error: Exception


class InDoubt[Item, Result](NamedTuple):
    """It is unknown whether the transaction was written: the requests that it began, and what it decided."""

    begun: Sequence[PendingRequest[Item, Result]]
    outcomes: Sequence[Result | GatewayError]
    error: OutcomeUnknown


class Writer[Item, Result, Entry]:
    """The thread. Its `inbox` is what the event loop uses."""

    def __init__(self, database: Database, work: Work[Item, Result, Entry]) -> None:
        self._database = database
        self._work = work
        self._entries: WriteBehind[Entry] = WriteBehind()
        self._compensation = Compensation(database, work.compensate)
        self.inbox: Inbox[Item, Result, Entry] = Inbox(database.timeout, self._entries, work.abandoned)
        self._pause = 0.0
        """Seconds until the store is tried again; 0 while it is reached."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def close(self, last: Sequence[Entry] = ()) -> None:
        """Commit what waits, and some last entries, then end the thread.

        Entries get `timeout` seconds, where the store fails.
        """
        self.inbox.close(last)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self.inbox.is_closing:
                due = (self._entries.due, self._compensation.due)
                batch = self.inbox.collect(min((moment for moment in due if moment is not None), default=None))
                self._entries.take_in()
                self._compensation.run_if_due()
                if batch and self._entries.is_retry_due:
                    self._commit([])
                self._commit(batch)
            self._finish()
        finally:
            self.inbox.shut()
            self._database.close()

    def _commit(self, batch: Sequence[PendingRequest[Item, Result]]) -> None:
        """Write a batch with the entries that wait, or entries alone; answer the batch in every case."""
        alone = not batch
        entries = self._entries.next(alone=alone)
        while (batch := _in_time(batch)) or (alone and entries):
            match self._transaction(batch, entries):
                case Committed(begun, outcomes):
                    self._note_success(entries)
                    self._answer(begun, outcomes)
                    return
                case InDoubt(begun, outcomes, error):
                    _log.warning("the outcome of a transaction is unknown: %s", error.__cause__)
                    self._refuse_in_doubt(begun, outcomes)
                case Retry(error):
                    self._back_off(error, batch)
                case Failed(error) if not entries:  # otherwise the entries may be at fault: try without them
                    _refuse(batch, _refusal(error))
            if entries:
                self._entries.postpone()
                entries = []

    def _transaction(
        self, batch: Sequence[PendingRequest[Item, Result]], entries: Sequence[Entry]
    ) -> Committed[Item, Result] | Retry | Failed | InDoubt[Item, Result]:
        """Try once to write a batch and entries. Requests that it could not write can begin again, if in time."""
        begun: list[PendingRequest[Item, Result]] = []
        outcomes: Sequence[Result | GatewayError] = []

        def doubt() -> None:
            refuse_all([request for request in begun if request.doubt()], StoreUnavailable())

        deadline = min((request.deadline for request in batch), default=None)
        patience = None if batch else LOCK_PATIENCE
        try:
            with self._database.write(deadline=deadline, patience=patience, pipelined=True, in_doubt=doubt):
                if entries:  # first, as requests lock what many want
                    (self._work.record if batch else self._work.record_each)(entries)
                now = time.monotonic()
                begun += [request for request in batch if request.begin(now)]
                if begun:
                    outcomes = self._work.decide([request.item for request in begun])
                else:
                    self._work.finish()
        except OutcomeUnknown as error:
            return InDoubt(begun, outcomes, error)
        except BaseException as error:
            refuse_all([request for request in begun if request.release()], StoreUnavailable())
            if not isinstance(error, Exception):
                raise  # the thread ends; the deadlines answer
            return Retry(error) if isinstance(error, StoreUnreachable | StoreLocked) else Failed(error)
        return Committed(begun, outcomes)

    def _note_success(self, written: Sequence[Entry]) -> None:
        """Forget the entries that are written, and that there ever was a fault."""
        if self._pause:
            self._pause = 0.0
            _log.warning("the store is reachable again")
        self._entries.forget(written)

    def _answer(
        self, requests: Sequence[PendingRequest[Item, Result]], outcomes: Sequence[Result | GatewayError]
    ) -> None:
        """Answer requests; compensate those that their deadlines refused while the transaction was in doubt."""
        is_first = [request.finish() for request in requests]
        resolve_all([*itertools.compress(requests, is_first)], [*itertools.compress(outcomes, is_first)])
        if not all(is_first):
            self._compensation.add([outcome for outcome, first in zip(outcomes, is_first, strict=True) if not first])

    def _refuse_in_doubt(
        self, requests: Sequence[PendingRequest[Item, Result]], outcomes: Sequence[Result | GatewayError]
    ) -> None:
        """Answer requests for which something may have been written, and compensate that."""
        told = [outcome if isinstance(outcome, GatewayError) else StoreUnavailable() for outcome in outcomes]
        self._answer(requests, told)
        self._compensation.add(outcomes)

    def _back_off(self, error: StoreUnreachable | StoreLocked, batch: Sequence[PendingRequest[Item, Result]]) -> None:
        """Wait before the next try, if the store is unreachable: each process for a random time, not all at once."""
        if isinstance(error, StoreLocked):
            return
        if not self._pause:
            _log.warning("the store is unreachable: %s", error.__cause__)
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        if batch:
            left = min(request.deadline for request in batch) - time.monotonic()
            time.sleep(max(0.0, min(random.uniform(0.0, self._pause), left)))  # noqa: S311 - no secret

    def _finish(self) -> None:
        """Write all entries that have arrived by now, and compensate, unless the store fails for too long."""
        deadline = time.monotonic() + self._database.timeout
        self._entries.take_in()
        while (self._entries or self._compensation) and time.monotonic() < deadline:
            self._entries.hurry()
            self._commit([])
            if self._compensation:
                self._compensation.run()
            if self._entries.have_failed or self._compensation:
                time.sleep(LOCK_PATIENCE)
        if self._entries or self._compensation:
            left = {"entries": len(self._entries), "in_doubt": len(self._compensation)}
            _log.error("the process ends before all was written", extra=left)


def _in_time[Item, Result](batch: Sequence[PendingRequest[Item, Result]]) -> Sequence[PendingRequest[Item, Result]]:
    """Return the requests whose time is not over. Their deadlines answer the others."""
    now = time.monotonic()
    return [request for request in batch if request.may_begin(now)]


def _refuse[Item, Result](batch: Sequence[PendingRequest[Item, Result]], error: GatewayError) -> None:
    refuse_all([request for request in batch if request.end()], error)


def _refusal(error: Exception) -> GatewayError:
    """Log why a batch failed, and return what its callers are told."""
    if isinstance(error, StoreUnavailable):
        _log.warning("the store does not answer: %s", error.__cause__)
        return StoreUnavailable()
    _log.error("a batch failed", exc_info=error)
    return GatewayError()
