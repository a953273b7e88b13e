"""Headroom: what is left of all budgets and windows of tokens together, while a batch is decided.

Nearly all requests of a batch fit into all limits. They are compared with the least that is left, and what they reserve
is held in the balances at once, as a sum. Where a request may not fit, the sum is held first, and the limits are asked
one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from store.admission.limits.limit import MOST_AMOUNTS, reserved, wanted
from store.limits.balance import PLACES, Balance
from store.limits.bound import Bounds
from store.limits.budget import USD, Budget
from store.limits.window import Standing, Window
from store.request import Amounts


class _Tightest(NamedTuple):
    """The window of tokens that has the least left; of several the first in the order of the checks."""

    place: int
    maximum: int
    resets_in: int


class OwnHeadroom:
    """The headroom of one token, or of one project, whose tokens share it; at the time (microseconds) of a batch."""

    __slots__ = (
        "_balances", "_now", "has_budget", "is_known", "is_usual", "taken", "taken_tokens", "taken_usd", "tightest",
        "tokens", "usd",
    )  # fmt: skip

    def __init__(self, balances: Sequence[Balance], now: int) -> None:
        self._balances = [one for one in balances if one.reserves]
        self.has_budget = USD in [one.counted for one in self._balances]
        self._now = now
        self.taken = self.taken_tokens = self.taken_usd = 0
        """The number of requests that took something since the balances were told, and what they took."""
        self.is_known = False
        """True while `look` has nothing to find out."""
        self.tokens, self.usd = MOST_AMOUNTS
        """The least that is left; below 0 where more was settled than a limit allows."""
        self.is_usual = True
        """False after the clock stepped back behind the beginning of a limit: it holds nothing for such a request."""
        self.tightest: _Tightest | None = None
        """Has `tokens` left."""

    def __bool__(self) -> bool:
        """Tell whether there are such limits."""
        return bool(self._balances)

    def look(self) -> None:
        """Find out what is left."""
        self.is_known, self.is_usual = True, True
        tokens, usd = MOST_AMOUNTS
        windows = []
        for one in self._balances:
            self.is_usual &= one.is_for(self._now)
            state = one.state
            if isinstance(state, Budget):
                usd = min(usd, state.maximum - state.settled - state.reserved)
            elif isinstance(state, Window):
                left = state.maximum - state.used - state.reserved
                tokens = min(tokens, left)
                windows.append((max(left, 0), PLACES[one.kind], state))
        self.tokens, self.usd = tokens, usd
        self.tightest = _tightest(windows, self._now)

    def hold(self) -> None:
        """Hold in the balances what was taken; then they may change, and what is left is found out again."""
        self.is_known = False
        if not self.taken:
            return
        for one in self._balances:  # nothing is held, too: a window keeps the time that it has come to
            one.hold(self.taken_usd if isinstance(one.state, Budget) else self.taken_tokens)
        self.taken = self.taken_tokens = self.taken_usd = 0


def _tightest(windows: Sequence[tuple[int, int, Window]], now: int) -> _Tightest | None:
    if not windows:
        return None
    _, place, window = windows[0] if len(windows) == 1 else min(windows)
    return _Tightest(place, window.maximum, max(window.is_empty_at() - now, 0))


class Headroom:
    """The headroom of a token: its own, and that of its project."""

    def __init__(self, own: Sequence[OwnHeadroom]) -> None:
        self._own = own
        self.has_budget = any(each.has_budget for each in own)
        """True if a budget is among the limits."""

    def reserve(self, bounds: Bounds, usual_output: int) -> Amounts | None:
        """Return what a request reserves, if that fits; None where the limits have to be asked."""
        if not self._are_usual():
            return None
        amounts = wanted(bounds, usual_output)
        tokens, usd = amounts
        for own in self._own:
            if tokens > own.tokens or usd > own.usd:
                return self._reserve_less(bounds, usual_output)
        return amounts

    def take(self, amounts: Amounts) -> bool:
        """Reserve amounts that `reserve` has returned just before.

        Returns whether it gets scarce: a further request like this would have to wait until others give back theirs.
        """
        is_scarce = False
        tokens, usd = amounts
        for own in self._own:
            own.taken += 1
            own.taken_tokens += tokens
            own.taken_usd += usd
            own.tokens -= tokens
            own.usd -= usd
            if own.tokens < tokens or own.usd < usd:
                is_scarce = True
        return is_scarce

    def hold(self) -> None:
        """Hold in the balances what was taken, so that limits can be asked, or written."""
        for own in self._own:
            own.hold()

    @property
    def standing(self) -> Standing | None:
        """The standing of the window of tokens with the least left; None without one."""
        found: _Tightest | None = None
        least = 0
        for own in self._own:
            if not own.is_known:
                own.look()
            window, left = own.tightest, max(own.tokens, 0)
            if window is not None and (found is None or (left, window.place) < (least, found.place)):
                found, least = window, left
        return None if found is None else Standing(found.maximum, least, found.resets_in, "tokens")

    def _are_usual(self) -> bool:
        """Find out what is left, unless that is known; returns False where that does not tell what fits."""
        for own in self._own:
            if not own.is_known:
                own.look()
            if not own.is_usual:
                return False
        return True

    def _reserve_less(self, bounds: Bounds, usual_output: int) -> Amounts | None:
        left = Amounts(min([own.tokens for own in self._own]), min([own.usd for own in self._own]))
        amounts = reserved(bounds, usual_output, left)
        does_fit = amounts.tokens <= max(left.tokens, 0) and amounts.usd <= max(left.usd, 0)
        return amounts if does_fit else None
