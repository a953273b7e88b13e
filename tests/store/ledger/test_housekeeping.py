import contextlib
from collections.abc import Iterator

import pytest
from support.gateway.processes import wait_until
from support.stores.stores import foreign_lock, on_sqlite, opening, path_of

from store import clock
from store.database.models import DailyUsage, HourlyUsage, Instance, Request
from store.ledger import housekeeping, instances, retention
from store.ledger.housekeeping import Housekeeping
from store.ledger.ledger import Ledger, Settlement
from store.metrics import process_figures
from store.metrics.figures import Figures
from store.metrics.process_figures import FiguresRow
from store.request import Opened
from store.store import Store

DAYS = 30


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "HEARTBEAT", 0.01)
    monkeypatch.setattr(instances, "LEASE", 0.1)
    monkeypatch.setattr(retention, "PAUSE", 0.001)
    monkeypatch.setattr(retention, "CHUNK", 3)


def mine() -> FiguresRow:
    return FiguresRow("mine", Figures())


@pytest.fixture
def keeping(store: Store) -> Iterator[Housekeeping]:
    keeping = Housekeeping(store, DAYS, mine())
    yield keeping
    keeping.close()


def add(store: Store, instance_id: str, *, days_ago: float = 0, settled: bool) -> str:
    request, ledger = opening(), Ledger(store.database)
    row = Opened(request.request_id, clock.now() - round(days_ago * clock.DAY), "project", "token", request.endpoint)
    with store.database.write():
        ledger.open(instance_id, [(request, row)])
        if settled:
            ledger.settle([Settlement(row)])
    return row.request_id


def beats(store: Store) -> dict[str, int]:
    with store.database.read():
        return {row.id: row.beats for row in Instance.select()}


def open_rows(store: Store) -> set[str]:
    with store.database.read():
        return {row.id for row in Request.select().where(Request.settled_at.is_null())}


def hours(store: Store) -> int:
    """Return the number of requests in the hourly sums."""
    with store.database.read():
        return sum(row.requests for row in HourlyUsage.select())


def test_heartbeats_are_sent(store: Store, keeping: Housekeeping) -> None:
    del keeping
    wait_until(lambda: beats(store).get("mine", 0) >= 2)


def test_figures_are_written_with_the_heartbeat(store: Store) -> None:
    figures = Figures()
    with contextlib.closing(Housekeeping(store, DAYS, FiguresRow("mine", figures))):
        figures.count("errors", "code")
        wait_until(lambda: counted_errors(store) == 1)
        figures.count("errors", "code")
        wait_until(lambda: counted_errors(store) == 2)


def counted_errors(store: Store) -> float:
    with store.database.read():
        counts = [snapshot.counts for _, snapshot in process_figures.read(store.database)]
    return sum(each.get("errors", {}).get("code", {}).get("", 0) for each in counts)


@on_sqlite
def test_database_is_tidied(store: Store, keeping: Housekeeping) -> None:
    del keeping
    add(store, "mine", settled=True)
    wait_until(lambda: b"/v1/chat/completions" in path_of(store).read_bytes())


def test_open_requests_of_dead_processes_are_settled_and_own_ones_are_not(store: Store, keeping: Housekeeping) -> None:
    del keeping
    mine = add(store, "mine", settled=False)
    add(store, "dead", settled=False)
    wait_until(lambda: open_rows(store) == {mine})
    seen = beats(store)["mine"]
    wait_until(lambda: beats(store)["mine"] > seen + 15)  # longer than a lease
    assert open_rows(store) == {mine}


def test_old_rows_are_deleted_then_hours_and_days_stay(store: Store) -> None:
    kept = [add(store, "mine", days_ago=age, settled=True) for age in (0, 1, DAYS - 0.001)]
    kept.append(add(store, "mine", days_ago=DAYS + 5, settled=False))
    for age in (DAYS + 1, DAYS + 1, DAYS + 2, DAYS + 40, retention.HOUR_DAYS - 0.001):
        add(store, "mine", days_ago=age, settled=True)
    for age in (1, 2, 2, 400):
        add(store, "mine", days_ago=retention.HOUR_DAYS + age, settled=True)
    keeping = Housekeeping(store, DAYS, mine())
    try:
        wait_until(lambda: Request.select().count() == len(kept) and hours(store) <= len(kept) - 1 + 5)
    finally:
        keeping.close()
    with store.database.read():
        assert {row.id for row in Request.select()} == set(kept)
        assert sum(row.requests for row in DailyUsage.select()) == len(kept) - 1 + 5 + 4
    assert hours(store) == len(kept) - 1 + 5


def test_hours_stay_as_long_as_rows(store: Store) -> None:
    ledger_days = retention.HOUR_DAYS + 100
    kept = add(store, "mine", days_ago=ledger_days - 0.001, settled=True)
    for age in (1, 2):
        add(store, "mine", days_ago=ledger_days + age, settled=True)
    with contextlib.closing(Housekeeping(store, ledger_days, mine())):
        wait_until(lambda: Request.select().count() == 1 and hours(store) <= 1)
    assert hours(store) == 1
    with store.database.read():
        assert [row.id for row in Request.select()] == [kept]


def test_process_that_admits_no_requests_settles_those_of_dead_processes(store: Store) -> None:
    add(store, "dead", settled=False)
    keeping = Housekeeping(store, DAYS)
    try:
        wait_until(lambda: not open_rows(store))
    finally:
        keeping.close()
    assert beats(store) == {}


def test_housekeeping_survives_a_failing_store(
    store: Store, keeping: Housekeeping, caplog: pytest.LogCaptureFixture
) -> None:
    del keeping
    usual, store.database.timeout = store.database.timeout, 0.05
    with foreign_lock(store):
        wait_until(lambda: "does not answer" in caplog.text)
    store.database.timeout = usual
    seen = beats(store).get("mine", 0)
    wait_until(lambda: beats(store).get("mine", 0) > seen)


def test_housekeeping_survives_a_failing_task(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(store.database, "tidy", fail)
    with contextlib.closing(Housekeeping(store, DAYS, mine())):
        wait_until(lambda: beats(store).get("mine", 0) >= 1)
    assert "no room" in caplog.text
