"""The limit `max_requests` of a token."""

from collections import Counter
from collections.abc import Sequence

from store.admission.limits.limit import Asked, Limit
from store.database import Database
from store.errors import QuotaExhausted
from store.request import Opened

_COUNTED = {"id": "TEXT", "request_count": "BIGINT", "last_used_at": "BIGINT"}
_GIVE_BACK = "UPDATE token SET request_count = request_count - ? WHERE id = ?"


class MaxRequests(Limit):
    """The number of requests that a token may make in its whole life; 0 is no limit, and they are counted as well."""

    __slots__ = ("_count", "_maximum")

    def __init__(self, count: int, maximum: int) -> None:
        self._count = count
        self._maximum = maximum

    def test(self, asked: Asked) -> QuotaExhausted | None:  # noqa: ARG002 - every request counts
        """Refuse a token that has used all of its requests."""
        return QuotaExhausted() if self._maximum and self._count >= self._maximum else None

    def hit(self, asked: Asked) -> None:  # noqa: ARG002 - every request counts
        """Count a request."""
        self._count += 1


def count(database: Database, admitted: Sequence[Opened], now: int) -> None:
    """Add requests to the counts of their tokens, and write when these were last used."""
    counts = Counter([row.token_id for row in admitted])
    rows = [(token_id, number, now) for token_id, number in sorted(counts.items())]
    database.update_rows("token", _COUNTED, rows, added=("request_count",))


def take_back(database: Database, withdrawn: Sequence[Opened]) -> None:
    """Subtract requests from the counts of their tokens; inside a transaction that has locked these."""
    for token_id, number in sorted(Counter(row.token_id for row in withdrawn).items()):
        database.run(_GIVE_BACK, (number, token_id))
