"""Headroom: what is left of all budgets and windows of tokens together, while a batch is decided.

Nearly all requests of a batch fit into all limits. They are compared with the least that is left, and what they reserve
is held in the balances at once, as a sum. Where a request may not fit, the sum is held first, and the limits are asked
one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from store.admission.limits.limit import MOST_AMOUNTS, reserved
from store.limits.balance import PLACES, Balance
from store.limits.bound import Bounds
from store.limits.budget import Budget
from store.limits.window import Standing, Window
from store.request import Amounts


class _Tightest(NamedTuple):
    """The window of tokens that has the least left; of several the first in the order of the checks."""

    left: int
    place: int
    standing: Standing


class OwnHeadroom:
    """The headroom of one token, or of one project, whose tokens share it; at the time (microseconds) of a batch."""

    __slots__ = ("_balances", "_held", "_is_known", "_now", "is_usual", "tightest", "tokens", "usd")

    def __init__(self, balances: Sequence[Balance], now: int) -> None:
        self._balances = [one for one in balances if one.reserves]
        self._now = now
        self._held = Amounts()
        self._is_known = False
        self.tokens, self.usd = MOST_AMOUNTS
        """The least that is left; below 0 where more was settled than a limit allows."""
        self.is_usual = True
        """False after the clock stepped back behind the beginning of a limit: it holds nothing for such a request."""
        self.tightest: _Tightest | None = None

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
                    windows.append(_Tightest(window.remaining, PLACES[one.kind], window.standing(self._now)))
        self.tightest = min(windows, default=None)

    def take(self, amounts: Amounts) -> None:
        """Reserve amounts."""
        self.tokens -= amounts.tokens
        self.usd -= amounts.usd
        self._held = self._held.plus(amounts)
        if self.tightest is not None:
            self.tightest = self.tightest._replace(left=max(self.tokens, 0))

    def hold(self) -> None:
        """Hold in the balances what was taken; then they may change, and what is left is found out again."""
        self._is_known = False
        if any(self._held):
            for one in self._balances:
                one.hold(self._held.usd if isinstance(one.state, Budget) else self._held.tokens)
            self._held = Amounts()


class Headroom:
    """The headroom of a token: its own, and that of its project."""

    def __init__(self, own: Sequence[OwnHeadroom]) -> None:
        self._own = own

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
        if self._left() is None:
            self.hold()
            return False
        for own in self._own:
            own.take(amounts)
        return True

    def hold(self) -> None:
        """Hold in the balances what was taken, so that limits can be asked, or written."""
        for own in self._own:
            own.hold()

    @property
    def standing(self) -> Standing | None:
        """The standing of the window of tokens with the least left; None without one."""
        self._left()
        tightest = min((own.tightest for own in self._own if own.tightest), key=lambda one: one[:2], default=None)
        return tightest and tightest.standing._replace(remaining=tightest.left, unit="tokens")

    def _left(self) -> Amounts | None:
        """Return what is left; None where that does not tell what fits."""
        tokens, usd = MOST_AMOUNTS
        is_usual = True
        for own in self._own:
            own.look()
            is_usual &= own.is_usual
            tokens, usd = min(tokens, own.tokens), min(usd, own.usd)
        return Amounts(tokens, usd) if is_usual else None
