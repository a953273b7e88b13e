import logging

import pytest

from store.admission import write_behind
from store.admission.write_behind import BATCH, FEW, WriteBehind


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(write_behind, "time", clock)
    return clock


def enqueued(count: int) -> WriteBehind[int]:
    entries: WriteBehind[int] = WriteBehind()
    for number in range(count):
        entries.enqueue(number)
    return entries


def test_what_is_enqueued_is_taken_in_once(clock: Clock) -> None:
    entries = enqueued(2)
    assert entries.have_arrived
    assert (len(entries), entries.due) == (0, None)
    entries.take_in()
    assert not entries.have_arrived
    assert (len(entries), entries.due) == (2, clock.now + write_behind.FLUSH_DELAY)


def test_few_entries_wait_until_they_are_due_and_many_do_not(clock: Clock) -> None:
    few, many = enqueued(FEW - 1), enqueued(FEW)
    few.take_in()
    many.take_in()
    assert few.next(alone=False) == []
    assert few.next(alone=True) == list(range(FEW - 1))
    assert many.next(alone=False) == list(range(FEW))
    clock.now += write_behind.FLUSH_DELAY
    assert few.next(alone=False) == list(range(FEW - 1))


@pytest.mark.usefixtures("clock")
def test_entries_are_written_in_order_a_batch_at_a_time() -> None:
    entries = enqueued(BATCH + 2)
    entries.take_in()
    entries.forget(entries.next(alone=False))
    assert entries.next(alone=True) == [BATCH, BATCH + 1]


def test_failed_entries_are_retried_later_alone_and_before_any_others(clock: Clock) -> None:
    entries = enqueued(FEW)
    entries.take_in()
    entries.postpone()
    entries.enqueue(FEW)
    entries.take_in()
    assert entries.have_failed
    assert not entries.is_retry_due
    assert entries.next(alone=False) == entries.next(alone=True) == []
    clock.now += write_behind.RETRY_DELAY
    assert entries.is_retry_due
    assert entries.next(alone=False) == []
    again = entries.next(alone=True)
    assert again == list(range(FEW + 1))
    entries.forget(again)
    assert (len(entries), entries.have_failed, entries.due) == (0, False, None)


@pytest.mark.usefixtures("clock")
def test_hurried_entries_do_not_wait() -> None:
    entries = enqueued(1)
    entries.take_in()
    entries.postpone()
    entries.hurry()
    assert entries.next(alone=True) == [0]


@pytest.mark.usefixtures("clock")
def test_beyond_the_capacity_the_oldest_are_dropped_and_logged_once_the_store_works_again(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(write_behind, "CAPACITY", 2)
    entries = enqueued(5)
    entries.take_in()
    written = entries.next(alone=True)
    assert written == [3, 4]
    assert not caplog.records
    entries.forget(written)
    entries.forget([])
    (record,) = caplog.records
    assert (record.levelno, vars(record)["entries"]) == (logging.ERROR, 3)
