"""One writer thread a process, which commits what waits in one transaction.

A commit costs far more than a count, so what arrives together shares one. There are two kinds of work:

- **Items** are awaited. The promise to a caller: an answer comes within `timeout` seconds, and after StoreUnavailable
  nothing of the item was written, or it is taken back. Where the store is not reached, or others are in the way, an
  item is tried again until its deadline.
- **Notes** are left, and nobody waits for them. Several go along with the items that come next, as one costs an item as
  much time as ten; they go alone when none come for a moment. While the store fails they are kept, and tried again.

The event loop only enqueues and awaits; it never waits on the database.
"""

import asyncio
import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from store.admission.notes import NOTE_DELAY, Notes
from store.admission.ticket import Ticket
from store.database import Database
from store.errors import GatewayError, OutcomeUnknown, StoreLocked, StoreUnavailable, StoreUnreachable

CAPACITY = 2048
"""Items that may wait. More would not be served in time; they are refused at once."""

BATCH = 256
"""Items that are enough for a transaction: it has fewer than twice as many."""

NOTE_PATIENCE = 0.05
"""Seconds that notes alone wait for a lock: items may come meanwhile."""

DOUBT_DELAY = 0.5
"""Seconds until what may have been written is taken back, and until that is tried again."""

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds until a store that was not reached is tried again: up to the first at first, then twice as long each time."""

_log = logging.getLogger(__name__)


class _Signal(Enum):
    """What else the writer is told."""

    WAKE = auto()
    END = auto()


class Recorder[Note](Protocol):
    """Writes notes; `alone` are those that may have failed before, one of which must not hold up the others."""

    def __call__(self, notes: Sequence[Note], /, *, alone: bool) -> None:
        """Write them. What is raised costs the transaction."""


class GroupCommit[Item, Result, Note]:
    """Runs `decide` on batches of items, in the order of arrival, each batch in one writing transaction.

    `decide` returns one result, or the error to raise, for each item; `record` writes notes, in the same transaction.
    Both run in the writer thread. `unheard` is called, in the event loop, with the result of an item whose caller
    was cancelled when it was too late to take the item back. `withdraw` takes back, as far as they were written,
    results whose callers were told StoreUnavailable, as nobody knew that in time; in a transaction of its own, as it
    locks what others lock last.
    """

    def __init__(
        self,
        database: Database,
        decide: Callable[[Sequence[Item]], Sequence[Result | GatewayError]],
        record: Recorder[Note],
        unheard: Callable[[Result], None],
        withdraw: Callable[[Sequence[Result]], None],
    ) -> None:
        self._database = database
        self._decide = decide
        self._record = record
        self._unheard = unheard
        self._withdraw = withdraw
        self._queue: queue.SimpleQueue[Sequence[Ticket[Item, Result]] | _Signal] = queue.SimpleQueue()
        self._arriving: list[Ticket[Item, Result]] = []
        """Items of this turn of the event loop, which are given to the writer together."""
        self._turns = 0
        """In how many turns there have been items."""
        self._waiting = 0
        self._notes: Notes[Note] = Notes()
        self._waker: asyncio.AbstractEventLoop | None = None
        """The event loop that will wake the writer for the notes that are left."""
        self._doubted: list[Result] = []
        """Results that may have been written, and have to be taken back."""
        self._doubted_due = 0.0
        self._pause = 0.0
        """Seconds until the store is tried again; 0 while it is reached."""
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, item: Item) -> Result:
        """Return the item's result once it is committed. Raises what `decide` returned, or StoreUnavailable."""
        if self._waiting >= CAPACITY or not self._thread.is_alive():
            raise StoreUnavailable
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._database.timeout
        ticket: Ticket[Item, Result] = Ticket(item, deadline, loop.create_future())
        timer = loop.call_later(self._database.timeout, _expire, ticket)
        self._waiting += 1
        if not self._arriving:
            loop.call_soon(self._hand_over)
        self._arriving.append(ticket)
        try:
            return await asyncio.shield(ticket.future)
        except asyncio.CancelledError:
            if not ticket.leave():
                ticket.future.add_done_callback(self._tell_unheard)
            raise
        finally:
            self._waiting -= 1
            timer.cancel()

    def leave(self, note: Note) -> None:
        """Have a note written; called in an event loop, returns at once.

        It is written with the next items, once there are some notes or it has waited for a moment; or alone when no
        items come: to wake the writer for each would cost more than that.
        """
        self._notes.leave(note)
        loop = asyncio.get_running_loop()
        if self._waker is not loop:
            self._waker = loop
            loop.call_later(NOTE_DELAY, self._wake, loop, self._turns)

    @property
    def notes_waiting(self) -> int:
        """The number of notes that are not written yet."""
        return self._notes.waiting

    def close(self, last: Sequence[Note] = ()) -> None:
        """Commit what waits, and some last notes, then end the writer thread.

        Notes get `timeout` seconds, where the store fails.
        """
        self._hand_over()
        for note in last:
            self._notes.leave(note)
        self._queue.put(_Signal.END)
        self._thread.join()

    def _hand_over(self) -> None:
        """Give the writer what has arrived; once a turn, as it takes the interpreter from this thread when it wakes."""
        for batch in itertools.batched(self._arriving, BATCH):
            self._queue.put(batch)
        self._arriving.clear()
        self._turns += 1

    def _wake(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Have the writer write the notes that are left; later, while there are items to go along with."""
        if self._notes.have_arrived and self._turns != turns:
            loop.call_later(NOTE_DELAY, self._wake, loop, self._turns)
            return
        self._waker = None
        if self._notes.have_arrived:
            self._queue.put(_Signal.WAKE)

    def _tell_unheard(self, future: asyncio.Future[Result]) -> None:
        if future.exception() is None:
            self._unheard(future.result())

    def _run(self) -> None:
        while not self._closing:
            batch = self._collect()
            if self._doubted and time.monotonic() >= self._doubted_due:
                self._withdraw_doubted()
            if batch and self._notes.are_due_again:
                self._commit([])
            self._commit(batch)
        self._finish()
        self._database.close()

    def _collect(self) -> list[Ticket[Item, Result]]:
        """Return the items that wait, and take in the notes. Waits for the first item, or until notes have to go."""
        batch: list[Ticket[Item, Result]] = []
        wait = True
        while len(batch) < BATCH and not self._closing:
            try:
                work = self._next(wait=wait)
            except queue.Empty:
                break
            wait = False
            if work is _Signal.END:
                self._closing = True
            elif work is not _Signal.WAKE:
                batch += work
        self._notes.take_in()
        return batch

    def _next(self, *, wait: bool) -> Sequence[Ticket[Item, Result]] | _Signal:
        if not wait:
            return self._queue.get_nowait()
        times = (self._notes.due, self._doubted_due if self._doubted else None)
        due = min((moment for moment in times if moment is not None), default=None)
        return self._queue.get(timeout=None if due is None else max(0.0, due - time.monotonic()))

    def _commit(self, batch: list[Ticket[Item, Result]]) -> None:
        """Write a batch with the notes that wait, or notes alone; answer the batch, whatever happens."""
        alone = not batch
        notes = self._notes.next(alone=alone)
        while (batch := _still_waiting(batch)) or (alone and notes):
            try:
                taken, outcomes = self._attempt(batch, notes)
            except Exception as error:
                if isinstance(error, StoreUnreachable):
                    self._wait_for_store(error, batch)
                elif not isinstance(error, StoreLocked) and not notes:
                    _refuse(batch, _refusal(error))
                if notes:
                    self._notes.postpone()
                    notes = []  # it may be they that fail, or wait for others, and must not be
            else:
                self._note_success(notes)
                self._take_back(self._answer_taken(taken, outcomes))
                return

    def _attempt(
        self, batch: Sequence[Ticket[Item, Result]], notes: Sequence[Note]
    ) -> tuple[Sequence[Ticket[Item, Result]], Sequence[Result | GatewayError]]:
        """Write once; return what was taken of the batch, and its outcomes.

        Raises what `Database.write` does; then who still waits can be tried again.
        """
        taken: list[Ticket[Item, Result]] = []
        outcomes: Sequence[Result | GatewayError] = []

        def doubt() -> None:
            for ticket in taken:
                ticket.doubt()
            _refuse_late(taken)

        deadline = min((ticket.deadline for ticket in batch), default=None)
        patience = None if batch else NOTE_PATIENCE
        try:
            with self._database.write(deadline=deadline, patience=patience, pipelined=True, in_doubt=doubt):
                if notes:
                    self._record(notes, alone=not batch)  # first, as items lock what many want
                taken += [ticket for ticket in batch if ticket.take()]
                outcomes = self._decide([ticket.item for ticket in taken]) if taken else []
        except OutcomeUnknown:
            self._answer_taken(taken, [_refused(outcome) for outcome in outcomes])
            self._take_back(outcomes)
            raise
        except BaseException:
            for ticket in taken:
                ticket.put_back()
            raise
        return taken, outcomes

    def _note_success(self, written: Sequence[Note]) -> None:
        """Forget the notes that are written, and that there ever was a fault."""
        if self._pause:
            self._pause = 0.0
            _log.warning("the store is reached again")
        self._notes.forget(written)

    def _wait_for_store(self, error: StoreUnreachable, batch: Sequence[Ticket[Item, Result]]) -> None:
        """Sleep until the store is worth another try, each process for a time of its own: not all at once."""
        if not self._pause:
            _log.warning("the store is not reached: %s", error.__cause__)
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        if batch:
            left = min(ticket.deadline for ticket in batch) - time.monotonic()
            time.sleep(max(0.0, min(random.uniform(0.0, self._pause), left)))  # noqa: S311 - no secret

    def _finish(self) -> None:
        """Write what nobody waits for, also what came meanwhile, unless the store fails for too long."""
        deadline = time.monotonic() + self._database.timeout
        self._notes.take_in()
        while (self._notes or self._doubted) and time.monotonic() < deadline:
            self._notes.hurry()
            self._commit([])
            if self._doubted:
                self._withdraw_doubted()
            if self._notes.have_failed or self._doubted:
                time.sleep(NOTE_PATIENCE)
        if self._notes or self._doubted:
            left = {"notes": len(self._notes), "doubted": len(self._doubted)}
            _log.error("not all could be written", extra=left)

    def _answer_taken(
        self, tickets: Sequence[Ticket[Item, Result]], outcomes: Sequence[Result | GatewayError]
    ) -> list[Result | GatewayError]:
        """Answer those who have not been answered yet; return the outcomes of the others."""
        is_first = [ticket.finish() for ticket in tickets]
        _answer(list(itertools.compress(tickets, is_first)), list(itertools.compress(outcomes, is_first)))
        return [outcome for outcome, first in zip(outcomes, is_first, strict=True) if not first]

    def _take_back(self, outcomes: Sequence[Result | GatewayError]) -> None:
        """Remember to take back what was written for callers who were refused."""
        doubted = [outcome for outcome in outcomes if not isinstance(outcome, GatewayError)]
        if doubted:
            self._doubted += doubted
            self._doubted_due = time.monotonic() + DOUBT_DELAY

    def _withdraw_doubted(self) -> None:
        """Take it back, or try again later."""
        try:
            with self._database.write(patience=NOTE_PATIENCE, pipelined=True):
                self._withdraw(self._doubted)
        except GatewayError:
            self._doubted_due = time.monotonic() + DOUBT_DELAY
        else:
            self._doubted = []


def _still_waiting[Item, Result](batch: list[Ticket[Item, Result]]) -> list[Ticket[Item, Result]]:
    """Return the items whose time is not over; refuse the others, unless that is done."""
    _refuse_late(batch)
    return [ticket for ticket in batch if ticket.is_waiting]


def _refuse_late[Item, Result](batch: Sequence[Ticket[Item, Result]]) -> None:
    now = time.monotonic()
    _refuse([ticket for ticket in batch if ticket.deadline <= now], StoreUnavailable())


def _refused[Result](outcome: Result | GatewayError) -> GatewayError:
    """Return what a caller is told when nobody knows whether its outcome was written."""
    return outcome if isinstance(outcome, GatewayError) else StoreUnavailable()


def _refusal(error: Exception) -> GatewayError:
    """Log why a batch failed, and return what its callers are told."""
    if isinstance(error, StoreUnavailable):
        _log.warning("the store does not answer: %s", error.__cause__)
        return StoreUnavailable()
    _log.error("a batch failed", exc_info=error)
    return GatewayError()


def _expire[Item, Result](ticket: Ticket[Item, Result]) -> None:
    if ticket.end():
        ticket.settle(StoreUnavailable())


def _refuse[Item, Result](tickets: Sequence[Ticket[Item, Result]], error: GatewayError) -> None:
    ended = [ticket for ticket in tickets if ticket.end()]
    _answer(ended, [error] * len(ended))


def _answer[Item, Result](batch: Sequence[Ticket[Item, Result]], outcomes: Sequence[Result | GatewayError]) -> None:
    """Wake all callers of a batch with one call into their event loop."""
    if not batch:
        return

    def settle() -> None:
        for ticket, outcome in zip(batch, outcomes, strict=True):
            ticket.settle(outcome)

    loop = batch[0].future.get_loop()
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        _log.debug("the event loop ended before its answers came")
