"""Sliding windows: in no interval of a window's length, wherever it begins, is more admitted than its limit.

A window counts requests or tokens. Tokens are reserved while their request runs, and count from when it is settled.

A window is counted in PARTS parts. The current part and the PARTS parts before it count as a whole: any interval of the
window's length lies within those. No I/O; times are microseconds.
"""

import functools
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
    older: tuple[int, ...]
    """The counts of the parts before it, the newest one last."""
    current: int
    """The count of the newest part."""
    reserved: int = 0
    """The number that requests under way may yet use."""
    used: int = field(init=False)
    """The number that counts now: the sum of the counts."""

    def __post_init__(self) -> None:
        """Add up the counts."""
        self.used = sum(self.older) + self.current

    @classmethod
    def empty(cls, length: int, maximum: int, now: int) -> Self:
        """Begin a window."""
        return cls(length, maximum, now * PARTS // length, (0,) * PARTS, 0)

    @classmethod
    def read(cls, length: int, maximum: int, newest: int, counts: str, reserved: int = 0) -> Self:
        """Read counts as `written` wrote them."""
        older, _, current = counts.rpartition(",")
        return cls(length, maximum, newest, _numbers(older), int(current), reserved)

    @property
    def written(self) -> str:
        """The counts as a text."""
        return f"{_text(self.older)},{self.current}"

    def advance(self, now: int) -> None:
        """Forget the parts that have left the window by a time."""
        passed = min(now * PARTS // self.length - self.newest, _KEPT)
        if passed > 0:
            self.older = (*self.older, self.current, *[0] * (passed - 1))[-PARTS:]
            self.current = 0
            self.used = sum(self.older)
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
        self.current += number
        self.used += number

    def settle(self, number: int) -> None:
        """Count what a request used now, or a change of that."""
        self.add(max(number, -self.current))

    def take_back(self, at: int) -> None:
        """Count one less at a time at which one was counted, if that still counts."""
        place = at * PARTS // self.length - self.newest + PARTS
        if not 0 <= place <= PARTS:
            return
        counts = [*self.older, self.current]
        if counts[place]:
            counts[place] -= 1
            *older, self.current = counts
            self.older = tuple(older)
            self.used -= 1

    def has_room_at(self, number: int = 1) -> int:
        """Return the time from which on so many more are let in, if no others come; 0 for now.

        That is as if nothing was reserved. `number` is at most the maximum.
        """
        missing = self.used + number - self.maximum
        if missing <= 0:
            return 0
        for place, count in enumerate(self.older):
            missing -= count
            if missing <= 0:
                return self._leaves_at(place)
        return self._leaves_at(PARTS)

    def is_empty_at(self) -> int:
        """Return the time from which on nothing counts any more; 0 for now."""
        if self.current:
            return self._leaves_at(PARTS)
        if not self.used:
            return 0
        last = next((place for place in range(PARTS - 1, -1, -1) if self.older[place]), None)
        return 0 if last is None else self._leaves_at(last)

    def _leaves_at(self, place: int) -> int:
        """Return the time at which a part leaves the window: the beginning of the part _KEPT later."""
        return -(-(self.newest - PARTS + place + _KEPT) * self.length // PARTS)


@functools.lru_cache(256)
def _numbers(text: str) -> tuple[int, ...]:
    """Read the counts of older parts: they stay the same for as long as a part lasts."""
    return tuple(map(int, text.split(",")))


@functools.lru_cache(256)
def _text(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
