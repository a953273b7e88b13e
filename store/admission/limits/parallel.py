"""The limit `max_parallel_requests`: requests at once, of a token or of its project.

An admitted request takes a slot. It holds it until it is settled, or until only its usage is still counted.
"""

from store.admission.limits.limit import Asked, Limit
from store.errors import TooManyParallel
from store.limits.balance import Balance
from store.limits.holds import Slot


class MaxParallel(Limit):
    """The slots of a token or a project. The further responses over a WebSocket have that of its opening."""

    __slots__ = ("_balance", "_owner")

    def __init__(self, balance: Balance, owner: str) -> None:
        self._balance = balance
        self._owner = owner

    @property
    def is_scarce(self) -> bool:
        """True if more than half of the slots are taken."""
        return 2 * self._balance.used > self._balance.maximum

    def test(self, asked: Asked) -> TooManyParallel | None:
        """Refuse a request for which no slot is free."""
        if asked.opening.session_id is not None or self._balance.used < self._balance.maximum:
            return None
        requests = "request" if self._balance.maximum == 1 else "requests"
        return TooManyParallel(
            f"The {self._owner} may make {self._balance.maximum} {requests} at once, and {self._balance.used} are "
            "under way. There is room for one more when one of them ends."
        )

    def hit(self, asked: Asked) -> Slot | None:
        """Take a slot."""
        if asked.opening.session_id is not None:
            return None
        self._balance.used += 1
        self._balance.is_changed = True
        return Slot(asked.opening.request_id, self._balance.id)
