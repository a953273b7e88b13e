"""The limits of tokens and projects: each kind has a file of its own, and a place in `limits_of`."""

from collections.abc import Sequence

from store.admission.limits.budgets import UsdInPeriod
from store.admission.limits.headroom import Headroom, OwnHeadroom
from store.admission.limits.limit import Asked, Limit, Reserving, first_refusal, left_of, reserved
from store.admission.limits.parallel import MaxParallel
from store.admission.limits.requests import MaxRequests
from store.admission.limits.windows import InWindow, RequestsInWindow, TokensInWindow, tightest
from store.limits.balance import PLACES, Balance
from store.limits.budget import Budget
from store.limits.window import Window

__all__ = [
    "Asked",
    "Headroom",
    "InWindow",
    "Limit",
    "MaxParallel",
    "MaxRequests",
    "OwnHeadroom",
    "RequestsInWindow",
    "Reserving",
    "TokensInWindow",
    "UsdInPeriod",
    "first_refusal",
    "left_of",
    "limits_of",
    "reserved",
    "tightest",
]


def limits_of(
    max_requests: MaxRequests, own: Sequence[Balance], of_project: Sequence[Balance], now: int
) -> list[Limit]:
    """Return the limits of a token in the order in which they are tested: the first one that refuses is reported.

    `own` are the balances of the token, `of_project` those of its project, which all of its tokens share.
    """
    if not own and not of_project:
        return [max_requests]
    balances = [("token", balance) for balance in own] + [("project", balance) for balance in of_project]
    balances.sort(key=lambda owned: PLACES[owned[1].kind])
    return [max_requests, *(_limit(balance, owner, now) for owner, balance in balances)]


def _limit(balance: Balance, owner: str, now: int) -> Limit:
    match balance.state:
        case Budget() as budget:
            return UsdInPeriod(balance, budget, owner, now)
        case Window() as window:
            kind = RequestsInWindow if balance.counted == "requests" else TokensInWindow
            return kind(balance, window, owner, now)
    return MaxParallel(balance, owner)
