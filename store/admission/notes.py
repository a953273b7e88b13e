"""What nobody waits for, until it is written: along with what is awaited, or alone."""

import collections
import itertools
import logging
import time
from collections.abc import Sequence

CAPACITY = 20_000
"""Notes that are kept while the store fails; of more the oldest are dropped, which a line in the log tells."""

BATCH = 256
"""Notes in one transaction at most."""

NOTE_DELAY = 0.1
"""Seconds that notes wait for others, and for items to go along with."""

FEW = 16
"""Fewer notes than these wait for more before they go along."""

RETRY_DELAY = 0.5
"""Seconds until notes are tried again, alone, after the store failed."""

_log = logging.getLogger(__name__)


class Notes[Note]:
    """Notes in the order in which they were left.

    All but `leave`, `waiting` and `have_arrived` are for the writer thread.
    """

    def __init__(self) -> None:
        self._arrived: collections.deque[Note] = collections.deque()
        self._kept: collections.deque[Note] = collections.deque()
        self._due = 0.0
        self.have_failed = False
        """Whether the last attempt to write some came to nothing."""
        self._dropped = 0

    def __len__(self) -> int:
        """Return how many are taken in and not written."""
        return len(self._kept)

    def leave(self, note: Note) -> None:
        """Add one; in any thread."""
        self._arrived.append(note)

    @property
    def waiting(self) -> int:
        """The number of those that are not written; in any thread."""
        return len(self._arrived) + len(self._kept)

    @property
    def have_arrived(self) -> bool:
        """Whether some have not been taken in; in any thread."""
        return bool(self._arrived)

    def take_in(self) -> None:
        """Take in what has arrived."""
        while self._arrived:
            if len(self._kept) >= CAPACITY:
                self._kept.popleft()
                self._dropped += 1
            if not self._kept and not self.have_failed:
                self._due = time.monotonic() + NOTE_DELAY
            self._kept.append(self._arrived.popleft())

    @property
    def due(self) -> float | None:
        """When they have to be written, by the monotonic clock; None where there are none."""
        return self._due if self._kept else None

    @property
    def are_due_again(self) -> bool:
        """Whether it is time to try those again that have failed."""
        return self.have_failed and self._is_time

    def hurry(self) -> None:
        """Have them written now."""
        self._due = 0.0

    def next(self, *, alone: bool) -> Sequence[Note]:
        """Return those to write now: such as have failed before only when it is time again, and alone."""
        may_go = alone or self._is_time or len(self._kept) >= FEW
        if self.have_failed:
            may_go = alone and self._is_time
        return list(itertools.islice(self._kept, BATCH)) if may_go else []

    def postpone(self) -> None:
        """Try them again later, alone: they could not be written."""
        self.have_failed = True
        self._due = time.monotonic() + RETRY_DELAY

    def forget(self, written: Sequence[Note]) -> None:
        """Forget the first ones, which are written; what was dropped meanwhile is told now, as the store works."""
        for _ in written:
            self._kept.popleft()
            self.have_failed = False
        if self._dropped:
            _log.error("notes were dropped while the store failed", extra={"notes": self._dropped})
            self._dropped = 0

    @property
    def _is_time(self) -> bool:
        return time.monotonic() >= self._due
