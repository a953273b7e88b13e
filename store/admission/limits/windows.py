"""The limits `rate_limits`: requests, or tokens, in a sliding window, of a token or of its project."""

from collections.abc import Sequence

from store.admission.limits.limit import Asked, Limit, Reserving
from store.clock import SECOND, to_rfc3339_exact
from store.errors import RateLimited
from store.limits.balance import Balance
from store.limits.window import Standing, Window
from store.request import Amounts

LATER = SECOND
"""Microseconds after which a request may be tried again where only running requests are in its way."""


class InWindow(Limit):
    """A window, as it is at a time."""

    def __init__(self, balance: Balance, window: Window, owner: str, now: int) -> None:
        self.window = window
        self._balance = balance
        self._owner = owner
        self._now = now

    @property
    def standing(self) -> Standing:
        """The standing of the window now."""
        return self.window.standing(self._now)


class RequestsInWindow(InWindow):
    """A window of requests."""

    def test(self, asked: Asked) -> RateLimited | None:  # noqa: ARG002 - every request counts
        """Refuse a request for which the window has no room."""
        passes_at = self.window.has_room_at()
        if not passes_at:
            return None
        requests = "request" if self.window.maximum == 1 else "requests"
        message = (
            f"The {self._owner} may make {self.window.maximum} {requests} a {self._balance.period}, and has made them. "
            f"There is room for one more from {to_rfc3339_exact(passes_at)} on."
        )
        return RateLimited(message, self.standing)

    def hit(self, asked: Asked) -> None:  # noqa: ARG002 - every request counts
        """Count a request."""
        self.window.add()
        self._balance.is_changed = True

    def wait(self, asked: Asked) -> int:  # noqa: ARG002 - the same
        """Return the microseconds until there is room for one more request."""
        return max(self.window.has_room_at() - self._now, 0)


class TokensInWindow(InWindow, Reserving):
    """A window of tokens: those that were used, and those that running requests have reserved."""

    @property
    def standing(self) -> Standing:
        """The standing of the window now."""
        return super().standing._replace(unit="tokens")

    def test(self, asked: Asked) -> RateLimited | None:
        """Refuse a request whose reservation does not fit beside what was used and is reserved."""
        needed, window = asked.reserved.tokens, self.window
        if not needed or needed <= window.maximum - window.used - window.reserved or not self.is_for(asked.at):
            return None
        allowed = f"The {self._owner} may use {window.maximum} tokens a {self._balance.period}"
        if needed > window.maximum:
            message = f"{allowed}, and this request may use {needed}. Send less input, or a lower max_tokens."
            return RateLimited(message, self.standing, passes=False)
        message = (
            f"{allowed}: {window.used} are used, {window.reserved} are reserved for running requests, and this one"
        )
        return RateLimited(f"{message} may use {needed}.", self.standing)

    def hit(self, asked: Asked) -> None:
        """Reserve the most that a request may use."""
        if self.is_for(asked.at):
            self._balance.hold(asked.reserved.tokens)

    def most(self, amounts: Amounts) -> Amounts:
        """Return as much of amounts as is left."""
        return amounts._replace(tokens=min(amounts.tokens, self.window.remaining))

    def is_for(self, at: int) -> bool:
        """Tell whether it holds something for a request of a time: since it was set."""
        return at >= self._balance.begun_at

    @property
    def begins_at(self) -> int:
        """The time when it was set."""
        return self._balance.begun_at

    def wait(self, asked: Asked) -> int:
        """Return the microseconds until there is room for the request; LATER where only running ones are in the way."""
        needed, window = asked.reserved.tokens, self.window
        if not needed or needed > window.maximum:
            return 0
        wait = max(window.has_room_at(needed) - self._now, 0)
        return wait or (LATER if window.used + window.reserved + needed > window.maximum else 0)


def tightest(windows: Sequence[RequestsInWindow]) -> Standing:
    """Return the standing of the window of requests with the least left."""
    return min(windows, key=lambda one: one.window.remaining).standing
