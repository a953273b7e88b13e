import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.clock import DAY, HOUR
from store.ledger.rollups import Table
from store.reports.time_ranges import FROM_DAYS, FROM_HOURS, TimeRange, divide

MIDNIGHT = 20_000 * DAY
DAYS, HOURS, ROWS = Table.DAYS, Table.HOURS, Table.ROWS


def everything(_whole: TimeRange, _finer: Table) -> bool:
    return True


def days_alone(_whole: TimeRange, finer: Table) -> bool:
    return finer is not HOURS


def hours_alone(_whole: TimeRange, finer: Table) -> bool:
    return finer is not ROWS


def divided(
    start: int,
    end: int,
    is_kept: Callable[[TimeRange, Table], bool] = everything,
    tables: tuple[Table, ...] = FROM_DAYS,
) -> list[tuple[Table, int, int]]:
    """Divide a time; all counts from the midnight."""
    ranges = divide(MIDNIGHT + start, MIDNIGHT + end, tables, is_kept)
    return [(table, begin - MIDNIGHT, stop - MIDNIGHT) for table, begin, stop in ranges]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 0, []),
        (5, 2, []),
        (0, DAY, [(DAYS, 0, DAY)]),
        (0, 3 * DAY, [(DAYS, 0, 3 * DAY)]),
        (HOUR, 2 * HOUR, [(HOURS, HOUR, 2 * HOUR)]),
        (1, 2, [(ROWS, 1, 2)]),
        (HOUR - 1, HOUR + 1, [(ROWS, HOUR - 1, HOUR), (ROWS, HOUR, HOUR + 1)]),
        (DAY - 1, DAY + 1, [(ROWS, DAY - 1, DAY), (ROWS, DAY, DAY + 1)]),
        (
            DAY - HOUR - 7,
            2 * DAY + HOUR + 7,
            [
                (ROWS, DAY - HOUR - 7, DAY - HOUR),
                (HOURS, DAY - HOUR, DAY),
                (DAYS, DAY, 2 * DAY),
                (HOURS, 2 * DAY, 2 * DAY + HOUR),
                (ROWS, 2 * DAY + HOUR, 2 * DAY + HOUR + 7),
            ],
        ),
    ],
)
def test_each_part_is_read_from_the_coarsest_table(start: int, end: int, expected: list[object]) -> None:
    assert divided(start, end) == expected


def test_an_edge_is_widened_to_the_sums_that_are_kept() -> None:
    assert divided(HOUR, 2 * HOUR, days_alone) == [(DAYS, 0, DAY)]
    assert divided(HOUR, DAY + 1, days_alone) == [(DAYS, 0, DAY), (DAYS, DAY, 2 * DAY)]
    assert divided(7, HOUR + 7, hours_alone) == [(HOURS, 0, HOUR), (HOURS, HOUR, 2 * HOUR)]
    assert divided(7, 8, hours_alone, FROM_HOURS) == [(HOURS, 0, HOUR)]


def test_hours_may_be_the_coarsest() -> None:
    assert divided(0, 2 * DAY, tables=FROM_HOURS) == [(HOURS, 0, 2 * DAY)]


times = st.builds(lambda days, hours, rest: days * DAY + hours * HOUR + rest, *[st.integers(-2, 2)] * 3)


@settings(max_examples=200)
@given(times, times, st.sampled_from([everything, days_alone, hours_alone]))
def test_parts_join_without_gaps_and_never_overlap(
    start: int, end: int, is_kept: Callable[[TimeRange, Table], bool]
) -> None:
    parts = divided(start, end, is_kept)
    assert bool(parts) == (start < end)
    for (_, _, ends), (_, begins, _) in itertools.pairwise(parts):
        assert ends == begins
    if parts:
        assert parts[0][1] <= start
        assert parts[-1][2] >= end
        if is_kept is everything:
            assert (parts[0][1], parts[-1][2]) == (start, end)
