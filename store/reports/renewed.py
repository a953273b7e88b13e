"""Values that take long to read: kept for a while, and made again in the background before a reader needs them.

A store with very many tokens has hundreds of thousands of sums of days, which take a second or more to add up. So a
value is kept in proportion to the time that it took: in a small store each reader makes it.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from store.database import Database
from store.errors import GatewayError

KEPT = 200.0
"""A value is kept so many times as long as it took."""

LONGEST_KEPT = 300.0
"""Seconds that it is kept at most."""

LONG = 0.1
"""A value that takes at least so many seconds is renewed in the background."""

RENEWAL = 60.0
"""Seconds for which such a value is still shown after it was up to date, while it is renewed."""

WANTED = 24 * 3600.0
"""Seconds after its last reader from which on a value is not renewed any more."""

RETRY = 60.0
"""Seconds after a failure until a value is made again in the background."""

TURN = 1.0
"""Seconds from one look at all values to the next."""

MOMENT = 1.0
"""Seconds for which the end of the thread is awaited."""

_log = logging.getLogger(__name__)


class _Made[Value](NamedTuple):
    """A value, the seconds that it took, and the times until which it is up to date, and shown."""

    value: Value
    took: float
    until: float
    shown_until: float


class Renewed[Value]:
    """One value, for any number of threads. `monotonic` returns seconds that never go back."""

    def __init__(self, read: Callable[[], Value], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._monotonic = monotonic
        self._made: _Made[Value] | None = None
        self._is_new = True
        """True until it was made in the background for the first time."""
        self._wanted_at = self._next_try = monotonic()
        self._lock = threading.Lock()

    def get(self) -> Value:
        """Return the value. Raises what reading it raises."""
        with self._lock:  # one reader makes it, for all
            self._wanted_at = self._monotonic()
            if self._made is None or self._wanted_at >= self._made.shown_until:
                self._made = self._make()
            return self._made.value

    def renew(self) -> bool:
        """Make the value where that is due: the first time, and later before a reader has to.

        Returns True if it was due. Raises what reading it raises; then it is not due for RETRY seconds.
        """
        now, before = self._monotonic(), self._made
        if now < self._next_try or not self._is_due(now):
            return False
        self._next_try = now + RETRY
        if before is None:
            self._make_first()
        else:
            made = self._make()
            with self._lock:
                if self._made is before:  # no reader has made a newer one
                    self._made = made
        self._next_try = now
        return True

    def _make_first(self) -> None:
        """Make the value, and have readers wait, who would do the same; keep it where it takes long."""
        with self._lock:
            if self._made is None:
                made, self._is_new = self._make(), False
                self._made = made if made.took >= LONG else None

    def _is_due(self, now: float) -> bool:
        if self._made is None:
            return self._is_new
        return self._made.took >= LONG and self._made.until <= now < self._wanted_at + WANTED

    def _make(self) -> _Made[Value]:
        began = self._monotonic()
        value = self._read()
        took = self._monotonic() - began
        until = began + took + min(KEPT * took, LONGEST_KEPT)
        return _Made(value, took, until, until + (RENEWAL if took >= LONG else 0))


class Renewal:
    """The thread that renews values of a database, until `close` is called."""

    def __init__(self, database: Database, values: Sequence[Renewed[Any]]) -> None:
        self._database = database
        self._values = values
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. A value that takes longer than a moment is not waited for."""
        self._stopped.set()
        self._thread.join(MOMENT)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for value in self._values:
                self._renew(value)
            self._stopped.wait(TURN)
        self._database.close()

    def _renew(self, value: Renewed[Any]) -> None:
        try:
            if not self._stopped.is_set() and value.renew():
                _log.debug("a value for the pages is made")
        except GatewayError as error:
            _log.warning("a value for the pages cannot be renewed: %s", error.__cause__)
        except Exception:
            _log.exception("a value for the pages cannot be renewed")
