"""Headroom: what is left of all budgets and windows of tokens together, while a batch is decided.

Nearly all requests of a batch fit into all limits. They are compared with the least that is left, and what they reserve
is held in the balances at once, as a sum. Where a request may not fit, the sum is held first, and the limits are asked
one by one.
"""

import operator
from collections.abc import Sequence
from typing import NamedTuple

from store.admission.limits.limit import MOST_AMOUNTS, reserved
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


_order = operator.itemgetter(0, 1)


class OwnHeadroom:
    """The headroom of one token, or of one project, whose tokens share it; at the time (microseconds) of a batch."""

    __slots__ = ("_balances", "_is_known", "_now", "_taken", "has_budget", "is_usual", "tightest", "tokens", "usd")

    def __init__(self, balances: Sequence[Balance], now: int) -> None:
        self._balances = [one for one in balances if one.reserves]
        self.has_budget = USD in [one.counted for one in self._balances]
        self._now = now
        self._taken: list[Amounts] = []
        """The amounts that requests took since the balances were told."""
        self._is_known = False
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
        """Find out what is left, unless that is known."""
        if self._is_known:
            return
        self._is_known, self.is_usual = True, True
        self.tokens, self.usd = MOST_AMOUNTS
        windows = []
        for one in self._balances:
            self.is_usual &= one.begun_at <= self._now
            match one.state:
                case Budget() as budget:
                    self.is_usual &= budget.is_of(self._now)
                    self.usd = min(self.usd, budget.maximum - budget.settled - budget.reserved)
                case Window() as window:
                    self.tokens = min(self.tokens, window.maximum - window.used - window.reserved)
                    windows.append((window.remaining, PLACES[one.kind], window))
        self.tightest = _tightest(windows, self._now)

    def take(self, amounts: Amounts) -> None:
        """Reserve amounts."""
        self.look()
        self.tokens -= amounts.tokens
        self.usd -= amounts.usd
        self._taken.append(amounts)

    def hold(self) -> None:
        """Hold in the balances what was taken; then they may change, and what is left is found out again."""
        self._is_known = False
        if not self._taken:
            return
        tokens, usd = map(sum, zip(*self._taken, strict=True))
        for one in self._balances:  # nothing is held, too: a window keeps the time that it has come to
            one.hold(usd if isinstance(one.state, Budget) else tokens)
        self._taken.clear()


def _tightest(windows: Sequence[tuple[int, int, Window]], now: int) -> _Tightest | None:
    if not windows:
        return None
    _, place, window = min(windows)
    return _Tightest(place, window.maximum, max(window.is_empty_at() - now, 0))


class Headroom:
    """The headroom of a token: its own, and that of its project."""

    def __init__(self, own: Sequence[OwnHeadroom]) -> None:
        self._own = own
        self.has_budget = any(each.has_budget for each in own)
        """True if a budget is among the limits."""

    def reserve(self, bounds: Bounds, usual_output: int) -> Amounts | None:
        """Return what a request reserves, if that fits; None where the limits have to be asked."""
        left = self._left()
        if left is None:
            return None
        amounts = reserved(bounds, usual_output, left)
        does_fit = amounts.tokens <= max(left.tokens, 0) and amounts.usd <= max(left.usd, 0)
        return amounts if does_fit else None

    def take(self, amounts: Amounts) -> bool:
        """Reserve amounts that fit; returns False where the limits have to do that themselves."""
        for own in self._own:
            if not own.is_usual:
                self.hold()
                return False
        for own in self._own:
            own.take(amounts)
        return True

    def is_scarce(self, amounts: Amounts) -> bool:
        """Tell whether a further request with these amounts would have to wait until others give back theirs."""
        left = self._left()
        return left is None or amounts.tokens > left.tokens or amounts.usd > left.usd

    def hold(self) -> None:
        """Hold in the balances what was taken, so that limits can be asked, or written."""
        for own in self._own:
            own.hold()

    @property
    def standing(self) -> Standing | None:
        """The standing of the window of tokens with the least left; None without one."""
        found: list[tuple[int, int, _Tightest]] = []
        for own in self._own:
            own.look()
            if own.tightest is not None:
                found.append((max(own.tokens, 0), own.tightest.place, own.tightest))
        if not found:
            return None
        left, _, window = min(found, key=_order)
        return Standing(window.maximum, left, window.resets_in, "tokens")

    def _left(self) -> Amounts | None:
        """Return what is left; None where that does not tell what fits."""
        tokens, usd = MOST_AMOUNTS
        for own in self._own:
            own.look()
            if not own.is_usual:
                return None
            tokens, usd = min(tokens, own.tokens), min(usd, own.usd)
        return Amounts(tokens, usd)
