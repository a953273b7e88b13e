import contextlib
import re
import sqlite3
import threading
import time

import pytest
from support.stores.stores import API_KEY, foreign_connection, foreign_lock, on_sqlite, path_of, rows

from store.database import sqlite
from store.database.models import Balance, FormerProject
from store.errors import NotFound, StoreLocked, StoreUnavailable
from store.management.projects import Projects
from store.store import Store


def names(store: Store) -> list[str]:
    with store.database.read():
        return [name for (name,) in store.database.execute("SELECT name FROM project")]


def test_an_exception_inside_rolls_back_and_passes(store: Store) -> None:
    def write_and_fail() -> None:
        with store.database.write():
            FormerProject.create(id="1", name="Never")
            raise NotFound("on purpose")

    with pytest.raises(NotFound, match="on purpose"):
        write_and_fail()
    assert rows(store, "former_project") == []


def test_a_locked_store_raises_in_time_and_works_at_once_afterwards(store: Store) -> None:
    with foreign_lock(store):
        started = time.monotonic()
        with pytest.raises(StoreLocked), store.database.write(patience=0.2):
            FormerProject.create(id="1", name="Never")
        assert 0.2 <= time.monotonic() - started < 0.5
    Projects(store).create("After", API_KEY)
    assert names(store) == ["After"]


def test_reading_does_not_wait_for_a_writer(store: Store) -> None:
    with foreign_lock(store):
        assert names(store) == []


def test_a_writer_waits_for_another(store: Store) -> None:
    with foreign_lock(store) as foreign:
        started = threading.Event()

        def write() -> None:
            started.set()
            Projects(store).create("Second", API_KEY)
            store.database.close()

        thread = threading.Thread(target=write)
        thread.start()
        assert started.wait(5)
        foreign.execute("COMMIT")
        thread.join(5)
    assert names(store) == ["Second"]


def test_a_fault_is_translated_and_the_next_use_opens_a_new_connection(store: Store) -> None:
    before = store.database.engine.connection()
    with pytest.raises(StoreUnavailable), store.database.write():
        store.database.execute("INSERT INTO missing VALUES (1)", ())
    Projects(store).create("After", API_KEY)
    assert names(store) == ["After"]
    assert store.database.engine.connection() is not before


@on_sqlite
def test_nothing_is_written_to_a_full_disk_and_later_writes_work(store: Store) -> None:
    (pages,) = store.database.execute("PRAGMA page_count", ())[0]
    store.database.execute(f"PRAGMA max_page_count = {pages}", ())  # holds for this connection only
    with pytest.raises(StoreUnavailable):
        Projects(store).create("x" * 1_000_000, API_KEY)
    assert names(store) == []
    Projects(store).create("After", API_KEY)
    assert names(store) == ["After"]


def test_reading_a_missing_table_raises_store_unavailable(store: Store) -> None:
    with store.database.write():
        store.database.execute("DROP TABLE token", ())
        store.database.execute("DROP TABLE project", ())
    with pytest.raises(StoreUnavailable):
        Projects(store).list()


def test_update_returns_the_number_of_changed_rows(store: Store) -> None:
    for name in ("One", "Two"):
        Projects(store).create(name, API_KEY)
    rename = "UPDATE project SET name = ? WHERE name <> ?"
    with store.database.write():
        assert [store.database.update(rename, ["Two", "Two"]) for _ in range(2)] == [1, 0]


def test_a_snapshot_stays_as_it_was_while_others_write(store: Store) -> None:
    Projects(store).create("Before", API_KEY)
    with store.database.snapshot():
        assert names(store) == ["Before"]
        with foreign_connection(store) as other:
            other.execute("DELETE FROM project")
        assert names(store) == ["Before"]
    assert names(store) == []


def test_a_fault_in_a_snapshot_is_translated(store: Store) -> None:
    with pytest.raises(StoreUnavailable), store.database.snapshot():
        store.database.execute("SELECT * FROM missing", ())
    assert names(store) == []


@pytest.mark.parametrize("number", [1, 2, 3, 31, 32, 33, 100, 256])
def test_tables_hold_any_number_of_rows_once_each_in_order(store: Store, number: int) -> None:
    written = [(f"id-{place}", place, None) for place in range(number)]
    tables = store.database.tables(["TEXT", "BIGINT", "TEXT"], written)
    with store.database.write():
        read = [row for table in tables for row in store.database.execute(*table)]
    assert read == written


