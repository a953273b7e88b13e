import logging

import pytest

from store.admission import notes
from store.admission.notes import BATCH, FEW, Notes


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(notes, "time", clock)
    return clock


def left(count: int) -> Notes[int]:
    kept: Notes[int] = Notes()
    for number in range(count):
        kept.leave(number)
    return kept


def test_what_is_left_is_taken_in_once(clock: Clock) -> None:
    kept = left(2)
    assert kept.have_arrived
    assert (len(kept), kept.due) == (0, None)
    kept.take_in()
    assert not kept.have_arrived
    assert (len(kept), kept.due) == (2, clock.now + notes.NOTE_DELAY)


def test_a_few_wait_until_they_are_due_and_many_do_not(clock: Clock) -> None:
    few, many = left(FEW - 1), left(FEW)
    few.take_in()
    many.take_in()
    assert few.next(alone=False) == []
    assert few.next(alone=True) == list(range(FEW - 1))
    assert many.next(alone=False) == list(range(FEW))
    clock.now += notes.NOTE_DELAY
    assert few.next(alone=False) == list(range(FEW - 1))


@pytest.mark.usefixtures("clock")
def test_they_are_written_in_their_order_a_batch_at_a_time() -> None:
    kept = left(BATCH + 2)
    kept.take_in()
    kept.forget(kept.next(alone=False))
    assert kept.next(alone=True) == [BATCH, BATCH + 1]


def test_those_that_failed_are_tried_again_later_alone_and_until_then_no_others(clock: Clock) -> None:
    kept = left(FEW)
    kept.take_in()
    kept.postpone()
    kept.leave(FEW)
    kept.take_in()
    assert kept.have_failed
    assert not kept.are_due_again
    assert kept.next(alone=False) == kept.next(alone=True) == []
    clock.now += notes.RETRY_DELAY
    assert kept.are_due_again
    assert kept.next(alone=False) == []
    again = kept.next(alone=True)
    assert again == list(range(FEW + 1))
    kept.forget(again)
    assert (len(kept), kept.have_failed, kept.due) == (0, False, None)


@pytest.mark.usefixtures("clock")
def test_at_the_end_they_need_not_wait() -> None:
    kept = left(1)
    kept.take_in()
    kept.postpone()
    kept.hurry()
    assert kept.next(alone=True) == [0]


@pytest.mark.usefixtures("clock")
def test_of_too_many_the_oldest_are_dropped_which_is_told_when_the_store_works_again(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(notes, "CAPACITY", 2)
    kept = left(5)
    kept.take_in()
    written = kept.next(alone=True)
    assert written == [3, 4]
    assert not caplog.records
    kept.forget(written)
    kept.forget([])
    (record,) = caplog.records
    assert (record.levelno, vars(record)["notes"]) == (logging.ERROR, 3)
