import pytest
from support.stores.stores import opening

from store.admission.limits import (
    Asked,
    MaxRequests,
    RequestsInWindow,
    first_refusal,
    limits_of,
    tightest,
)
from store.clock import MINUTE, SECOND
from store.errors import QuotaExhausted, RateLimited, TooManyParallel
from store.limits.balance import Balance
from store.limits.window import Standing, Window

NOW = 20_000 * 24 * 60 * MINUTE


def balance(owner: str, kind: str, maximum: int, used: int = 0) -> Balance:
    made = Balance.begin(owner, kind, maximum, NOW)
    if isinstance(made.state, Window):
        made.state.add(used)
    else:
        made.used = used
    return made


def test_the_first_limit_that_refuses_is_told_and_the_longest_wait() -> None:
    own = [balance("token", "requests/second", 1, 1), balance("token", "parallel", 1, 1)]
    of_project = [balance("project", "requests/minute", 5, 5)]
    limits = limits_of(MaxRequests(0, 0), own, of_project, NOW)
    refusal = first_refusal(limits, Asked(opening(), NOW))
    assert isinstance(refusal, RateLimited)
    assert refusal.message.startswith("The project may make 5 requests a minute, and has made them.")
    assert refusal.window == Standing(5, 0, 61 * SECOND)
    assert refusal.headers == {"retry-after-ms": "61000", "Retry-After": "61"}


@pytest.mark.parametrize(
    ("count", "second", "parallel", "expected"),
    [(3, 1, 1, QuotaExhausted), (0, 1, 1, RateLimited), (0, 0, 1, TooManyParallel), (0, 0, 0, None)],
)
def test_limits_are_tested_in_their_order(count: int, second: int, parallel: int, expected: type | None) -> None:
    own = [balance("token", "parallel", 1, parallel), balance("token", "requests/second", 1, second)]
    refusal = first_refusal(limits_of(MaxRequests(count, 3), own, [], NOW), Asked(opening(), NOW))
    assert refusal is None if expected is None else type(refusal) is expected


def test_a_refusal_of_slots_names_whose_they_are() -> None:
    of_project = [balance("project", "parallel", 2, 3)]
    refusal = first_refusal(limits_of(MaxRequests(0, 0), [], of_project, NOW), Asked(opening(), NOW))
    assert isinstance(refusal, TooManyParallel)
    assert "The project may make 2 requests at once, and 3 are under way." in refusal.message
    assert refusal.headers == {"Retry-After": "1"}


def test_a_wait_is_told_in_whole_milliseconds_and_seconds_that_are_not_too_early() -> None:
    own = [balance("token", "requests/second", 1, 1)]
    refusal = first_refusal(limits_of(MaxRequests(0, 0), own, [], NOW + 1), Asked(opening(), NOW))
    assert refusal is not None
    assert refusal.headers == {"retry-after-ms": "1017", "Retry-After": "2"}  # a second, and one of its 60 parts


def test_the_window_with_the_fewest_requests_left_is_shown() -> None:
    balances = [balance("token", "requests/minute", 10, 4), balance("token", "requests/day", 100, 99)]
    limits = limits_of(MaxRequests(0, 0), balances, [], NOW)
    windows = [limit for limit in limits if isinstance(limit, RequestsInWindow)]
    assert tightest(windows) == Standing(100, 1, 61 * 24 * MINUTE)
