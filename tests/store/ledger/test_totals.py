import threading

import pytest
from support.stores.stores import opening

from store import clock
from store.admission import refusals
from store.admission.refusals import Tally
from store.clock import DAY, HOUR
from store.errors import TokenExpired
from store.ledger import rollups, totals
from store.ledger.retention import clean
from store.ledger.rollups import AMOUNTS, OTHER_MODELS, Addend
from store.ledger.totals import Total
from store.request import Holder, Refused
from store.store import Store

NOW = clock.now()
TODAY = NOW // DAY * DAY


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "PAUSE", 0.0)
    monkeypatch.setattr(totals, "CHUNK", 2)


def addend(project: str, model: str, at: int = NOW, *, sign: int = 1, **amounts: int) -> Addend:
    named = {"requests": 1, **amounts}
    return Addend(at, (project, "token", model, "/v1/models"), [sign * named.get(name, 0) for name in AMOUNTS])


def add(store: Store, *addends: Addend) -> None:
    """Add to the sums as the ledger does."""
    with store.database.write():
        rollups.add(store.database, addends)
        totals.note(store.database, addends, store.database.now())


def move_on(store: Store) -> None:
    totals.move_on(store.database, threading.Event())


def usage(store: Store) -> dict[tuple[str, str], Total]:
    return dict(totals.read(store.database).usage)


def refuse(store: Store, code_at: int, repeats: int, request_id: str = "") -> str:
    """Write the row of a refusal, as the writer does; return its id."""
    request = opening()
    request = request._replace(request_id=request_id or request.request_id)
    refused = Refused(request, Holder("token", None, "project", "Project"), code_at)
    with store.database.write():
        refusals.write(store.database, [Tally(refused, TokenExpired.status, TokenExpired.code, repeats)])
    return request.request_id


def test_totals_are_the_sums_of_all_days_wherever_the_mark_is(store: Store) -> None:
    days = [TODAY - 400 * DAY, TODAY - 2 * DAY, TODAY - DAY, TODAY]
    for number, day in enumerate(days, 1):
        add(store, addend("p", "m", day, input_tokens=number, output_tokens=2 * number, cost=10**12 + number))
        add(store, addend("q", "", day))
    expected = {("p", "m"): Total(4, 10, 20, 4 * 10**12 + 10), ("q", ""): Total(4, 0, 0, 0)}
    assert usage(store) == expected
    for _ in range(2):
        move_on(store)
        assert usage(store) == expected


def test_totals_hold_while_the_mark_is_within_a_day(store: Store) -> None:
    day = TODAY - 3 * DAY
    keys = [(project, model) for project in "abcde" for model in "xyz"]
    for project, model in keys:
        add(store, addend(project, model, day), addend(project, model))
    steps = 0
    while totals._USAGE.move_on(store.database):  # noqa: SLF001 - one step of what `move_on` does
        steps += 1
        add(store, *[addend(project, model, day) for project, model in keys])
        assert {pair: total.requests for pair, total in usage(store).items()} == dict.fromkeys(keys, 2 + steps)
    assert steps == 5


def test_days_before_the_mark_are_not_read_again(store: Store) -> None:
    add(store, addend("p", "m", TODAY - 3 * DAY))
    move_on(store)
    with store.database.write():
        store.database.run("DELETE FROM daily_usage")
    assert usage(store) == {("p", "m"): Total(1, 0, 0, 0)}


def test_what_changes_a_day_before_the_mark_is_in_the_totals(store: Store) -> None:
    add(store, addend("p", "m", TODAY - 5 * DAY, cost=5))
    move_on(store)
    add(store, addend("p", "m", TODAY - 5 * DAY, cost=7), addend("p", "n", TODAY - 4 * DAY), addend("p", "m"))
    expected = {("p", "m"): Total(3, 0, 0, 12), ("p", "n"): Total(1, 0, 0, 0)}
    assert usage(store) == expected
    move_on(store)
    assert usage(store) == expected


