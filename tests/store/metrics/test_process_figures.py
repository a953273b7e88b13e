from collections.abc import Mapping

from store.ledger import instances
from store.ledger.ledger import Ledger
from store.metrics import process_figures
from store.metrics.figures import Counts, Figures, plus
from store.metrics.process_figures import ENDED, FiguresRow
from store.store import Store
from store.version import __version__


def counted(number: int) -> Figures:
    figures = Figures()
    for _ in range(number):
        figures.count("errors", "code")
    return figures


def rows(store: Store) -> Mapping[str, process_figures.Snapshot]:
    with store.database.read():
        return dict(process_figures.read(store.database))


def errors(store: Store) -> float:
    """Return what all rows have counted together."""
    total: Counts = {}
    for snapshot in rows(store).values():
        total = plus(total, snapshot.counts)
    return total["errors"]["code"][""]


def retire(store: Store, instance_id: str) -> None:
    instances.settle_left(store.database, Ledger(store.database), instance_id)


def test_a_row_says_what_a_process_has_counted_its_present_numbers_and_its_version(store: Store) -> None:
    figures = counted(2)
    figures.gauges["in_flight"] = lambda: 4
    row = FiguresRow("mine", figures)
    row.write(store.database)
    figures.count("errors", "code")
    row.write(store.database)
    ((instance_id, snapshot),) = rows(store).items()
    assert (instance_id, snapshot.present, snapshot.version) == ("mine", {"in_flight": 4}, __version__)
    assert snapshot.counts["errors"] == {"code": {"": 3}}


def test_the_figures_of_processes_that_have_ended_stay_and_their_present_numbers_do_not(store: Store) -> None:
    for name, number in (("one", 1), ("two", 2), ("three", 4)):
        figures = counted(number)
        figures.gauges["in_flight"] = lambda: 1
        FiguresRow(name, figures).write(store.database)
    for name in ("one", "two", "one", "unknown"):
        retire(store, name)
    assert rows(store).keys() == {ENDED, "three"}
    assert (rows(store)[ENDED].present, errors(store)) == ({}, 7)


def test_the_last_figures_of_a_process_that_stops_are_kept(store: Store) -> None:
    figures = counted(1)
    row = FiguresRow("mine", figures)
    row.write(store.database)
    figures.count("errors", "code")
    instances.end(store.database, Ledger(store.database), row)
    assert rows(store).keys() == {ENDED}
    assert errors(store) == 2


def test_a_process_that_was_taken_for_dead_is_not_counted_twice(store: Store) -> None:
    figures = counted(3)
    row = FiguresRow("mine", figures)
    row.write(store.database)
    for expected in (4, 5, 6):
        retire(store, "mine")
        figures.count("errors", "code")
        row.write(store.database)
        assert errors(store) == expected
    row.write(store.database)
    assert errors(store) == 6
