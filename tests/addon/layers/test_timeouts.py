import time

import pytest

from addon.layers.timeouts import Deadlines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_passed_deadline_is_popped_once(clock: list[float]) -> None:
    deadlines: Deadlines[str] = Deadlines(10)
    assert deadlines.next_end() is None
    deadlines.start("a")
    clock[0] += 5
    deadlines.start("b")
    assert deadlines.next_end() == 110
    assert deadlines.pop_late() == []
    clock[0] = 110
    assert deadlines.pop_late() == ["a"]
    assert deadlines.pop_late() == []
    assert ("a" in deadlines, "b" in deadlines) == (False, True)


def test_a_stopped_deadline_is_never_late(clock: list[float]) -> None:
    deadlines: Deadlines[str] = Deadlines(10)
    deadlines.start("a")
    deadlines.stop("a")
    deadlines.stop("never started")
    clock[0] += 20
    assert deadlines.pop_late() == []


def test_a_second_start_begins_the_time_again(clock: list[float]) -> None:
    deadlines: Deadlines[str] = Deadlines(10)
    deadlines.start("a")
    clock[0] += 9
    deadlines.start("a")
    clock[0] += 9
    assert deadlines.pop_late() == []
