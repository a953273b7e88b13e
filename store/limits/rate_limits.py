"""The rules for `rate_limits`, `budgets` and `max_parallel_requests`, and the form in which the store keeps them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

from store.errors import InvalidRequest
from store.limits.budget import USD, USD_PERIODS
from store.limits.window import PERIODS

MOST_WINDOWS = 8
MOST_BUDGETS = 4
MOST = 10**12
"""The highest limit, of requests and of tokens."""

MOST_USD = 1_000_000
MOST_DECIMALS = 12

_AMOUNT = re.compile(rf"[0-9]{{1,{len(str(MOST_USD))}}}(?:\.[0-9]{{1,{MOST_DECIMALS}}})?", re.ASCII)
_COUNTED = ("requests", "tokens")


class RateLimit(TypedDict):
    """A window: so many requests in it, or so many tokens, at most."""

    requests: NotRequired[int]
    tokens: NotRequired[int]
    per: Literal["second", "minute", "hour", "day"]


class BudgetLimit(TypedDict):
    """A budget: so many US dollars, as a decimal text, in each calendar period (UTC) at most."""

    usd: str
    per: Literal["day", "week", "month", "total"]


class Limits(TypedDict, total=False):
    """The limits that a change names; None removes them."""

    rate_limits: Sequence[RateLimit] | None
    budgets: Sequence[BudgetLimit] | None
    max_parallel_requests: int | None


def check(limits: Limits) -> None:
    """Check limits whose types the contract has checked. Raises InvalidRequest that names the place."""
    _check_windows(limits.get("rate_limits") or ())
    _check_budgets(limits.get("budgets") or ())
    parallel = limits.get("max_parallel_requests")
    if parallel is not None and not 1 <= parallel <= MOST:
        raise InvalidRequest(f"The field 'max_parallel_requests' must be from 1 to {MOST}, or null for no limit.")


def written(entries: Sequence[Mapping[str, object]] | None) -> str | None:
    """Return windows or budgets as the store keeps them; None for none."""
    return json.dumps(entries) if entries is not None else None


def read_windows(text: str | None) -> Sequence[RateLimit] | None:
    """Return windows that `written` wrote."""
    found: Sequence[RateLimit] | None = None if text is None else json.loads(text)
    return found


def read_budgets(text: str | None) -> Sequence[BudgetLimit] | None:
    """Return budgets that `written` wrote."""
    found: Sequence[BudgetLimit] | None = None if text is None else json.loads(text)
    return found


def maxima(limits: Mapping[str, object]) -> Mapping[str, int]:
    """Return the limits by their kinds: `requests/minute`, `tokens/day`, `usd/month` (in COST_UNITs), `parallel`."""
    windows: Sequence[RateLimit] = limits.get("rate_limits") or ()  # type: ignore[assignment]
    budgets: Sequence[BudgetLimit] = limits.get("budgets") or ()  # type: ignore[assignment]
    found = {f"{counted}/{window['per']}": number for window in windows for counted, number in _counted(window)}
    found |= {f"{USD}/{budget['per']}": _units(budget["usd"]) for budget in budgets}
    parallel = limits.get("max_parallel_requests")
    return {**found, "parallel": parallel} if isinstance(parallel, int) else found


def _check_windows(windows: Sequence[RateLimit]) -> None:
    if len(windows) > MOST_WINDOWS:
        raise InvalidRequest(f"The field 'rate_limits' must have at most {MOST_WINDOWS} windows.")
    kinds = []
    for place, window in enumerate(windows):
        name, counts = f"rate_limits[{place}]", [*_counted(window)]
        if window["per"] not in PERIODS:
            raise InvalidRequest(f"The field '{name}.per' must be one of {', '.join(PERIODS)}.")
        if len(counts) != 1:
            raise InvalidRequest(f"The field '{name}' must have either 'requests' or 'tokens'.")
        ((counted, number),) = counts
        if not 1 <= number <= MOST:
            raise InvalidRequest(f"The field '{name}.{counted}' must be from 1 to {MOST}.")
        kinds.append(f"{counted}/{window['per']}")
    _refuse_same("rate_limits", "window", kinds)


def _check_budgets(budgets: Sequence[BudgetLimit]) -> None:
    if len(budgets) > MOST_BUDGETS:
        raise InvalidRequest(f"The field 'budgets' must have at most {MOST_BUDGETS} budgets.")
    for place, budget in enumerate(budgets):
        if budget["per"] not in USD_PERIODS:
            raise InvalidRequest(f"The field 'budgets[{place}].per' must be one of {', '.join(USD_PERIODS)}.")
        if not _AMOUNT.fullmatch(budget["usd"]) or not 0 < Decimal(budget["usd"]) <= MOST_USD:
            raise InvalidRequest(
                f"The field 'budgets[{place}].usd' must be a text such as \"100.00\", above 0 and at most {MOST_USD}, "
                f"with at most {MOST_DECIMALS} decimals."
            )
    _refuse_same("budgets", "period", [budget["per"] for budget in budgets])


def _refuse_same(field: str, what: str, kinds: Sequence[str]) -> None:
    for place, kind in enumerate(kinds):
        first = kinds.index(kind)
        if first < place:
            raise InvalidRequest(
                f"The field '{field}[{place}]' is for the same {what} as '{field}[{first}]': leave one out."
            )


def _counted(window: RateLimit) -> Iterator[tuple[str, int]]:
    for counted in _COUNTED:
        if counted in window:
            yield counted, window[counted]  # type: ignore[literal-required]


def _units(usd: str) -> int:
    return int(Decimal(usd) * 10**MOST_DECIMALS)