@pytest.mark.parametrize("at", [NOW, TODAY - 5 * DAY], ids=["today", "before the mark"])
def test_no_total_falls_when_an_estimate_moves_to_another_model(store: Store, at: int) -> None:
    add(store, addend("p", "asked", at, input_tokens=10, cost=3_000_001))
    move_on(store)
    add(
        store,
        addend("p", "asked", at, sign=-1, input_tokens=10, cost=3_000_001),
        addend("p", "answered", at, input_tokens=12, cost=4_000_000),
    )
    found = usage(store)
    assert found["p", "asked"][1:] == (10, 0, 3_000_001)
    assert found["p", "answered"][1:] == (12, 0, 4_000_000)
    assert sum(total.requests for total in found.values()) == 1
    move_on(store)
    assert usage(store) == found


def test_an_estimate_that_is_corrected_under_its_own_model_is_the_ledgers(store: Store) -> None:
    add(store, addend("p", "m", cost=5))
    add(store, addend("p", "m", sign=-1, cost=5), addend("p", "m", cost=8))
    assert usage(store) == {("p", "m"): Total(1, 0, 0, 8)}


def test_names_are_bounded_and_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST_PAIRS", 2)
    monkeypatch.setattr(totals, "MOST_OTHERS", 1)
    for project, model in (("p", "a"), ("p", "b"), ("p", "c"), ("q", "a"), ("r", "a")):
        add(store, addend(project, model))
        before = usage(store)
    expected = {("p", "a"): 1, ("p", "b"): 1, ("p", OTHER_MODELS): 1, (OTHER_MODELS, OTHER_MODELS): 2}
    assert {pair: total.requests for pair, total in before.items()} == expected
    add(store, addend("a", "a"), addend("p", "a", TODAY - 3 * DAY))
    move_on(store)
    found = {pair: total.requests for pair, total in usage(store).items()}
    assert found == expected | {(OTHER_MODELS, OTHER_MODELS): 3, ("p", "a"): 2}


def test_more_dollars_than_64_bits_hold_are_added_up(store: Store) -> None:
    most = rollups.MAX_SUM // 2
    for days in range(6):
        add(store, addend("p", "m", TODAY - days * DAY, cost=most))
    move_on(store)
    assert usage(store)["p", "m"].cost == 6 * most


def test_refusals_stay_when_retention_deletes_their_rows(store: Store) -> None:
    for days in (0, 1, 40, 50):
        refuse(store, NOW - days * DAY, 3)
    pair = ("project", TokenExpired.code)
    for _ in range(2):
        assert totals.read(store.database).refusals == {pair: 12}
        move_on(store)
        clean(store.database, 30, threading.Event())


def test_refusals_that_are_written_late_are_counted_once(store: Store) -> None:
    at = NOW - 5 * HOUR
    request_id = refuse(store, at, 3)
    move_on(store)
    refuse(store, at, 5, request_id)
    refuse(store, at, 5, request_id)
    refuse(store, at + 1, 2)
    assert totals.read(store.database).refusals == {("project", TokenExpired.code): 7}


def test_sums_and_the_mark_do_not_miss_each_other(store: Store) -> None:
    """Sums are added by several threads to a day that is over, while the mark moves past it."""
    at, done = TODAY - 3 * DAY, threading.Event()

    def write() -> None:
        for _ in range(20):
            add(store, addend("p", "m", at))
        store.database.close()

    def move() -> None:
        while not done.is_set():
            with store.database.write():
                store.database.run("UPDATE total_mark SET time = 0")
                store.database.run("DELETE FROM usage_total")
            move_on(store)
        store.database.close()

    threads = [threading.Thread(target=write) for _ in range(3)]
    mover = threading.Thread(target=move)
    for thread in (*threads, mover):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    mover.join()
    assert usage(store) == {("p", "m"): Total(60, 0, 0, 0)}
