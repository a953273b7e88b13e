"""The limits `rate_limits`: requests in a sliding window, of a token or of its project."""

from collections.abc import Sequence

from store.admission.limits.limit import Limit
from store.clock import to_rfc3339_exact
from store.errors import RateLimited
from store.limits.balance import Balance
from store.limits.window import Standing, Window
from store.request import Opening


class RequestsInWindow(Limit):
    """A window, as it is at a time."""

    __slots__ = ("_balance", "_now", "_owner", "window")

    def __init__(self, balance: Balance, window: Window, owner: str, now: int) -> None:
        self._balance = balance
        self.window = window
        self._owner = owner
        self._now = now

    def test(self, opening: Opening) -> RateLimited | None:  # noqa: ARG002 - every request counts
        """Refuse a request for which the window has no room."""
        passes_at = self.window.has_room_at()
        if not passes_at:
            return None
        requests = "request" if self.window.maximum == 1 else "requests"
        message = (
            f"The {self._owner} may make {self.window.maximum} {requests} a {self._balance.period}, and has made them. "
            f"There is room for one more from {to_rfc3339_exact(passes_at)} on."
        )
        return RateLimited(message, self.window.standing(self._now))

    def hit(self, opening: Opening) -> None:  # noqa: ARG002 - every request counts
        """Count a request."""
        self.window.add()
        self._balance.is_changed = True

    def wait(self) -> int:
        """Return the microseconds until there is room for one more request."""
        return max(self.window.has_room_at() - self._now, 0)

    @property
    def standing(self) -> Standing:
        """The standing of the window now."""
        return self.window.standing(self._now)


def tightest(limits: Sequence[Limit]) -> Standing | None:
    """Return the standing of the window with the fewest requests left; None without windows."""
    windows = [limit for limit in limits if isinstance(limit, RequestsInWindow)]
    return min(windows, key=lambda limit: limit.window.remaining).standing if windows else None
