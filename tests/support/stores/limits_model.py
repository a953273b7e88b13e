"""A small model of the limits: lists of what was admitted, which are counted again for each question.

It knows nothing of balances, transactions or processes. Times are microseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from store.limits.window import PERIODS
from store.request import Opened

PARTS = 60


@dataclass
class ModelWindow:
    """A window: when it was set, and the part of the time in which each request was admitted since then."""

    per: str
    maximum: int
    begun: int
    """The part in which it was set."""
    admitted: dict[str, int] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return PERIODS[self.per]

    def part(self, now: int) -> int:
        """The part of a time; a clock that steps back goes on in the newest one."""
        return max([now * PARTS // self.length, self.begun, *self.admitted.values()])

    def used_in(self, part: int) -> int:
        """Count what was admitted in a part and in the 60 before it."""
        return len([one for one in self.admitted.values() if part - PARTS <= one <= part])

    def has_counted(self, opened: Opened) -> bool:
        """Tell whether it has counted a request, and in the part of its time."""
        return self.admitted.get(opened.request_id) == opened.started_at * PARTS // self.length

    def falls_to(self, number: int, now: int) -> int:
        """Return the first time at which so many are counted at most; 0 for now."""
        current = self.part(now)
        for part in range(current, current + PARTS + 2):
            if self.used_in(part) <= number:
                return 0 if part == current else -(-part * self.length // PARTS)
        raise AssertionError("a window is empty after its length")

    def shown(self, now: int) -> tuple[object, ...]:
        used = self.used_in(self.part(now))
        return ("requests", self.per, self.maximum, used, max(self.maximum - used, 0), self.falls_to(0, now) or None)


@dataclass
class ModelOwner:
    """A token or a project, with its limits."""

    id: str
    kind: str
    windows: dict[str, ModelWindow] = field(default_factory=dict)
    parallel: int | None = None
    holders: set[str] = field(default_factory=set)
    """The requests that hold a slot."""

    def set_windows(self, maxima: dict[str, int], now: int) -> None:
        """Set all windows; one that stays keeps its count."""
        windows = {per: ModelWindow(per, maximum, now * PARTS // PERIODS[per]) for per, maximum in maxima.items()}
        for per in windows.keys() & self.windows.keys():
            self.windows[per].maximum = maxima[per]
            windows[per] = self.windows[per]
        self.windows = windows

    def set_parallel(self, maximum: int | None) -> None:
        """Set, change or remove the limit of requests at once; removing it forgets who held slots."""
        self.parallel = maximum
        if maximum is None:
            self.holders.clear()

    def shown(self, now: int) -> Sequence[tuple[object, ...]]:
        """Return the limits as the management API shows them, but for what is reserved."""
        windows = [self.windows[per].shown(now) for per in PERIODS if per in self.windows]
        if self.parallel is None:
            return windows
        used = len(self.holders)
        return [*windows, ("parallel", None, self.parallel, used, max(self.parallel - used, 0), None)]


@dataclass
class ModelToken(ModelOwner):
    project: ModelOwner = field(kw_only=True)
    max_requests: int = 0
    request_count: int = 0

    @property
    def owners(self) -> Sequence[ModelOwner]:
        return (self, self.project)

    @property
    def all_windows(self) -> Sequence[tuple[ModelOwner, ModelWindow]]:
        """All windows that hold for it, in the order of the checks."""
        return [(owner, owner.windows[per]) for per in PERIODS for owner in self.owners if per in owner.windows]


class Verdict(NamedTuple):
    """The model's outcome of a request: the code of its refusal, or none, and the content of its answer."""

    code: str | None = None
    owner: str = ""
    """The owner of the limit that refuses it."""
    maximum: int = 0
    passes_at: int = 0
    """The first time at which all windows would let it pass."""
    slots: frozenset[str] = frozenset()
    window: tuple[int, int, int] | None = None
    """The maximum of the tightest window, what is left, and the time until nothing is used."""


def decide(token: ModelToken, request_id: str, now: int, *, is_further: bool) -> Verdict:
    """Decide on one request, and count it if it is admitted. One that is further over a WebSocket takes no slot."""
    if token.max_requests and token.request_count >= token.max_requests:
        return Verdict("insufficient_quota")
    windows = token.all_windows
    for owner, window in windows:
        if window.falls_to(window.maximum - 1, now):
            passes_at = max(each.falls_to(each.maximum - 1, now) for _, each in windows)
            return Verdict("rate_limit_exceeded", owner.kind, window.maximum, passes_at)
    takers = [] if is_further else [owner for owner in token.owners if owner.parallel is not None]
    for owner in takers:
        if owner.parallel is not None and len(owner.holders) >= owner.parallel:
            return Verdict("too_many_parallel_requests", owner.kind, owner.parallel)
    token.request_count += 1
    for _, window in windows:
        window.admitted[request_id] = window.part(now)
    for owner in takers:
        owner.holders.add(request_id)
    return Verdict(slots=frozenset(f"{owner.id}/parallel" for owner in takers), window=_tightest(windows, now))


def would_pass(token: ModelToken, now: int) -> bool:
    """Tell whether all windows would let a request pass at a time."""
    return not any(window.falls_to(window.maximum - 1, now) for _, window in token.all_windows)


def _tightest(windows: Sequence[tuple[ModelOwner, ModelWindow]], now: int) -> tuple[int, int, int] | None:
    told = [
        (window.maximum, max(window.maximum - window.used_in(window.part(now)), 0), window.falls_to(0, now) - now)
        for _, window in windows
    ]
    return min(told, key=lambda one: one[1]) if told else None


def withdraw(token: ModelToken, request_id: str) -> None:
    """Take a request back, as if it had not been admitted; the time stays as far as it has come."""
    token.request_count -= 1
    for _, window in token.all_windows:
        window.begun = max(window.begun, window.admitted.pop(request_id, window.begun))
    for owner in token.owners:
        owner.holders.discard(request_id)
