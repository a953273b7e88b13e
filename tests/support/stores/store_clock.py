"""A clock for the stores of a test, on both engines, which the test sets."""

import pytest

from store import clock
from store.database import postgresql, postgresql_transaction


class StoreClock:
    """The time (microseconds) that all stores of this process have."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._begin = postgresql_transaction._SET.replace(postgresql_transaction.NOW, "{now}")  # noqa: SLF001
        self.now = 0
        self.set(clock.now())

    def set(self, now: int) -> None:
        """Set the machine's clock, and what stands for the server's clock in SQL."""
        self.now = now
        server_now = f"CAST({now} AS BIGINT)"
        self._patch.setattr(clock, "now", lambda: now)
        self._patch.setattr(postgresql, "NOW", server_now)
        self._patch.setattr(postgresql_transaction, "_SET", self._begin.format(now=server_now))
