"""Inbox of the writer: what the event loop hands to the writer thread, and how the thread collects it.

The event loop only enqueues and awaits; it never waits on the database.
"""

import asyncio
import itertools
import queue
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

from store.admission.pending_request import PendingRequest
from store.admission.same_processor import SameProcessor
from store.admission.write_behind import FLUSH_DELAY, URGENT_DELAY, WriteBehind
from store.errors import StoreUnavailable

CAPACITY = 2048
"""Requests that may wait. More would not be served in time; they are refused at once."""

BATCH = 256
"""Requests that are enough for a transaction: it has fewer than twice as many."""


class _Signal(Enum):
    WAKE = auto()
    """There are entries to write."""
    END = auto()
    """The inbox is closed: nothing comes after it."""


class Inbox[Item, Result, Entry]:
    """Requests, which are awaited, and entries for the write-behind queue, which are not.

    A request is answered within `timeout` seconds. `abandoned` is called, in the event loop, with the result of one
    whose caller went away too late to keep it from being written; it returns the entry that settles it, if any.

    All but `collect`, `is_closing` and `shut` are for the event loop, of which there is one at a time.
    """

    def __init__(
        self, timeout: float, entries: WriteBehind[Entry], abandoned: Callable[[Result], Entry | None]
    ) -> None:
        self._timeout = timeout
        self._entries = entries
        self._abandoned = abandoned
        self._queue: queue.SimpleQueue[Sequence[PendingRequest[Item, Result]] | _Signal] = queue.SimpleQueue()
        self._arriving: list[PendingRequest[Item, Result]] = []
        """Requests of this turn of the event loop, which are handed over together."""
        self._turns = 0
        """The number of turns with requests."""
        self._waiting = 0
        self._unanswered: dict[PendingRequest[Item, Result], None] = {}
        """Requests that wait and whose deadlines have not passed, in the order of these."""
        self._sweeper: asyncio.AbstractEventLoop | None = None
        """The event loop that is going to look at the deadlines."""
        self._waker: asyncio.AbstractEventLoop | None = None
        """The event loop that is going to wake the writer for entries."""
        self._urgent_waker: asyncio.AbstractEventLoop | None = None
        """The event loop that is going to wake it for urgent ones."""
        self._processor = SameProcessor()
        self._is_shut = False
        self.is_closing = False
        """True once the thread has collected everything that it is to serve."""

    async def submit(self, item: Item) -> Result:
        """Return the item's result once it is committed. Raises the error that it was refused with, StoreUnavailable.

        After StoreUnavailable nothing of the item was written, or it is taken back.
        """
        if self._waiting >= CAPACITY or self._is_shut:
            raise StoreUnavailable
        loop = asyncio.get_running_loop()
        request = PendingRequest(item, self._timeout, loop, self._settle_abandoned)
        self._waiting += 1
        self._unanswered[request] = None
        if self._sweeper is not loop:
            self._sweeper = loop
            self._sweep(loop)
        if not self._arriving:
            loop.call_soon(self._hand_over)
        self._arriving.append(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            request.abandon()
            raise
        finally:
            self._waiting -= 1
            self._unanswered.pop(request, None)

    def enqueue(self, entry: Entry, *, is_urgent: bool = False) -> None:
        """Have an entry written; returns at once.

        It is written with the next requests, once there are some entries or it has waited for a moment; or alone when
        no requests come: to wake the writer for each entry would cost more than writing it. An urgent one, for which
        others may wait, is written with the next requests, or alone after a shorter moment.
        """
        self._entries.enqueue(entry, is_urgent=is_urgent)
        loop = asyncio.get_running_loop()
        if is_urgent and self._urgent_waker is not loop:
            self._urgent_waker = loop
            loop.call_later(URGENT_DELAY, self._wake_now)
        if self._waker is not loop:
            self._waker = loop
            loop.call_later(FLUSH_DELAY, self._wake, loop, self._turns)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their results."""
        return self._waiting

    @property
    def unwritten(self) -> int:
        """The number of entries that are not written yet."""
        return self._entries.unwritten

    def close(self, last: Sequence[Entry] = ()) -> None:
        """Hand over what is there, and some last entries; the thread serves that and ends."""
        self._hand_over()
        for entry in last:
            self._entries.enqueue(entry)
        self._queue.put(_Signal.END)

    def collect(self, due: float | None) -> list[PendingRequest[Item, Result]]:
        """Return the requests that wait; waits for the first one, for a signal, or until `due` (monotonic)."""
        batch: list[PendingRequest[Item, Result]] = []
        wait = True
        while len(batch) < BATCH and not self.is_closing:
            try:
                work = self._next(due) if wait else self._queue.get_nowait()
            except queue.Empty:
                break
            wait = False
            if work is _Signal.END:
                self.is_closing = True
            elif work is not _Signal.WAKE:
                batch += work
        self._processor.follow(is_busy=len(batch) > 1)
        return batch

    def shut(self) -> None:
        """Refuse all requests from now on: the thread ends."""
        self._is_shut = True

    def _next(self, due: float | None) -> Sequence[PendingRequest[Item, Result]] | _Signal:
        return self._queue.get(timeout=None if due is None else max(0.0, due - time.monotonic()))

    def _hand_over(self) -> None:
        """Hand over what has arrived; once a turn, as the thread takes the interpreter from this one when it wakes."""
        self._processor.note()
        for batch in itertools.batched(self._arriving, BATCH):
            self._queue.put(batch)
        self._arriving.clear()
        self._turns += 1

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse the requests whose deadlines have passed; again at the next one's: a timer for each costs more."""
        now = time.monotonic()
        for request in [*itertools.takewhile(lambda request: request.deadline <= now, self._unanswered)]:
            del self._unanswered[request]
            request.expire()
        first = next(iter(self._unanswered), None)
        if first is None:
            self._sweeper = None
        else:
            loop.call_later(first.deadline - now, self._sweep, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Have the entries written; later, while there are requests to write them with."""
        if self._entries.have_arrived and self._turns != turns:
            loop.call_later(FLUSH_DELAY, self._wake, loop, self._turns)
            return
        self._waker = None
        if self._entries.have_arrived:
            self._queue.put(_Signal.WAKE)

    def _wake_now(self) -> None:
        self._urgent_waker = None
        if self._entries.have_arrived:
            self._queue.put(_Signal.WAKE)

    def _settle_abandoned(self, result: Result) -> None:
        entry = self._abandoned(result)
        if entry is not None:
            self.enqueue(entry)
