"""Write-behind queue of the writer: entries that no caller waits for, written with the next requests, or alone."""

import collections
import itertools
import logging
import time
from collections.abc import Sequence

CAPACITY = 20_000
"""Entries that are kept while the store fails. Beyond it the oldest are dropped, which the log reports."""

BATCH = 256
"""Entries in one transaction at most."""

FLUSH_DELAY = 0.1
"""Seconds that entries wait for others, and for requests to be written with."""

URGENT_DELAY = 0.005
"""Seconds that urgent entries wait for requests to be written with."""

FEW = 64
"""Fewer entries than these wait for more before they are written with requests: with 16 the writer takes 9 % longer."""

LOCK_PATIENCE = 0.05
"""Seconds that a transaction without requests waits for a lock: short, so that requests that arrive are not delayed."""

RETRY_DELAY = 0.5
"""Seconds until entries are tried again, alone, after they could not be written."""

_log = logging.getLogger(__name__)


class WriteBehind[Entry]:
    """Entries in the order in which they were enqueued.

    All but `enqueue`, `unwritten` and `have_arrived` are for the writer thread.
    """

    def __init__(self) -> None:
        self._arrived: collections.deque[Entry] = collections.deque()
        self._kept: collections.deque[Entry] = collections.deque()
        self._due = 0.0
        self.have_failed = False
        """True if the last attempt to write some failed."""
        self._dropped = 0
        self._is_urgent = False
        """True if others wait for what one of them changes."""

    def __len__(self) -> int:
        """Return how many are taken in and not written."""
        return len(self._kept)

    def enqueue(self, entry: Entry, *, is_urgent: bool = False) -> None:
        """Add one; in any thread. An urgent one has all of them written as soon as possible."""
        self._arrived.append(entry)
        self._is_urgent |= is_urgent

    @property
    def unwritten(self) -> int:
        """The number of those that are not written; in any thread."""
        return len(self._arrived) + len(self._kept)

    @property
    def have_arrived(self) -> bool:
        """True if some are not taken in yet; in any thread."""
        return bool(self._arrived)

    def take_in(self) -> None:
        """Move what has arrived to what is kept."""
        while self._arrived:
            if len(self._kept) >= CAPACITY:
                self._kept.popleft()
                self._dropped += 1
            if not self._kept and not self.have_failed:
                self._due = time.monotonic() + FLUSH_DELAY
            self._kept.append(self._arrived.popleft())

    @property
    def due(self) -> float | None:
        """The time to write them, by the monotonic clock; None if there are none."""
        return self._due if self._kept else None

    @property
    def is_retry_due(self) -> bool:
        """True if it is time to retry those that have failed."""
        return self.have_failed and self._is_time

    def hurry(self) -> None:
        """Make them due now."""
        self._due = 0.0

    def next(self, *, alone: bool) -> Sequence[Entry]:
        """Return those to write now: those that have failed only when their retry is due, and alone."""
        may_go = alone or self._is_time or self._is_urgent or len(self._kept) >= FEW
        if self.have_failed:
            may_go = alone and self._is_time
        if not may_go:
            return []
        self._is_urgent = bool(self._arrived)
        return list(itertools.islice(self._kept, BATCH))

    def postpone(self) -> None:
        """Try them again later, alone: they could not be written."""
        self.have_failed = True
        self._due = time.monotonic() + RETRY_DELAY

    def forget(self, written: Sequence[Entry]) -> None:
        """Remove the first ones, which are written. Report what was dropped before, as the store works again."""
        for _ in written:
            self._kept.popleft()
            self.have_failed = False
        if self._dropped:
            _log.error("entries of the ledger were dropped while the store failed", extra={"entries": self._dropped})
            self._dropped = 0

    @property
    def _is_time(self) -> bool:
        return time.monotonic() >= self._due
