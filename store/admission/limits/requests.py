"""The limit `max_requests` of a token."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from store.admission.limits.limit import Limit
from store.database import Database
from store.errors import QuotaExhausted
from store.request import Opened

_COUNT = (
    "UPDATE token SET request_count = request_count + admitted.number, last_used_at = ?"
    " FROM admitted WHERE token.id = admitted.id"
)
_GIVE_BACK = "UPDATE token SET request_count = request_count - ? WHERE id = ?"


@dataclass(slots=True)
class MaxRequests(Limit):
    """The number of requests that a token may make in its whole life; 0 is no limit, and they are counted as well."""

    token_request_count: int
    token_max_requests: int

    def test(self) -> QuotaExhausted | None:
        """Refuse a token that has used all of its requests."""
        if self.token_max_requests and self.token_request_count >= self.token_max_requests:
            return QuotaExhausted()
        return None

    def hit(self) -> None:
        """Count a request."""
        self.token_request_count += 1

    @staticmethod
    def write(database: Database, admitted: Sequence[Opened], now: int) -> None:
        """Add the requests to the counts of their tokens, and write when these were last used."""
        counts = sorted(Counter([row.token_id for row in admitted]).items())
        for table in database.tables(["TEXT", "BIGINT"], counts):
            database.run(f"WITH admitted (id, number) AS ({table.sql}) {_COUNT}", [*table.parameters, now])

    @staticmethod
    def give_back(database: Database, withdrawn: Sequence[Opened]) -> None:
        """Subtract the requests from the counts of their tokens."""
        for token_id, number in sorted(Counter(row.token_id for row in withdrawn).items()):
            database.run(_GIVE_BACK, (number, token_id))
