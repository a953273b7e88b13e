import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.gateway.processes import wait_until

from store.errors import StoreUnavailable
from store.reports import renewed
from store.reports.renewed import KEPT, LONG, LONGEST_KEPT, RENEWAL, RETRY, WANTED, Renewal, Renewed
from store.store import Store


class Clock:
    """A clock that stands still, and a value that takes some of its time to read: how often it was read."""

    def __init__(self, takes: float) -> None:
        self.now = 1000.0
        self.takes = takes
        self.reads = 0
        self.error: Exception | None = None
        self.value = Renewed(self.read, lambda: self.now)

    def read(self) -> int:
        self.now += self.takes
        if self.error is not None:
            raise self.error
        self.reads += 1
        return self.reads


def test_a_value_is_kept_in_proportion_to_the_time_that_it_took() -> None:
    clock = Clock(LONG / 2)
    assert (clock.value.get(), clock.value.get()) == (1, 1)
    clock.now += KEPT * LONG / 2 - LONG / 4
    assert clock.value.get() == 1
    clock.now += LONG / 2
    assert clock.value.get() == 2


def test_a_value_that_takes_no_time_is_read_for_each_reader() -> None:
    clock = Clock(0)
    assert clock.value.renew()
    assert (clock.value.get(), clock.value.get()) == (2, 3)
    assert not clock.value.renew()


def test_a_value_that_takes_long_is_there_for_its_first_reader() -> None:
    clock = Clock(2 * LONG)
    assert clock.value.renew()
    assert clock.value.get() == 1
    assert not clock.value.renew()


def test_the_first_readers_wait_for_the_value_that_is_made() -> None:
    reading, go_on = threading.Event(), threading.Event()
    now, reads = [0.0], [0]

    def read() -> int:
        now[0] += 2 * LONG
        reads[0] += 1
        reading.set()
        assert go_on.wait(30)
        return reads[0]

    value = Renewed(read, lambda: now[0])
    renewing = threading.Thread(target=value.renew)
    renewing.start()
    assert reading.wait(30)
    with ThreadPoolExecutor(2) as readers:
        waiting = [readers.submit(value.get) for _ in range(2)]
        go_on.set()
        assert [one.result(30) for one in waiting] == [1, 1]
    renewing.join()


def test_a_value_that_takes_long_is_renewed_when_it_is_not_up_to_date() -> None:
    clock = Clock(10 * LONGEST_KEPT)
    assert clock.value.get() == 1
    clock.now += LONGEST_KEPT - 1
    assert not clock.value.renew()
    clock.now += 1
    assert clock.value.get() == 1  # it is shown for a while
    assert clock.value.renew()
    assert clock.value.get() == 2


def test_a_value_that_is_not_renewed_is_read_for_its_reader() -> None:
    clock = Clock(10 * LONGEST_KEPT)
    assert clock.value.get() == 1
    clock.now += LONGEST_KEPT + RENEWAL - 1
    assert clock.value.get() == 1
    clock.now += 1
    assert clock.value.get() == 2


def test_a_value_that_none_has_read_for_long_is_not_renewed() -> None:
    clock = Clock(2 * LONG)
    clock.value.get()
    clock.now += WANTED
    assert not clock.value.renew()
    assert clock.value.get() == 2
    clock.now += LONGEST_KEPT
    assert clock.value.renew()


def test_after_a_failure_it_is_tried_again_later() -> None:
    clock = Clock(2 * LONG)
    clock.error = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        clock.value.renew()
    clock.error = None
    assert not clock.value.renew()
    clock.now += RETRY
    assert clock.value.renew()
    assert clock.value.get() == 1


def test_readers_get_the_value_from_before_while_it_is_renewed() -> None:
    reading, go_on = threading.Event(), threading.Event()
    now, reads = [0.0], [0]

    def read() -> int:
        now[0] += 2 * LONG
        reads[0] += 1
        if reads[0] > 1:
            reading.set()
            assert go_on.wait(30)
        return reads[0]

    value = Renewed(read, lambda: now[0])
    value.get()
    now[0] += KEPT * 2 * LONG
    thread = threading.Thread(target=value.renew)
    thread.start()
    assert reading.wait(30)
    assert value.get() == 1
    go_on.set()
    thread.join()
    assert value.get() == 2


def test_a_reader_that_made_a_newer_value_is_not_overruled() -> None:
    clock = Clock(2 * LONG)
    assert clock.value.get() == 1
    clock.now += LONGEST_KEPT

    def read() -> str:
        clock.value._read = clock.read  # noqa: SLF001 - a reader comes meanwhile
        clock.now += RENEWAL
        assert clock.value.get() == 2
        return "old"

    clock.value._read = read  # type: ignore[assignment] # noqa: SLF001
    assert clock.value.renew()
    assert clock.value.get() == 2


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewed, "TURN", 0.001)
    monkeypatch.setattr(renewed, "MOMENT", 30)


@pytest.mark.usefixtures("hasty")
def test_the_thread_renews_all_values_though_one_fails(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    down, broken, well = Clock(0), Clock(0), Clock(2 * LONG)
    down.error, broken.error = StoreUnavailable(), ValueError("broken")
    renewal = Renewal(store.database, [down.value, broken.value, well.value])
    wait_until(lambda: well.reads == 1)
    renewal.close()
    assert well.value.get() == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


@pytest.mark.usefixtures("hasty")
def test_the_end_does_not_wait_for_a_value(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def read() -> int:
        reading.set()
        assert go_on.wait(30)
        return 1

    renewal = Renewal(store.database, [Renewed(read)])
    assert reading.wait(30)
    monkeypatch.setattr(renewed, "MOMENT", 0.001)
    renewal.close()
    assert not go_on.is_set()
    go_on.set()
    monkeypatch.setattr(renewed, "MOMENT", 30)
    renewal.close()
