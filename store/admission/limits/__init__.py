"""The limits on requests: each kind has a file of its own, and a place in `limits_of`."""

from collections.abc import Sequence

from store.admission.limits.limit import Limit, first_refusal
from store.admission.limits.parallel import MaxParallel
from store.admission.limits.requests import MaxRequests
from store.admission.limits.windows import RequestsInWindow, tightest
from store.limits.balance import Balance
from store.limits.window import PERIODS

__all__ = ["Limit", "MaxParallel", "MaxRequests", "first_refusal", "limits_of", "tightest"]


def limits_of(
    max_requests: MaxRequests, own: Sequence[Balance], of_project: Sequence[Balance], now: int
) -> list[Limit]:
    """Return the limits of a token in the order in which they are tested: the first one that refuses is reported.

    `own` are the balances of the token, `of_project` those of its project, which all of its tokens share.
    """
    if not own and not of_project:
        return [max_requests]
    balances = [("token", balance) for balance in own] + [("project", balance) for balance in of_project]
    windows = [
        RequestsInWindow(balance, balance.window, owner, now)
        for period in PERIODS
        for owner, balance in balances
        if balance.window is not None and balance.period == period
    ]
    parallel = [MaxParallel(balance, owner) for owner, balance in balances if balance.window is None]
    return [max_requests, *windows, *parallel]
