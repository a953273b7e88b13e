"""One writer thread a process, which commits what waits in one transaction.

A commit costs far more than a count, so requests that arrive together share one. The event loop only enqueues and
awaits; it never waits on the database.

The promise to a caller: an answer comes within `timeout` seconds, and after StoreUnavailable nothing of the item was
or will be written. To keep it, an item is claimed exactly once, by the writer or by its deadline, and the writer
drops late items before it decides.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from store.database import LOCK_SLICE, Database
from store.errors import GatewayError, StoreLocked, StoreUnavailable

CAPACITY = 2048
"""Items that may wait. More would not be served in time; they are refused at once."""

BATCH = 256
"""Items in one transaction at most."""

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


class GroupCommit[Item, Result]:
    """Runs `decide` on batches of items, in the order of arrival, each batch in one writing transaction.

    `decide` runs in the writer thread and returns one result, or the error to raise, for each item.
    """

    def __init__(self, database: Database, decide: Callable[[Sequence[Item]], Sequence[Result | GatewayError]]) -> None:
        self._database = database
        self._decide = decide
        self._queue: queue.SimpleQueue[_Ticket[Item, Result] | None] = queue.SimpleQueue()
        self._waiting = 0
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
            return await ticket.future
        finally:
            self._waiting -= 1
            timer.cancel()
            ticket.claim()  # a caller that went away (cancelled) is not counted, where that is still possible

    def close(self) -> None:
        """Commit what waits, then end the writer thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                self._database.close()
                return
            batch = self._collect(first)
            if batch:
                self._commit(batch)

    def _collect(self, first: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        """Claim `first` and what else waits, without waiting for more."""
        batch = [first] if first.claim() else []
        while len(batch) < BATCH:
            try:
                ticket = self._queue.get_nowait()
            except queue.Empty:
                break
            if ticket is None:
                self._queue.put(None)  # the end; first finish this batch
                break
            if ticket.claim():
                batch.append(ticket)
        return batch

    def _commit(self, batch: list[_Ticket[Item, Result]]) -> None:
        outcomes: Sequence[Result | GatewayError]
        while batch := self._drop_late(batch):
            try:
                with self._database.write(patience=LOCK_SLICE):
                    batch = self._drop_late(batch)
                    outcomes = self._decide([ticket.item for ticket in batch])
            except StoreLocked:
                continue
            except StoreUnavailable as error:
                _log.warning("the store does not answer: %s", error.__cause__)
                outcomes = [StoreUnavailable() for _ in batch]
            except Exception:
                _log.exception("a batch failed")
                outcomes = [GatewayError() for _ in batch]
            _answer(batch, outcomes)
            return

    @staticmethod
    def _drop_late(batch: list[_Ticket[Item, Result]]) -> list[_Ticket[Item, Result]]:
        now = time.monotonic()
        late = [ticket for ticket in batch if ticket.deadline <= now]
        if not late:
            return batch
        _answer(late, [StoreUnavailable() for _ in late])
        return [ticket for ticket in batch if ticket.deadline > now]


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
