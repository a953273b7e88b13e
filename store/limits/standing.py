"""The limits of tokens and projects as they are shown: with what has been used of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from store.clock import to_rfc3339_exact
from store.limits.balance import PARALLEL, PLACES, Balance
from store.limits.budget import USD, Budget
from store.limits.window import Window
from store.money import decimal_text, usd


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """One limit, with what has been used of it now. `resets_at` (microseconds) is when nothing is used any more.

    `per` is the name of a window's length, or of a budget's period; None for requests at once, which have no
    `resets_at` either. The numbers of a budget are COST_UNITs.
    """

    kind: Literal["requests", "tokens", "parallel", "usd"]
    per: str | None
    limit: int
    used: int
    remaining: int
    resets_at: int | None
    reserved: int = 0
    """Held for requests that are running; only windows of tokens and budgets hold something."""

    @property
    def place(self) -> int:
        """Its place in the order in which limits are checked."""
        return PLACES[self.kind if self.per is None else f"{self.kind}/{self.per}"]

    def shown(self) -> dict[str, object]:
        """Return the contract's `LimitStanding`."""
        return {
            "kind": self.kind,
            "per": self.per,
            "limit": self._number(self.limit),
            "used": self._number(self.used),
            "reserved": self._number(self.reserved),
            "remaining": self._number(self.remaining),
            "resets_at": None if self.resets_at is None else to_rfc3339_exact(self.resets_at),
        }

    def _number(self, number: int) -> int | str:
        """Return a number as it is shown: money as a decimal text."""
        return decimal_text(usd(number)) if self.kind == USD else number


def standings(balances: Iterable[Balance]) -> Sequence[LimitStanding]:
    """Return the limits of one owner, in the order in which they are checked."""
    return sorted(map(_standing, balances), key=lambda standing: standing.place)


def _standing(balance: Balance) -> LimitStanding:
    maximum, state = balance.maximum, balance.state
    match state:
        case Window():
            kind: Literal["requests", "tokens"] = "requests" if balance.counted == "requests" else "tokens"
            resets_at = state.is_empty_at() or None
            return LimitStanding(kind, balance.period, maximum, state.used, state.remaining, resets_at, state.reserved)
        case Budget():
            used, resets_at = state.settled, state.resets_at()
            return LimitStanding(USD, state.per, maximum, used, state.remaining, resets_at, state.reserved)
    remaining = max(maximum - balance.used, 0)
    return LimitStanding(PARALLEL, None, maximum, balance.used, remaining, None)
