import asyncio
from collections.abc import Iterator

import pytest
from support.stores.stores import changed, foreign_lock, make_token, opened, opening

from store.admission.admission import Admission
from store.database.models import Instance, Request
from store.ledger import instances
from store.ledger.instances import CHUNK, HEARTBEAT, LEASE, Watch
from store.ledger.ledger import Ledger
from store.ledger.usage import Source
from store.runtime.settings import Settings
from store.store import Store


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def watched(watch: Watch, clock: Clock, seconds: float) -> list[str]:
    """Watch for a while, as housekeeping does, and return the instances that are dead in the end."""
    gone = watch.gone()
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(clock.now + HEARTBEAT, end)
        gone = watch.gone()
    return gone


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(instances, "time", clock)
    return clock


@pytest.fixture
def watch(store: Store, clock: Clock) -> Watch:
    del clock
    return Watch(store.database)


@pytest.fixture
def admission(store: Store) -> Iterator[Admission]:
    admission = Admission(store)
    yield admission
    admission.close()


def admit(store: Store, admission: Admission, number: int = 1) -> None:
    token = make_token(store)

    async def all_at_once() -> None:
        await asyncio.gather(*(admission.admit(token.value, opening()) for _ in range(number)))

    asyncio.run(all_at_once())


def sources(store: Store) -> list[str | None]:
    with store.database.read():
        return [row.usage_source for row in Request.select()]


def test_process_with_heartbeats_is_alive(store: Store, watch: Watch, clock: Clock) -> None:
    for _ in range(10):
        instances.beat(store.database, "alive")
        assert watch.gone() == []
        clock.now += LEASE - 1


def test_process_without_heartbeats_is_dead_after_its_lease(store: Store, watch: Watch, clock: Clock) -> None:
    instances.beat(store.database, "dead")
    assert watched(watch, clock, LEASE - 0.1) == []
    assert watched(watch, clock, 0.1) == ["dead"]
    instances.beat(store.database, "dead")
    assert watch.gone() == []


def test_time_without_watching_does_not_count(store: Store, watch: Watch, clock: Clock) -> None:
    instances.beat(store.database, "silent")
    assert watched(watch, clock, LEASE - 1) == []
    watch.restart()
    assert watched(watch, clock, LEASE - 1) == []


def test_time_in_which_the_watcher_stood_still_does_not_count(store: Store, watch: Watch, clock: Clock) -> None:
    instances.beat(store.database, "other")
    assert watched(watch, clock, LEASE - 1) == []
    clock.now += 10 * LEASE
    assert watch.gone() == []
    assert watched(watch, clock, LEASE) == ["other"]


def test_process_with_open_requests_and_no_heartbeat_is_watched(
    store: Store, admission: Admission, watch: Watch, clock: Clock
) -> None:
    admit(store, admission)
    assert watched(watch, clock, LEASE) == [admission.instance_id]
    instances.beat(store.database, admission.instance_id)
    assert watch.gone() == []


def test_open_requests_of_a_dead_process_are_settled_and_its_row_deleted(store: Store, admission: Admission) -> None:
    instances.beat(store.database, admission.instance_id)
    instances.beat(store.database, "another")
    admit(store, admission, CHUNK + 3)
    assert instances.settle_left(store.database, Ledger(store.database), "another") == 0
    assert set(sources(store)) == {None}
    assert instances.settle_left(store.database, Ledger(store.database), admission.instance_id) == CHUNK + 3
    assert set(sources(store)) == {Source.UNKNOWN}
    with store.database.read():
        assert list(Instance.select()) == []


def test_clean_end_leaves_nothing_open(store: Store) -> None:
    admission = Admission(store)
    instances.beat(store.database, admission.instance_id)
    admit(store, admission)
    admission.close()
    assert sources(store) == [Source.UNKNOWN]
    with store.database.read():
        assert list(Instance.select()) == []


def test_end_while_the_store_is_locked_leaves_open_requests_to_other_processes(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(changed(settings, store_timeout=0.1)) as store:
        admission = Admission(store)
        admit(store, admission)
        with foreign_lock(store):
            admission.close()
        assert "left to other processes" in caplog.text
        assert sources(store) == [None]
