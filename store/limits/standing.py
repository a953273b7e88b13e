"""The limits of tokens and projects as they are shown: with what has been used of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from store.clock import to_rfc3339_exact
from store.limits.balance import PARALLEL, Balance
from store.limits.window import PERIODS

_ORDER = (*PERIODS, None)


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """One limit, with what has been used of it now. `resets_at` (microseconds) is when nothing is used any more.

    `per` is the name of a window's length; None for requests at once, which have no `resets_at` either.
    """

    kind: Literal["requests", "parallel"]
    per: str | None
    limit: int
    used: int
    remaining: int
    resets_at: int | None
    reserved: int = 0
    """Held for requests that are running; windows of requests hold nothing."""

    @property
    def place(self) -> int:
        """Its place in the order in which limits are checked."""
        return _ORDER.index(self.per)

    def shown(self) -> dict[str, object]:
        """Return the contract's `LimitStanding`."""
        return {
            "kind": self.kind,
            "per": self.per,
            "limit": self.limit,
            "used": self.used,
            "reserved": self.reserved,
            "remaining": self.remaining,
            "resets_at": None if self.resets_at is None else to_rfc3339_exact(self.resets_at),
        }


def standings(balances: Iterable[Balance]) -> Sequence[LimitStanding]:
    """Return the limits of one owner, in the order in which they are checked."""
    return sorted(map(_standing, balances), key=lambda standing: standing.place)


def _standing(balance: Balance) -> LimitStanding:
    window = balance.window
    if window is None:
        remaining = max(balance.maximum - balance.used, 0)
        return LimitStanding(PARALLEL, None, balance.maximum, balance.used, remaining, None)
    return LimitStanding(
        "requests", balance.period, window.maximum, window.used, window.remaining, window.is_empty_at() or None
    )
