"""Sliding windows: in no interval of a window's length, wherever it begins, is more admitted than its limit.

A window counts requests or tokens. Tokens are reserved while their request runs, and count from when it is settled.

A window is counted in PARTS parts. The current part and the PARTS parts before it count as a whole: any interval of the
window's length lies within those. No I/O; times are microseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from store.clock import DAY, HOUR, MINUTE, SECOND

PERIODS: Mapping[str, int] = {"day": DAY, "hour": HOUR, "minute": MINUTE, "second": SECOND}
"""The lengths of windows, by their names, in the order in which limits are checked."""

PARTS = 60

_KEPT = PARTS + 1


class Standing(NamedTuple):
    """The standing of a window, as clients are told it."""

    maximum: int
    remaining: int
    resets_in: int
    """Microseconds until nothing counts any more, if nothing is added."""
    unit: Literal["requests", "tokens"] = "requests"


@dataclass(slots=True)
class Window:
    """The counts of one window, with its limit. A clock that steps back goes on in the newest part."""

    length: int
    maximum: int
    newest: int
    """The number of the newest part, counted from 1970."""
    counts: list[int]
    """The counts of the parts, the newest one last."""
    reserved: int = 0
    """The number that requests under way may yet use."""
    used: int = field(init=False)
    """The number that counts now: the sum of the counts."""

    def __post_init__(self) -> None:
        """Add up the counts."""
        self.used = sum(self.counts)

    @classmethod
    def empty(cls, length: int, maximum: int, now: int) -> Self:
        """Begin a window."""
        return cls(length, maximum, now * PARTS // length, [0] * _KEPT)

    @classmethod
    def read(cls, length: int, maximum: int, newest: int, counts: str, reserved: int = 0) -> Self:
        """Read counts as `written` wrote them."""
        return cls(length, maximum, newest, [int(count) for count in counts.split(",")], reserved)

    @property
    def written(self) -> str:
        """The counts as a text."""
        return ",".join(map(str, self.counts))

    def advance(self, now: int) -> None:
        """Forget the parts that have left the window by a time."""
        passed = min(max(now * PARTS // self.length - self.newest, 0), _KEPT)
        if passed:
            self.counts = [*self.counts[passed:], *[0] * passed]
            self.used = sum(self.counts)
            self.newest = now * PARTS // self.length

    @property
    def remaining(self) -> int:
        """The number that is left now; not below 0, where the limit was lowered."""
        return max(self.maximum - self.used - self.reserved, 0)

    def standing(self, now: int) -> Standing:
        """Return the standing at a time."""
        return Standing(self.maximum, self.remaining, max(self.is_empty_at() - now, 0))

    def add(self, number: int = 1) -> None:
        """Count in the newest part."""
        self.counts[-1] += number
        self.used += number

    def settle(self, number: int) -> None:
        """Count what a request used now, or a change of that."""
        self.add(max(number, -self.counts[-1]))

    def take_back(self, at: int) -> None:
        """Count one less at a time at which one was counted, if that still counts."""
        place = at * PARTS // self.length - self.newest + PARTS
        if 0 <= place <= PARTS and self.counts[place]:
            self.counts[place] -= 1
            self.used -= 1

    def has_room_at(self, number: int = 1) -> int:
        """Return the time from which on so many more are let in, if no others come; 0 for now.

        That is as if nothing was reserved. `number` is at most the maximum.
        """
        missing = self.used + number - self.maximum
        for place, count in enumerate(self.counts):
            if missing <= 0:
                return self._leaves_at(place - 1) if place else 0
            missing -= count
        return self._leaves_at(PARTS)

    def is_empty_at(self) -> int:
        """Return the time from which on nothing counts any more; 0 for now."""
        last = next((place for place in range(PARTS, -1, -1) if self.counts[place]), None)
        return 0 if last is None else self._leaves_at(last)

    def _leaves_at(self, place: int) -> int:
        """Return the time at which a part leaves the window: the beginning of the part _KEPT later."""
        return -(-(self.newest - PARTS + place + _KEPT) * self.length // PARTS)
