import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import clock


def test_now_is_the_time_in_microseconds() -> None:
    before = time.time()
    now = clock.now() / clock.SECOND
    assert before - 0.001 <= now <= time.time() + 0.001


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (999_999, "1970-01-01T00:00:00Z"),
        (1_700_000_000 * clock.SECOND, "2023-11-14T22:13:20Z"),
        (clock.NEVER, "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_written_in_utc_and_whole_seconds(microseconds: int, text: str) -> None:
    assert clock.to_rfc3339(microseconds) == text


@given(st.integers(0, clock.NEVER), st.integers(0, clock.NEVER))
def test_written_times_sort_as_the_times_do(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert clock.to_rfc3339(earlier) <= clock.to_rfc3339(later)
