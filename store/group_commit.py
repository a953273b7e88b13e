"""One writer thread a process, which commits what waits in one transaction.

A commit costs far more than a count, so what arrives together shares one. There are two kinds of work:

- **Items** are awaited. The promise to a caller: an answer comes within `timeout` seconds, and after StoreUnavailable
  nothing of the item was or will be written. To keep it, an item is claimed exactly once, by the writer or by its
  deadline, and the writer drops late items before it decides.
- **Notes** are left, and nobody waits for them. They go along with the items that come next, or alone when none come
  for a moment; while the store fails they are kept, and tried again.

The event loop only enqueues and awaits; it never waits on the database.
"""

import asyncio
import collections
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

from store.database import LOCK_SLICE, Database
from store.errors import GatewayError, StoreLocked, StoreUnavailable

CAPACITY = 2048
"""Items that may wait. More would not be served in time; they are refused at once."""

BATCH = 256
"""Items, and as many notes, in one transaction at most."""

MAX_NOTES = 20_000
"""Notes that are kept while the store fails; of more the oldest are dropped, which a line in the log tells."""

NOTE_DELAY = 0.1
"""Seconds that notes wait for items to go along with."""

RETRY_DELAY = 0.5
"""Seconds until notes are tried again, alone, after the store failed."""

_log = logging.getLogger(__name__)