@pytest.mark.parametrize("number", [0, 1, 3, 100])
def test_rows_are_set_and_added_to_by_their_key(store: Store, number: int) -> None:
    columns = {"id": "TEXT", "used": "BIGINT", "counts": "TEXT"}
    with store.database.write():
        for place in range(number + 1):
            Balance.create(id=f"id-{place}", owner_id="owner", maximum=9, used=10, newest=0, counts="before")
        rows = [(f"id-{place}", place, f"after {place}") for place in range(number)]
        store.database.update_rows("balance", columns, rows, added=("used",))
    with store.database.read():
        found = store.database.execute("SELECT id, used, counts FROM balance ORDER BY used, id")
    left = (f"id-{number}", 10, "before")
    assert {*found} == {left, *((row_id, 10 + place, counts) for row_id, place, counts in rows)}


def test_a_fault_of_an_update_is_translated(store: Store) -> None:
    with pytest.raises(StoreUnavailable), store.database.write():
        store.database.update_rows("balance", {"id": "TEXT", "missing": "BIGINT"}, [("id", 1)])


RANGES = "SELECT 1 AS begins, 3 AS ends UNION ALL SELECT 5, 6"
SOURCE = (
    "SELECT 0 AS start UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 5 UNION ALL SELECT 6"
)


def test_ranges_are_joined_with_the_rows_in_them(store: Store) -> None:
    joined = store.database.in_ranges("ranges", f"({SOURCE})")
    with store.database.read():
        read = store.database.execute(
            f"WITH ranges AS ({RANGES}) SELECT begins, part.start FROM {joined} WHERE part.start <> ? ORDER BY 2",  # noqa: S608
            [2],
        )
    assert read == [(1, 1), (5, 5)]


@on_sqlite
def test_sqlite_finds_the_rows_of_ranges_by_the_primary_key(store: Store) -> None:
    joined = store.database.in_ranges("ranges", "(SELECT *, start AS day FROM hourly_usage)")
    with store.database.read():
        plan = store.database.execute(
            f"EXPLAIN QUERY PLAN WITH ranges AS ({RANGES}) SELECT SUM(cost) FROM {joined}"  # noqa: S608
        )
    assert plan[-1][3] == "SEARCH hourly_usage USING INDEX sqlite_autoindex_hourly_usage_1 (start>? AND start<?)"


@on_sqlite
def test_sqlite_statements_have_few_texts_for_any_number_of_rows(store: Store) -> None:
    texts = {
        table.sql
        for number in range(1, 257)
        for table in store.database.tables(["TEXT", "BIGINT"], [("id", 1)] * number)
    }
    assert len(texts) == 6
    assert len({store.database.among("id", ["a"] * number).sql for number in range(1, 257)}) == 9


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_among_selects_rows_with_one_of_some_texts(store: Store, number: int) -> None:
    with store.database.write():
        for place in range(6):
            FormerProject.create(id=str(place), name="Former")
    among = store.database.among("id", [str(place) for place in range(number)])
    with store.database.write():
        sql = f"SELECT id FROM former_project WHERE {among.sql} ORDER BY id"  # noqa: S608 - no data
        found = store.database.execute(sql, among.parameters)
    assert found == [(str(place),) for place in range(number)]


def test_the_engine_tells_its_version_and_size(store: Store, engine: str) -> None:
    assert re.fullmatch(r"(SQLite|PostgreSQL) [0-9]+\.[0-9].*", store.database.version())
    assert store.database.version().lower().startswith(engine)
    assert store.database.size() > 100_000


@on_sqlite
def test_tidy_copies_the_log_into_the_database(store: Store) -> None:
    with store.database.write():
        FormerProject.create(id="1", name="Tidied up")
    assert b"Tidied up" not in path_of(store).read_bytes()
    store.database.tidy()
    assert b"Tidied up" in path_of(store).read_bytes()


@on_sqlite
def test_tidy_empties_an_oversized_log_once_it_has_no_reader(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MOST_PAGES", 10)
    log = path_of(store).with_name(f"{path_of(store).name}-wal")
    with contextlib.closing(sqlite3.connect(path_of(store), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM former_project").fetchall()
        for number in range(20):
            with store.database.write():
                FormerProject.create(id=str(number), name="Former")
        store.database.tidy()
        assert log.stat().st_size
    store.database.tidy()
    assert log.stat().st_size == 0


@on_sqlite
def test_tidy_ignores_a_fault_that_the_next_write_raises(store: Store) -> None:
    store.database.close()
    path_of(store).write_bytes(b"no database" * 1000)
    store.database.tidy()
    with pytest.raises(StoreUnavailable):
        store.database.check()
