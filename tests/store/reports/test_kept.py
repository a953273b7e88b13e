import pytest
from support.stores.ledger import NOON, forget, open_request, settle_request

from store.clock import DAY, HOUR
from store.ledger.rollups import Table
from store.reports.kept import not_kept
from store.store import Store

MIDNIGHT = NOON - 12 * HOUR


@pytest.fixture(autouse=True)
def _requests(store: Store) -> None:
    """Two days with two requests each, and one that is running."""
    for hour in (0, 12, 24, 36):
        settle_request(store, started_at=MIDNIGHT + hour * HOUR + 5)
    open_request(store, started_at=MIDNIGHT)


def days(store: Store) -> set[int]:
    with store.database.read():
        starts = [MIDNIGHT + day * DAY for day in range(-1, 3)]
        return {(start - MIDNIGHT) // DAY for start in not_kept(store.database, Table.DAYS, starts, Table.HOURS)}


def hours(store: Store) -> set[int]:
    with store.database.read():
        starts = [MIDNIGHT + hour * HOUR for hour in range(48)]
        return {(start - MIDNIGHT) // HOUR for start in not_kept(store.database, Table.HOURS, starts, Table.ROWS)}


def test_all_is_kept_at_first(store: Store) -> None:
    assert (days(store), hours(store)) == (set(), set())


def test_days_and_hours_that_lack_some_are_not_kept(store: Store) -> None:
    with store.database.write():
        store.database.run("DELETE FROM request WHERE started_at < ?", [MIDNIGHT + 20 * HOUR])
    assert (days(store), hours(store)) == (set(), {0, 12})
    forget(store, MIDNIGHT + 6 * HOUR)
    assert (days(store), hours(store)) == ({0}, {12})


def test_nothing_is_asked_of_no_starts(store: Store) -> None:
    with store.database.read():
        assert not_kept(store.database, Table.DAYS, [], Table.HOURS) == set()