class _Ticket[Item, Result]:
    """An item on its way, and the future of its result."""

    __slots__ = ("_claim", "deadline", "future", "item")

    def __init__(self, item: Item, deadline: float, future: asyncio.Future[Result]) -> None:
        self.item = item
        self.deadline = deadline
        self.future = future
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Return True to the first caller only."""
        return self._claim.acquire(blocking=False)

    def settle(self, outcome: Result | GatewayError) -> None:
        """Wake the caller, in its event loop."""
        if self.future.done():
            return
        if isinstance(outcome, GatewayError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class _Signal(Enum):
    """What else the writer is told."""

    WAKE = auto()
    END = auto()


class GroupCommit[Item, Result, Note]:
    """Runs `decide` on batches of items, in the order of arrival, each batch in one writing transaction.

    `decide` returns one result, or the error to raise, for each item; `record` writes notes, in the same transaction.
    Both run in the writer thread. `unheard` is called, in the event loop, with the result of an item whose caller
    was cancelled when it was too late to take the item back.
    """

    def __init__(
        self,
        database: Database,
        decide: Callable[[Sequence[Item]], Sequence[Result | GatewayError]],
        record: Callable[[Sequence[Note]], None],
        unheard: Callable[[Result], None],
    ) -> None:
        self._database = database
        self._decide = decide
        self._record = record
        self._unheard = unheard
        self._queue: queue.SimpleQueue[_Ticket[Item, Result] | _Signal] = queue.SimpleQueue()
        self._waiting = 0
        self._left: collections.deque[Note] = collections.deque()
        """Notes that the writer has not taken in yet."""
        self._waker: asyncio.AbstractEventLoop | None = None
        """The event loop that will wake the writer for the notes that are left."""
        self._notes: collections.deque[Note] = collections.deque()
        self._notes_failed = False
        self._notes_due = 0.0
        self._dropped = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, item: Item) -> Result:
        """Return the item's result once it is committed. Raises what `decide` returned, or StoreUnavailable."""
        if self._waiting >= CAPACITY or not self._thread.is_alive():
            raise StoreUnavailable
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._database.timeout
        ticket: _Ticket[Item, Result] = _Ticket(item, deadline, loop.create_future())
        timer = loop.call_later(self._database.timeout, _expire, ticket)
        self._waiting += 1
        self._queue.put(ticket)
        try:
            return await asyncio.shield(ticket.future)
        except asyncio.CancelledError:
            if not ticket.claim():
                ticket.future.add_done_callback(self._tell_unheard)
            raise
        finally:
            self._waiting -= 1
            timer.cancel()

    def leave(self, note: Note) -> None:
        """Have a note written; called in an event loop, returns at once.

        It is written with the next items, or after NOTE_DELAY: to wake the writer for each would cost more than that.
        """
        self._left.append(note)
        loop = asyncio.get_running_loop()
        if self._waker is not loop:
            self._waker = loop
            loop.call_later(NOTE_DELAY, self._wake)

    def close(self) -> None:
        """Commit what waits, then end the writer thread. Notes get `timeout` seconds, if the store fails."""
        self._queue.put(_Signal.END)
        self._thread.join()

    def _wake(self) -> None:
        self._waker = None
        self._queue.put(_Signal.WAKE)

    def _tell_unheard(self, future: asyncio.Future[Result]) -> None:
        if future.exception() is None:
            self._unheard(future.result())

    def _run(self) -> None:
        while not self._closing:
            self._commit(self._collect())
        self._finish_notes()
        self._database.close()

    def _collect(self) -> list[_Ticket[Item, Result]]:
        """Claim the items that wait, and take in the notes. Waits for the first item, or until notes have to go."""
        batch: list[_Ticket[Item, Result]] = []
        wait = True
        while len(batch) < BATCH and not self._closing:
            try:
                work = self._next(wait=wait)
            except queue.Empty:
                break
            wait = False
            if work is _Signal.END:
                self._closing = True
            elif isinstance(work, _Ticket) and work.claim():
                batch.append(work)
        self._take_in_notes()
        return batch

    def _next(self, *, wait: bool) -> _Ticket[Item, Result] | _Signal:
        if not wait:
            return self._queue.get_nowait()
        if not self._notes:
            return self._queue.get()
        return self._queue.get(timeout=max(0.0, self._notes_due - time.monotonic()))

    def _take_in_notes(self) -> None:
        while self._left:
            if len(self._notes) >= MAX_NOTES:
                self._notes.popleft()
                self._dropped += 1
            self._notes.append(self._left.popleft())

    def _commit(self, batch: list[_Ticket[Item, Result]]) -> None:
        """Write a batch with the notes that wait, or notes alone; answer the batch, whatever happens."""
        outcomes: Sequence[Result | GatewayError] = []
        alone = not batch
        held = self._notes_failed and (batch or time.monotonic() < self._notes_due)
        notes = [] if held else list(itertools.islice(self._notes, BATCH))
        while (batch := self._drop_late(batch)) or (alone and notes):
            try:
                with self._database.write(patience=LOCK_SLICE):
                    batch = self._drop_late(batch)
                    outcomes = self._decide([ticket.item for ticket in batch]) if batch else []
                    if notes:
                        self._record(notes)
            except StoreLocked:
                if alone:
                    self._postpone_notes()
                    return
                continue
            except Exception as error:
                outcomes = [_refusal(error) for _ in batch]
                if notes:
                    self._postpone_notes()
                    notes = []
                    if batch:
                        continue  # it may be the notes that fail, and must not be
            else:
                self._forget(notes)
            _answer(batch, outcomes)
            return

    def _postpone_notes(self) -> None:
        """Try them again later, alone."""
        self._notes_failed = True
        self._notes_due = time.monotonic() + RETRY_DELAY

    def _forget(self, written: Sequence[Note]) -> None:
        for _ in written:
            self._notes.popleft()
            self._notes_failed = False
        if self._dropped:
            _log.error("notes were dropped while the store failed", extra={"notes": self._dropped})
            self._dropped = 0

    def _finish_notes(self) -> None:
        """Write the last notes, also those that came meanwhile, unless the store fails for too long."""
        deadline = time.monotonic() + self._database.timeout
        self._take_in_notes()
        while self._notes and time.monotonic() < deadline:
            self._notes_due = 0.0
            self._commit([])
            if self._notes_failed:
                time.sleep(LOCK_SLICE)
        if self._notes:
            _log.error("notes could not be written", extra={"notes": len(self._notes)})

    @staticmethod
    def _drop_late(batch: list[_Ticket[Item, Result]]) -> list[_Ticket[Item, Result]]:
        now = time.monotonic()
        late = [ticket for ticket in batch if ticket.deadline <= now]
        if not late:
            return batch
        _answer(late, [StoreUnavailable() for _ in late])
        return [ticket for ticket in batch if ticket.deadline > now]


def _refusal(error: Exception) -> GatewayError:
    """Log why a batch failed, and return what its callers are told."""
    if isinstance(error, StoreUnavailable):
        _log.warning("the store does not answer: %s", error.__cause__)
        return StoreUnavailable()
    _log.error("a batch failed", exc_info=error)
    return GatewayError()


def _expire[Item, Result](ticket: _Ticket[Item, Result]) -> None:
    if ticket.claim():
        ticket.settle(StoreUnavailable())


def _answer[Item, Result](batch: Sequence[_Ticket[Item, Result]], outcomes: Sequence[Result | GatewayError]) -> None:
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
