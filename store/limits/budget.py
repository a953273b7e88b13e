"""Budgets: what has been spent and reserved in a calendar period. No I/O; times are microseconds, money is COST_UNITs.

A request belongs to the period of its admission, whenever it ends: what it settles or gives back after the period has
ended changes nothing.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from store import clock
from store.clock import DAY

USD: Final = "usd"


def _beginning_of_all(_moment: int) -> int:
    return 0


def _day_of(moment: int) -> int:
    return moment // DAY * DAY


USD_PERIODS: Mapping[str, Callable[[int], int]] = {
    "total": _beginning_of_all,
    "month": clock.month_of,
    "week": clock.week_of,
    "day": _day_of,
}
"""The beginning (UTC) of the period of a time, by the periods' names, in the order in which budgets are checked."""

MOST_SETTLED = 2**62
"""Upper bound of what is settled: more does not fit into the column."""

_NEVER = 2**63

_LONGEST: Mapping[str, int] = {"month": 31 * DAY, "week": 7 * DAY, "day": DAY}


@dataclass(slots=True)
class Budget:
    """One budget, in the period that began at `since`."""

    per: str
    maximum: int
    since: int
    settled: int = 0
    reserved: int = 0
    _until: int = field(init=False, repr=False, compare=False)
    """The beginning of the next period."""

    def __post_init__(self) -> None:
        """Find the end of the period."""
        self._until = _end_of(self.per, self.since)

    @classmethod
    def begin(cls, per: str, maximum: int, now: int) -> Self:
        """Begin a budget in the middle of a period."""
        return cls(per, maximum, USD_PERIODS[per](now))

    def advance(self, now: int) -> None:
        """Begin a new period if that of a time is later. A clock that steps back changes nothing."""
        if now >= self._until:
            self.since, self.settled, self.reserved = USD_PERIODS[self.per](now), 0, 0
            self.__post_init__()

    @property
    def remaining(self) -> int:
        """The amount that can still be reserved; not below 0, where more was settled or the budget was lowered."""
        return max(self.maximum - self.settled - self.reserved, 0)

    def has_room(self, amount: int) -> bool:
        """Tell whether an amount fits beside what is settled and reserved."""
        return self.settled + self.reserved + amount <= self.maximum

    def could_have_room(self, amount: int) -> bool:
        """Tell whether an amount would fit if nothing was reserved."""
        return self.settled + amount <= self.maximum

    def is_of(self, at: int) -> bool:
        """Tell whether a request of a time belongs to the present period."""
        return self.since <= at < self._until

    def settle(self, at: int, cost: int) -> None:
        """Count the cost of a request of a time, or a change of that; after the clock stepped back it may be ahead."""
        self.advance(at)
        if self.is_of(at):
            self.add(cost)

    def add(self, cost: int) -> None:
        """Count a cost of the present period, or a change of that."""
        self.settled = min(max(self.settled + cost, 0), MOST_SETTLED)

    def resets_at(self) -> int | None:
        """Return the beginning of the next period; None for a budget that has one alone."""
        return None if self._until == _NEVER else self._until


@functools.lru_cache(256)
def _end_of(per: str, since: int) -> int:
    longest = _LONGEST.get(per)
    return _NEVER if longest is None else USD_PERIODS[per](since + longest)
