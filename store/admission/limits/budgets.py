"""The limits `budgets`: US dollars in a calendar period, of a token or of its project."""

from store.admission.limits.limit import Asked, Reserving
from store.clock import SECOND, to_rfc3339
from store.errors import QuotaExhausted, RateLimited, TokenRefused
from store.limits.balance import Balance
from store.limits.budget import Budget
from store.money import decimal_text, usd
from store.request import Amounts


class UsdInPeriod(Reserving):
    """A budget, as it is at a time: what is settled, and what running requests have reserved."""

    __slots__ = ("_balance", "_budget", "_now", "_owner")

    def __init__(self, balance: Balance, budget: Budget, owner: str, now: int) -> None:
        self._balance = balance
        self._budget = budget
        self._owner = owner
        self._now = now

    @property
    def begins_at(self) -> int:
        """The beginning of its period, or the time when it was set, if that is later."""
        return max(self._budget.since, self._balance.begun_at)

    def test(self, asked: Asked) -> TokenRefused | None:
        """Refuse a request whose reservation does not fit beside what is settled and reserved."""
        needed, budget = asked.reserved.usd, self._budget
        if not needed or budget.has_room(needed) or not self.is_for(asked.at):
            return None
        may = f"The {self._owner} may spend ${_text(budget.maximum)} {_per(budget.per)}"
        spent = f"{may}: ${_text(budget.settled)} are spent"
        if budget.could_have_room(needed):
            return RateLimited(
                f"{spent}, ${_text(budget.reserved)} are reserved for running requests, and this one may cost "
                f"${_text(needed)}. Try again when one of them has ended, or with a lower max_tokens."
            )
        return self._exhausted(f"{spent}, and this request may cost ${_text(needed)}.")

    def hit(self, asked: Asked) -> None:
        """Reserve the most that a request may cost."""
        if self.is_for(asked.at):
            self._balance.hold(asked.reserved.usd)

    def most(self, amounts: Amounts) -> Amounts:
        """Return as much of amounts as is left."""
        return amounts._replace(usd=min(amounts.usd, self._budget.remaining))

    def advance(self, at: int) -> None:
        """Begin a new period, if that of a time is later."""
        self._budget.advance(at)
        self._balance.is_changed = True

    def is_for(self, at: int) -> bool:
        """Tell whether it holds something for a request of a time: of its period, and since it was set."""
        return at >= self._balance.begun_at and self._budget.is_of(at)

    def wait(self, asked: Asked) -> int:
        """Return a moment where only running requests are in the way."""
        needed = asked.reserved.usd
        is_busy = needed and not self._budget.has_room(needed) and self._budget.could_have_room(needed)
        return SECOND if is_busy else 0

    def _exhausted(self, message: str) -> QuotaExhausted:
        resets_at = self._budget.resets_at()
        if resets_at is None:
            return QuotaExhausted(message)
        refusal = QuotaExhausted(f"{message} The next {self._budget.per} begins at {to_rfc3339(resets_at)}.")
        seconds = -(-max(resets_at - self._now, 0) // SECOND)
        refusal.headers = {**refusal.headers, "Retry-After": str(seconds)}
        return refusal


def _text(units: int) -> str:
    return decimal_text(usd(units))


def _per(period: str) -> str:
    return "in all" if period == "total" else f"a {period}"
