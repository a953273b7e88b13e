import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stores.limits_model import period_of

from store.clock import DAY, HOUR, SECOND, from_rfc3339
from store.limits.budget import USD_PERIODS, Budget

NOON = from_rfc3339("2028-02-29T12:00:00Z")
"""A Tuesday, the last day of its month."""


@pytest.mark.parametrize(
    ("per", "now", "begins", "ends"),
    [
        ("day", "2028-02-29T23:59:59.999999Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("day", "2028-03-01T00:00:00Z", "2028-03-01T00:00:00Z", "2028-03-02T00:00:00Z"),
        ("week", "2028-02-28T00:00:00Z", "2028-02-28T00:00:00Z", "2028-03-06T00:00:00Z"),
        ("week", "2028-02-27T23:59:59.999999Z", "2028-02-21T00:00:00Z", "2028-02-28T00:00:00Z"),
        ("week", "2027-01-01T05:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
        ("month", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("month", "2027-12-31T23:59:59.999999Z", "2027-12-01T00:00:00Z", "2028-01-01T00:00:00Z"),
        ("month", "2027-01-31T00:00:00Z", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        ("total", "2028-02-29T12:00:00Z", "1970-01-01T00:00:00Z", None),
    ],
)
def test_a_period_begins_and_ends_at_midnight_utc(per: str, now: str, begins: str, ends: str | None) -> None:
    budget = Budget.begin(per, 1, from_rfc3339(now))
    assert budget.since == from_rfc3339(begins)
    assert budget.resets_at() == (None if ends is None else from_rfc3339(ends))


@given(per=st.sampled_from([*USD_PERIODS]), now=st.integers(0, 4_000_000_000 * SECOND))
def test_a_time_is_in_its_period_and_the_next_one_begins_where_it_ends(per: str, now: int) -> None:
    budget = Budget.begin(per, 1, now)
    begins, ends = period_of(per, now)
    assert (budget.since, budget.resets_at()) == (begins, ends)
    assert budget.is_of(now)
    assert budget.is_of(begins)
    if ends is not None:
        assert not budget.is_of(ends)
        assert budget.is_of(ends - 1)
        assert Budget.begin(per, 1, ends).since == ends


def test_what_fits_is_what_is_left_beside_the_settled_and_the_reserved() -> None:
    budget = Budget("day", 10, NOON // DAY * DAY, settled=3, reserved=4)
    assert (budget.remaining, budget.has_room(3), budget.has_room(4)) == (3, True, False)
    assert (budget.could_have_room(7), budget.could_have_room(8)) == (True, False)
    budget.maximum = 5
    assert (budget.remaining, budget.has_room(0)) == (0, False)


def test_a_new_period_begins_with_nothing() -> None:
    budget = Budget("day", 10, NOON // DAY * DAY, settled=3, reserved=4)
    budget.advance(NOON + 11 * HOUR)
    assert (budget.settled, budget.reserved) == (3, 4)
    budget.advance(NOON + 12 * HOUR)
    assert (budget.since, budget.settled, budget.reserved) == (NOON + 12 * HOUR, 0, 0)


def test_a_clock_that_steps_back_brings_no_period_back() -> None:
    budget = Budget("day", 10, NOON // DAY * DAY, settled=3, reserved=4)
    budget.advance(NOON - DAY)
    assert (budget.since, budget.settled, budget.reserved) == (NOON // DAY * DAY, 3, 4)


def test_a_request_of_the_last_period_changes_nothing_in_this_one() -> None:
    budget = Budget("day", 10, NOON // DAY * DAY, settled=3, reserved=4)
    budget.settle(NOON - DAY, 100)
    assert (budget.settled, budget.reserved) == (3, 4)
    budget.settle(NOON, 2)
    assert (budget.settled, budget.reserved) == (5, 4)


def test_a_request_of_a_later_period_begins_that() -> None:
    budget = Budget("day", 10, NOON // DAY * DAY, settled=3, reserved=4)
    budget.settle(NOON + DAY, 2)
    assert (budget.since, budget.settled, budget.reserved) == ((NOON + DAY) // DAY * DAY, 2, 0)


def test_no_sum_falls_below_0_or_beyond_the_column() -> None:
    budget = Budget("total", 10, 0, settled=3, reserved=4)
    budget.settle(NOON, -4)
    assert budget.settled == 0
    for _ in range(3):
        budget.settle(NOON, 2**62)
    assert budget.settled < 2**63
