"""A small model of the limits: what was admitted, reserved and used, which is counted again for each question.

It knows nothing of rows, transactions or processes. Times are microseconds, money is COST_UNITs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from store.clock import SECOND
from store.limits.window import PERIODS
from store.request import Amounts, Opened

PARTS = 60
USD_PERIODS = ("total", "month", "week", "day")
INPUT_PRICE, OUTPUT_PRICE = 1_000_000, 2_000_000
"""COST_UNITs of a token."""

USUAL_OUTPUT = 5
"""Tokens of output that are reserved for a request without a bound of its own."""


def period_of(per: str, now: int) -> tuple[int, int | None]:
    """Return the beginning and the end of a budget's period."""
    day = datetime.fromtimestamp(now // SECOND, UTC).replace(hour=0, minute=0, second=0)
    match per:
        case "total":
            return 0, None
        case "day":
            begins, ends = day, day + timedelta(days=1)
        case "week":
            begins = day - timedelta(days=day.weekday())
            ends = begins + timedelta(days=7)
        case _:
            begins = day.replace(day=1)
            ends = (begins + timedelta(days=40)).replace(day=1)
    return int(begins.timestamp()) * SECOND, int(ends.timestamp()) * SECOND


@dataclass
class ModelWindow:
    """A window: the newest part of the time that it has come to, and the numbers that were counted in its parts."""

    per: str
    unit: str
    maximum: int
    newest: int
    counts: dict[int, int] = field(default_factory=dict)
    admitted: dict[str, int] = field(default_factory=dict)
    """The part in which each request was admitted."""
    reserved: int = 0

    @property
    def length(self) -> int:
        return PERIODS[self.per]

    def part(self, now: int) -> int:
        """The part of a time; a clock that steps back goes on in the newest one."""
        return max(now * PARTS // self.length, self.newest)

    def come_to(self, now: int) -> None:
        self.newest = self.part(now)

    def used_in(self, part: int) -> int:
        """Count what was counted in a part and in the 60 before it."""
        return sum(number for one, number in self.counts.items() if part - PARTS <= one <= part)

    def used(self, now: int) -> int:
        return self.used_in(self.part(now))

    def add(self, number: int, now: int) -> None:
        """Count a number in the newest part, or a change that leaves nothing below 0 in it."""
        self.come_to(now)
        self.counts[self.newest] = max(self.counts.get(self.newest, 0) + number, 0)

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

    def remaining(self, now: int) -> int:
        return max(self.maximum - self.used(now) - self.reserved, 0)

    def shown(self, now: int) -> tuple[object, ...]:
        resets_at = self.falls_to(0, now) or None
        return (self.unit, self.per, self.maximum, self.used(now), self.reserved, self.remaining(now), resets_at)


@dataclass
class ModelBudget:
    """A budget: the beginning of the period that it has come to, and what was counted in that."""

    per: str
    maximum: int
    since: int
    settled: int = 0
    reserved: int = 0

    def begins_at(self, now: int) -> int:
        return max(period_of(self.per, now)[0], self.since)

    def come_to(self, now: int) -> None:
        begins_at = self.begins_at(now)
        if begins_at > self.since:
            self.since, self.settled, self.reserved = begins_at, 0, 0

    def is_of(self, at: int) -> bool:
        return period_of(self.per, at)[0] == self.since

    def at(self, now: int) -> tuple[int, int]:
        """Return what is settled and reserved at a time."""
        return (self.settled, self.reserved) if self.begins_at(now) == self.since else (0, 0)

    def remaining(self, now: int) -> int:
        return max(self.maximum - sum(self.at(now)), 0)

    def shown(self, now: int) -> tuple[object, ...]:
        settled, reserved = self.at(now)
        resets_at = period_of(self.per, self.begins_at(now))[1]
        return ("usd", self.per, self.maximum, settled, reserved, self.remaining(now), resets_at)


type Kind = tuple[str, str]
"""A unit and a period: `("tokens", "hour")`, `("usd", "week")`."""

ORDER: Sequence[Kind] = (
    *(("usd", per) for per in USD_PERIODS),
    *(("requests", per) for per in PERIODS),
    *(("tokens", per) for per in PERIODS),
)
"""The order in which limits are checked."""


@dataclass
class ModelOwner:
    """A token or a project, with its limits."""

    id: str
    kind: str
    limits: dict[Kind, ModelWindow | ModelBudget] = field(default_factory=dict)
    parallel: int | None = None
    holders: set[str] = field(default_factory=set)
    """The requests that hold a slot."""
    held: dict[tuple[Kind, str], int] = field(default_factory=dict)
    """The amounts that are held for requests."""
    begun: dict[Kind, int] = field(default_factory=dict)
    """The times when limits were set: they hold nothing for requests that were admitted before."""

    def set_limits(self, units: Sequence[str], maxima: dict[Kind, int], now: int, latest: int) -> None:
        """Set all limits of some units; one that stays keeps its count. `latest` is when a running one was admitted."""
        for kind in [kind for kind in self.limits if kind[0] in units and kind not in maxima]:
            del self.limits[kind]
            self.held = {key: amount for key, amount in self.held.items() if key[0] != kind}
        for (unit, per), maximum in maxima.items():
            if (unit, per) in self.limits:
                self.limits[unit, per].maximum = maximum
                continue
            self.begun[unit, per] = max(now, latest + 1)
            if unit == "usd":
                self.limits[unit, per] = ModelBudget(per, maximum, period_of(per, now)[0])
            else:
                self.limits[unit, per] = ModelWindow(per, unit, maximum, now * PARTS // PERIODS[per])

    def set_parallel(self, maximum: int | None) -> None:
        """Set, change or remove the limit of requests at once; removing it forgets who held slots."""
        self.parallel = maximum
        if maximum is None:
            self.holders.clear()

    def is_for(self, kind: Kind, at: int, now: int) -> bool:
        """Tell whether a limit holds something for a request of a time."""
        limit = self.limits[kind]
        is_past = isinstance(limit, ModelBudget) and period_of(limit.per, at)[0] != limit.begins_at(now)
        return at >= self.begun[kind] and not is_past

    def hold(self, kind: Kind, request_id: str, amount: int, now: int) -> None:
        """Hold an amount for a request."""
        limit = self.limits[kind]
        limit.come_to(now)
        limit.reserved += amount
        self.held[kind, request_id] = self.held.get((kind, request_id), 0) + amount

    def let_go(self, request_id: str, at: int, now: int) -> None:
        """Hold nothing for a request any more."""
        for kind, one in [*self.held]:
            if one == request_id:
                amount, limit = self.held.pop((kind, one)), self.limits[kind]
                limit.come_to(now)
                if isinstance(limit, ModelWindow) or limit.is_of(at):
                    limit.reserved = max(limit.reserved - amount, 0)

    def count(self, at: int, amounts: Amounts, now: int) -> None:
        """Count what a request of a time has used, or a change of that."""
        for (unit, _), limit in self.limits.items():
            if isinstance(limit, ModelBudget):
                limit.come_to(max(now, at))
                if limit.is_of(at):
                    limit.settled = max(limit.settled + amounts.usd, 0)
            elif unit == "tokens":
                limit.add(amounts.tokens, now)

    def shown(self, now: int) -> Sequence[tuple[object, ...]]:
        """Return the limits as the management API shows them."""
        shown = [self.limits[kind].shown(now) for kind in ORDER if kind in self.limits]
        if self.parallel is None:
            return shown
        used = len(self.holders)
        return [*shown, ("parallel", None, self.parallel, used, 0, max(self.parallel - used, 0), None)]


@dataclass
class ModelToken(ModelOwner):
    project: ModelOwner = field(kw_only=True)
    max_requests: int = 0
    request_count: int = 0
    reserved: dict[str, Amounts] = field(default_factory=dict)
    """The amounts that the rows of requests have reserved, of those for which a limit does that."""

    @property
    def owners(self) -> Sequence[ModelOwner]:
        return (self, self.project)

    @property
    def all_limits(self) -> Iterator[tuple[ModelOwner, Kind]]:
        """All limits but those of requests at once that hold for it, in the order of the checks."""
        return ((owner, kind) for kind in ORDER for owner in self.owners if kind in owner.limits)

    @property
    def requests_windows(self) -> Sequence[tuple[ModelOwner, ModelWindow]]:
        found = [(owner, owner.limits[kind]) for owner, kind in self.all_limits if kind[0] == "requests"]
        return [(owner, window) for owner, window in found if isinstance(window, ModelWindow)]

    @property
    def reserving(self) -> Sequence[tuple[ModelOwner, Kind]]:
        return [(owner, kind) for owner, kind in self.all_limits if kind[0] != "requests"]

    @property
    def has_budget(self) -> bool:
        return any(kind[0] == "usd" for _, kind in self.all_limits)


class Asked(NamedTuple):
    """The input and the output that a request may use; None for an output without a bound of its own."""

    input_tokens: int = 0
    output_tokens: int | None = 0
    is_priced: bool = True
    is_further: bool = False
    """True for a further one over a WebSocket, which takes no slot."""

    def amounts(self, output_tokens: int, *, has_budget: bool) -> Amounts:
        usd = self.input_tokens * INPUT_PRICE + output_tokens * OUTPUT_PRICE
        return Amounts(self.input_tokens + output_tokens, usd if has_budget else 0)


type Told = tuple[int, int, int, str]
"""The maximum of a window, what is left, the time until nothing is used, and its unit."""


class Verdict(NamedTuple):
    """The model's outcome of a request: the code of its refusal, or none, and the content of its answer."""

    code: str | None = None
    owner: str = ""
    """The owner of the limit that refuses it."""
    maximum: int = 0
    wait: int = 0
    """The time until all windows would let it pass, and those that are only held may; 0 if it never passes."""
    passes_at: int = 0
    """The first time at which all windows of requests would let it pass; 0 where these do not refuse it."""
    has_slots: bool = False
    is_counted: bool = False
    at: int = 0
    reserved: Amounts = Amounts()
    windows: Sequence[Told] = ()
    """The tightest window of each unit."""


def decide(token: ModelToken, request_id: str, now: int, asked: Asked) -> Verdict:
    """Decide on one request, and count it if it is admitted."""
    if token.has_budget and not asked.is_priced:
        return Verdict("model_not_priced")
    at = _moment(token, now)
    if token.max_requests and token.request_count >= token.max_requests:
        return Verdict("insufficient_quota")
    amounts = _reserved(token, asked, now)
    for owner, kind in token.all_limits:
        code = _refusal(owner.limits[kind], amounts, now)
        if code is not None:
            limit = owner.limits[kind]
            never_passes = kind[0] == "tokens" and amounts.tokens > limit.maximum
            waits = [] if never_passes else [_wait(each.limits[one], amounts, now) for each, one in token.all_limits]
            passes_at = 0
            if kind[0] == "requests":
                passes_at = max(each.falls_to(each.maximum - 1, now) for _, each in token.requests_windows)
            return Verdict(code, owner.kind, limit.maximum, max(waits, default=0), passes_at)
    takers = [] if asked.is_further else [owner for owner in token.owners if owner.parallel is not None]
    for owner in takers:
        if owner.parallel is not None and len(owner.holders) >= owner.parallel:
            return Verdict("too_many_parallel_requests", owner.kind, owner.parallel)
    return _admit(token, request_id, now, at, amounts, takers)


def _moment(token: ModelToken, now: int) -> int:
    """Return the time of an admission, to which all budgets come where it is ahead of the clock."""
    budgets = [owner.limits[kind] for owner, kind in token.reserving if kind[0] == "usd"]
    begun = [owner.begun[kind] for owner, kind in token.reserving]
    at = max([now, *begun, *(budget.begins_at(now) for budget in budgets if isinstance(budget, ModelBudget))])
    for budget in budgets if at > now else ():
        budget.come_to(at)
    return at


def _admit(
    token: ModelToken, request_id: str, now: int, at: int, amounts: Amounts, takers: Sequence[ModelOwner]
) -> Verdict:
    token.request_count += 1
    for _, window in token.requests_windows:
        window.add(1, now)
        window.admitted[request_id] = window.newest
    for owner, kind in token.reserving:
        owner.hold(kind, request_id, _amount(kind, amounts), now)
    if token.reserving:
        token.reserved[request_id] = amounts
    for owner in takers:
        owner.holders.add(request_id)
    return Verdict(
        has_slots=bool(takers),
        is_counted=bool(token.reserving),
        at=at,
        reserved=amounts,
        windows=_tightest(token, now),
    )


def grow(token: ModelToken, request_id: str, at: int, more: Amounts, now: int) -> tuple[Amounts, bool]:
    """Reserve more for a request, or as much as all limits have left. Returns that, and whether it is less."""
    holding = [(owner, kind) for owner, kind in token.reserving if owner.is_for(kind, at, now)]
    if not holding:
        return Amounts(), False
    is_full = any(_is_short(owner.limits[kind], _amount(kind, more), now) for owner, kind in holding)
    if is_full:
        rooms = [(kind[0], owner.limits[kind].remaining(now)) for owner, kind in holding]
        more = Amounts(
            min([more.tokens, *(room for unit, room in rooms if unit == "tokens")]),
            min([more.usd, *(room for unit, room in rooms if unit == "usd")]),
        )
    for owner, kind in holding:
        owner.hold(kind, request_id, _amount(kind, more), now)
    token.reserved[request_id] = token.reserved[request_id].plus(more)
    return more, is_full


def would_pass(token: ModelToken, now: int) -> bool:
    """Tell whether all windows of requests would let a request pass at a time."""
    return not any(window.falls_to(window.maximum - 1, now) for _, window in token.requests_windows)


def withdraw(token: ModelToken, opened: Opened, now: int) -> None:
    """Take a request back, as if it had not been admitted; the time stays as far as it has come."""
    token.request_count -= 1
    token.reserved.pop(opened.request_id, None)
    for owner in token.owners:
        owner.let_go(opened.request_id, opened.started_at, now)
        owner.holders.discard(opened.request_id)
    for _, window in token.requests_windows:
        window.come_to(now)
        part = window.admitted.pop(opened.request_id)
        window.counts[part] -= 1


def _amount(kind: Kind, amounts: Amounts) -> int:
    return amounts.usd if kind[0] == "usd" else amounts.tokens


def _reserved(token: ModelToken, asked: Asked, now: int) -> Amounts:
    if not token.reserving:
        return Amounts()
    output = asked.output_tokens
    if output is None:
        rooms = [USUAL_OUTPUT]
        for owner, kind in token.reserving:
            base, price = (asked.input_tokens * INPUT_PRICE, OUTPUT_PRICE) if kind[0] == "usd" else (asked[0], 1)
            rooms.append(math.floor((owner.limits[kind].remaining(now) - base) / price))
        output = max(min(rooms), 1)
    return asked.amounts(output, has_budget=token.has_budget)


def _refusal(limit: ModelWindow | ModelBudget, amounts: Amounts, now: int) -> str | None:
    if isinstance(limit, ModelBudget):
        settled, reserved = limit.at(now)
        if not amounts.usd or settled + reserved + amounts.usd <= limit.maximum:
            return None
        return "insufficient_quota" if settled + amounts.usd > limit.maximum else "rate_limit_exceeded"
    needed = 1 if limit.unit == "requests" else amounts.tokens
    is_refused = needed and limit.used(now) + limit.reserved + needed > limit.maximum
    return "rate_limit_exceeded" if is_refused else None


def _wait(limit: ModelWindow | ModelBudget, amounts: Amounts, now: int) -> int:
    if isinstance(limit, ModelBudget):
        return SECOND if _refusal(limit, amounts, now) == "rate_limit_exceeded" else 0
    needed = 1 if limit.unit == "requests" else amounts.tokens
    if not needed or needed > limit.maximum:
        return 0
    wait = max(limit.falls_to(limit.maximum - needed, now) - now, 0)
    return wait or (SECOND if _refusal(limit, amounts, now) else 0)


def _is_short(limit: ModelWindow | ModelBudget, amount: int, now: int) -> bool:
    used = sum(limit.at(now)) if isinstance(limit, ModelBudget) else limit.used(now) + limit.reserved
    return bool(amount) and used + amount > limit.maximum


def _tightest(token: ModelToken, now: int) -> Sequence[Told]:
    found = []
    for unit in ("requests", "tokens"):
        limits = [owner.limits[kind] for owner, kind in token.all_limits if kind[0] == unit]
        windows = [limit for limit in limits if isinstance(limit, ModelWindow)]
        told = [(one.maximum, one.remaining(now), max(one.falls_to(0, now) - now, 0), unit) for one in windows]
        found += [min(told, key=lambda one: one[1])] if told else []
    return found
