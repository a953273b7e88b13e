import os
import threading

import pytest

from store.admission.same_processor import SameProcessor

PROCESSORS = sorted(os.sched_getaffinity(0))


def in_a_thread(same: SameProcessor, *times: bool) -> set[int]:
    """Follow so many times in another thread, busy or not, and return the processors on which that may run then."""
    found: list[set[int]] = []

    def run() -> None:
        for is_busy in times:
            same.follow(is_busy=is_busy)
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("processor", {PROCESSORS[0], PROCESSORS[-1]})
def test_a_busy_writer_runs_where_the_event_loop_runs(processor: int) -> None:
    same = SameProcessor()
    os.sched_setaffinity(0, {processor})
    try:
        same.note()
    finally:
        os.sched_setaffinity(0, PROCESSORS)
    assert in_a_thread(same, False, True) == {processor}
    assert in_a_thread(same, True, False) == {*PROCESSORS}
    assert os.sched_getaffinity(0) == {*PROCESSORS}


def test_it_runs_anywhere_until_the_event_loop_has_run() -> None:
    assert in_a_thread(SameProcessor(), True) == {*PROCESSORS}


def test_it_runs_anywhere_where_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def refuse(*_: object) -> None:
        tries.append(1)
        raise PermissionError

    same = SameProcessor()
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    for _ in range(2):
        same.note()
        assert in_a_thread(same, True, False, True) == {*PROCESSORS}
    assert len(tries) == 1


def test_it_runs_anywhere_where_the_system_has_no_such_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    same = SameProcessor()
    same.note()
    assert in_a_thread(same, True) == {*PROCESSORS}
