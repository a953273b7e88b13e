"""Windows: exact, and not too strict."""

import copy
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.clock import MINUTE, SECOND
from store.limits.window import PARTS, PERIODS, Standing, Window

START = 1_795_000_000_123_457

LENGTHS = st.sampled_from([*PERIODS.values()])
MAXIMA = st.integers(1, 12)
STEPS = st.lists(st.floats(0, 3), min_size=1, max_size=80)
"""The times from one request to the next, as shares of a window's length divided by its limit."""


@given(LENGTHS, MAXIMA, STEPS, st.integers(0, SECOND))
def test_no_interval_of_its_length_has_more_than_the_limit(
    length: int, maximum: int, steps: list[float], offset: int
) -> None:
    now = START + offset
    admitted: list[int] = []
    window = Window.empty(length, maximum, now)
    for step in steps:
        now += round(step * length / maximum)
        window.advance(now)
        if window.has_room_at() == 0:
            window.add()
            admitted.append(now)
    assert all(later - earlier >= length for earlier, later in zip(admitted, admitted[maximum:], strict=False))


@given(LENGTHS, MAXIMA, STEPS)
def test_a_request_is_let_in_when_it_was_told_to_come_and_not_before(
    length: int, maximum: int, steps: list[float]
) -> None:
    now = START
    window = Window.empty(length, maximum, now)
    admitted: list[int] = []
    for step in steps:
        now += round(step * length / maximum)
        window.advance(now)
        passes_at = window.has_room_at()
        if passes_at:
            assert passes_at <= admitted[-maximum] + length + -(-length // PARTS) + 1  # a part too late, at most
            before, then = copy.deepcopy(window), copy.deepcopy(window)
            before.advance(passes_at - 1)
            then.advance(passes_at)
            assert before.has_room_at() == passes_at
            assert then.has_room_at() == 0
        else:
            window.add()
            admitted.append(now)


@pytest.mark.parametrize("length", PERIODS.values())
@pytest.mark.parametrize("maximum", [1, 2, 3, 7, 20, 60, 61, 100, 1000])
def test_equal_distances_at_95_per_cent_of_the_limit_are_never_refused(length: int, maximum: int) -> None:
    window = Window.empty(length, maximum, START)
    for number in range(5 * maximum + 100):
        window.advance(START + int(number * length / maximum / 0.95))
        assert window.has_room_at() == 0
        window.add()


@given(LENGTHS, st.integers(1, 10**12), st.lists(st.integers(0, 10**12), min_size=61, max_size=61))
def test_a_window_is_read_as_it_was_written(length: int, maximum: int, counts: list[int]) -> None:
    window = Window(length, maximum, 7, tuple(counts[:-1]), counts[-1])
    assert Window.read(length, maximum, 7, window.written) == window


def test_a_lower_limit_counts_what_was_admitted_before() -> None:
    window = Window.empty(MINUTE, 10, START)
    for second in range(10):
        window.advance(START + second * SECOND)
        window.add()
    lower = Window.read(MINUTE, 3, window.newest, window.written)
    assert (lower.used, lower.remaining) == (10, 0)
    passes_at = lower.has_room_at()
    lower.advance(passes_at)
    assert (lower.used, lower.has_room_at()) == (2, 0)


def test_a_clock_that_steps_back_forgets_nothing() -> None:
    window = Window.empty(MINUTE, 2, START)
    window.add()
    window.advance(START - MINUTE)
    window.add()
    assert window.has_room_at() > START


def test_a_request_is_taken_back_where_it_was_counted() -> None:
    window = Window.empty(MINUTE, 5, START)
    window.add()
    window.advance(START + 30 * SECOND)
    window.add()
    window.take_back(START)
    window.take_back(START)  # nothing counts there any more
    window.take_back(START - 2 * MINUTE)
    assert [count for count in (*window.older, window.current) if count] == [1]
    window.advance(START + 61 * SECOND)
    assert window.used == 1


def test_the_standing_tells_when_all_is_forgotten() -> None:
    now = 120 * SECOND
    window = Window.empty(MINUTE, 5, now)
    assert window.standing(now) == Standing(5, 5, 0)
    window.add()
    window.advance(now + 10 * SECOND)
    window.add()
    assert window.standing(now + 10 * SECOND) == Standing(5, 3, 61 * SECOND)
    times = itertools.count(now, SECOND // 2)
    empty_at = window.is_empty_at()
    for moment in itertools.takewhile(lambda moment: moment < empty_at, times):
        window.advance(moment)
        assert window.used
    window.advance(empty_at)
    assert (window.used, window.is_empty_at()) == (0, 0)
