import time

import pytest

from addon.layers.deadlines import Deadlines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_does_not_happen_in_time_is_late_once(clock: list[float]) -> None:
    waited_for: Deadlines[str] = Deadlines(10)
    assert waited_for.next_end() is None
    waited_for.start("a")
    clock[0] += 5
    waited_for.start("b")
    assert waited_for.next_end() == 110
    assert waited_for.take_late() == []
    clock[0] = 110
    assert waited_for.take_late() == ["a"]
    assert waited_for.take_late() == []
    assert ("a" in waited_for, "b" in waited_for) == (False, True)


def test_what_happens_is_waited_for_no_more(clock: list[float]) -> None:
    waited_for: Deadlines[str] = Deadlines(10)
    waited_for.start("a")
    waited_for.stop("a")
    waited_for.stop("never started")
    clock[0] += 20
    assert waited_for.take_late() == []


def test_a_new_start_counts_anew(clock: list[float]) -> None:
    waited_for: Deadlines[str] = Deadlines(10)
    waited_for.start("a")
    clock[0] += 9
    waited_for.start("a")
    clock[0] += 9
    assert waited_for.take_late() == []
