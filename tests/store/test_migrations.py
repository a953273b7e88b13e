"""Stores of every released schema, with data in them, are upgraded by opening them."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playhouse.migrations import Runner
from support.gateway.processes import DEADLINE, ROOT, clean_environment
from support.stores.schemas import FOLDER, KEY, REQUESTS, SCHEMAS, TOKEN, make_store, rows_of
from support.stores.stores import changed, foreign_lock, make_settings, opened, opening, rows, set_columns

from store import schema
from store.admission.admission import Admission
from store.database import open_database
from store.errors import StartupError, StoreLocked
from store.limits import holds
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.operations.copying.tables import TABLES
from store.operations.opening import migrate_store, open_store, pending_migrations
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.request import NOTHING
from store.runtime.settings import Settings

if TYPE_CHECKING:
    from support.stores.postgresql import Server

API_KEY = "sk-upstream-key-of-the-unit-tests-0123456789"

LATER = "9999_later"
ADDS = """
def up(migrator, db):
    db.execute_sql("CREATE TABLE later (id INTEGER)")
    db.execute_sql("ALTER TABLE token ADD COLUMN later BIGINT NOT NULL DEFAULT 0")
    db.execute_sql("UPDATE token SET later = request_count")
"""
FAILS = {
    "sql": ADDS + "    db.execute_sql('UPDATE nothing SET x = 1')\n",  # noqa: S608 - no data
    "code": ADDS + "    raise RuntimeError('in the middle')\n",
}
STANDS_STILL = f"{ADDS}    print('in the middle', flush=True)\n    import time\n    time.sleep(60)\n"

MIGRATE = """
import sys
from pathlib import Path
from store import schema
from store.operations.opening import migrate_store
from store.runtime.settings import Settings
schema.MIGRATIONS = Path(sys.argv[1])
settings = Settings.load()
print("ready", flush=True)
sys.stdin.readline()
migrate_store(settings, lambda name: print(name, flush=True))
"""


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables."""
    if engine == "sqlite":
        return ""
    server: Server = request.getfixturevalue("postgresql_server")
    return server.make_database()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return make_settings(tmp_path, database_url=database_url, encryption_key=KEY)


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all migrations, to which a test adds one."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "MIGRATIONS", folder)
    return folder


def shape(settings: Settings) -> dict[str, list[str]]:
    """Return the tables and their columns."""
    database = open_database(settings.store_url, settings.store_timeout)
    try:
        with database.read():
            return {
                table: [column.name for column in database.engine.get_columns(table)]
                for table in database.engine.get_tables()
            }
    finally:
        database.close()


def start_migrating(settings: Settings, migrations: Path) -> subprocess.Popen[str]:
    """Start a process that migrates once it reads a line."""
    env = {**clean_environment(), "DATA_DIR": str(settings.data_dir), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", MIGRATE, str(migrations)],
        env=env | {"DATABASE_URL": settings.store_url},
        cwd=settings.data_dir.parent,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_every_schema_has_a_store_with_data_in_every_table(settings: Settings) -> None:
    assert [path.stem for path in sorted(FOLDER.iterdir())] == SCHEMAS
    for name in SCHEMAS:
        assert all(rows_of(name).values())
    migrate_store(settings, lambda _: None)
    assert rows_of(SCHEMAS[-1]).keys() == shape(settings).keys() - {"schema_migration"}


def test_the_models_have_what_the_migrations_make(settings: Settings) -> None:
    migrate_store(settings, lambda _: None)
    found = shape(settings)
    del found["schema_migration"]
    assert {name: sorted(columns) for name, columns in found.items()} == {
        table.name: sorted(table.columns) for table in TABLES
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_upgrade_keeps_all_data(settings: Settings, name: str) -> None:
    make_store(settings, name)
    with opened(settings) as store:
        for table, before in rows_of(name).items():
            kept = _slots(before) if table == "slot" else before
            columns = kept[0].keys()
            found = [{column: row[column] for column in columns} for row in rows(store, table)]
            assert sorted(found, key=repr) == sorted(kept, key=repr)
        tokens = Tokens(store)
        token = tokens.get(TOKEN)
        assert (token.value, token.request_count, token.max_requests) == (TOKEN, REQUESTS, 7)
        admission = Admission(store)
        admitted = asyncio.run(admission.admit(TOKEN, opening()._replace(reading=NOTHING)))
        admission.close()
        assert admitted.api_key == API_KEY
        assert tokens.get(TOKEN).request_count == REQUESTS + 1
        before_ledger = sum(row["opening_count"] for row in rows(store, "token"))
        totals = UsageReports(store).totals(UsageFilter())
        assert totals.requests == len(rows(store, "request")) == REQUESTS + 1 - before_ledger
        assert totals.cost == sum(row.get("cost") or 0 for row in rows_of(name).get("request", []))
        assert {index.name for index in store.database.engine.get_indexes("token")} >= {
            "token_lookup",
            "token_project_id",
        }


def _slots(held: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of the table `slot` that are slots, not amounts that limits reserve, as they are kept."""
    slots = [row for row in held if row["balance_id"].endswith("/parallel")]
    return [{name: row[name] for name in ("request_id", "balance_id")} for row in slots]


def test_what_limits_hold_for_a_running_request_moves_to_its_row(settings: Settings) -> None:
    make_store(settings, "0008_budgets")
    slots = rows_of("0008_budgets")["slot"]
    held = {row["balance_id"].split("/")[1]: row["amount"] for row in slots if row["amount"] > 1}
    with opened(settings) as store:
        found = [row for row in rows(store, "request") if row["reserved_tokens"] is not None]
        assert [(row["id"], row["reserved_tokens"], row["reserved_usd"]) for row in found] == [
            (slots[0]["request_id"], held["tokens"], held["usd"])
        ]
        assert holds.recount(store.database) == 0


def test_counts_from_before_the_ledger_are_its_opening_balance(settings: Settings) -> None:
    make_store(settings, "0001_initial")
    with opened(settings) as store:
        assert {row["opening_count"] for row in rows(store, "token")} == {REQUESTS, 0}


def test_new_tokens_have_no_opening_balance(settings: Settings) -> None:
    with opened(settings) as store:
        project = Projects(store).create("New", API_KEY)
        token = Tokens(store).create(project.id)
        set_columns(store, "token", token.id, request_count=3)
        assert store.database.execute("SELECT opening_count FROM token", ()) == [(0,)]


OLD_READ = (
    "SELECT lookup, token.id, token.is_active, expires_at, request_count, max_requests, project.id AS project_id,"
    " name, project.is_active AS project_is_active, sealed_api_key"
    " FROM token JOIN project ON project.id = token.project_id WHERE token.id = ?"
)
"""The statement with which versions up to 0003_sessions admit: they do not say which table a column is of."""


def test_processes_of_the_version_before_still_admit(settings: Settings) -> None:
    make_store(settings, "0003_sessions")
    with opened(settings) as store, store.database.read():
        ((*_, name, is_active, _),) = store.database.execute(OLD_READ, [rows_of("0003_sessions")["token"][0]["id"]])
    assert (name, bool(is_active)) == ("Search", True)


def test_listing_pending_migrations_changes_nothing(settings: Settings) -> None:
    assert pending_migrations(settings) == SCHEMAS
    assert not settings.data_dir.exists()
    make_store(settings, "0001_initial")
    files, before = sorted(settings.data_dir.iterdir()), shape(settings)
    assert pending_migrations(settings) == SCHEMAS[1:]
    assert sorted(settings.data_dir.iterdir()) == files
    assert shape(settings) == before


def test_pending_migrations_are_listed_beside_writers(settings: Settings) -> None:
    with opened(settings) as store, foreign_lock(store):
        if not settings.database_url:
            assert pending_migrations(settings) == []


def test_listing_pending_migrations_of_a_file_that_is_no_database_raises(tmp_path: Path) -> None:
    file = tmp_path / "file.db"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StartupError, match="file is not a database"):
        pending_migrations(make_settings(tmp_path, database_url=f"sqlite:///{file}"))


@pytest.mark.parametrize("old", [None, "0001_initial"])
def test_one_of_several_processes_that_start_at_once_migrates(settings: Settings, old: str | None) -> None:
    settings.data_dir.mkdir()
    if old:
        make_store(settings, old)
    processes = [start_migrating(settings, schema.MIGRATIONS) for _ in range(3)]
    outputs = sorted(process.communicate("\n", DEADLINE)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted("".join(outputs).split()) == SCHEMAS[1 if old else 0 :]
    assert pending_migrations(settings) == []


@pytest.mark.parametrize("fault", FAILS)
def test_a_migration_that_fails_leaves_nothing(settings: Settings, migrations: Path, fault: str) -> None:
    make_store(settings, "0001_initial")
    with opened(settings):
        before = shape(settings)
    later = migrations / f"{LATER}.py"
    later.write_text(FAILS[fault])
    reported: list[str] = []
    with pytest.raises((StartupError, RuntimeError)):
        migrate_store(settings, reported.append)
    assert reported == []
    assert shape(settings) == before
    assert pending_migrations(settings) == [LATER]
    later.write_text(ADDS)
    migrate_store(settings, reported.append)
    assert reported == [LATER]
    with opened(settings) as store:
        assert sorted(row["later"] for row in rows(store, "token")) == [0, REQUESTS]


def test_the_migrations_before_a_failed_one_stay(settings: Settings, migrations: Path) -> None:
    (migrations / f"{LATER}.py").write_text(FAILS["sql"])
    reported: list[str] = []
    with pytest.raises(StartupError):
        migrate_store(settings, reported.append)
    assert reported == SCHEMAS
    assert pending_migrations(settings) == [LATER]


def test_a_process_that_is_killed_in_a_migration_leaves_nothing(settings: Settings, migrations: Path) -> None:
    make_store(settings, SCHEMAS[-1])
    before = shape(settings)
    later = migrations / f"{LATER}.py"
    later.write_text(STANDS_STILL)
    process = start_migrating(settings, migrations)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "in the middle\n"
    process.kill()
    process.communicate()
    later.write_text(ADDS)
    migrate_store(settings, lambda _: None)
    assert {name: set(columns) - {"later"} for name, columns in shape(settings).items() if name != "later"} == {
        name: set(columns) for name, columns in before.items()
    }
    with opened(settings) as store:
        assert sorted(row["later"] for row in rows(store, "token")) == [0, REQUESTS]


def test_a_migration_is_repeated_while_others_use_its_tables(
    settings: Settings, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(settings, SCHEMAS[-1])
    settings = changed(settings, encryption_key=KEY, store_timeout=0.2)
    store = open_store(settings)
    (migrations / f"{LATER}.py").write_text(ADDS)
    reported: list[str] = []
    with contextlib.closing(store.database), foreign_lock(store) as other:
        monkeypatch.setattr(schema, "PATIENCE", 0.0)
        with pytest.raises(StartupError, match="lock") as raised:
            migrate_store(settings, reported.append)
        assert isinstance(raised.value.__cause__, StoreLocked)
        monkeypatch.setattr(schema, "PATIENCE", DEADLINE)
        monkeypatch.setattr("store.schema.time.sleep", lambda _: other.execute("COMMIT"))
        migrate_store(settings, reported.append)
    assert reported == [LATER]


def test_a_newer_schema_is_refused_and_left_alone(settings: Settings, migrations: Path) -> None:
    (migrations / f"{LATER}.py").write_text(ADDS)
    migrate_store(settings, lambda _: None)
    before = shape(settings)
    (migrations / f"{LATER}.py").unlink()
    for attempt in (lambda: migrate_store(settings, lambda _: None), lambda: pending_migrations(settings)):
        with pytest.raises(StartupError, match=rf"newer than this program \(it has {LATER}\)"):
            attempt()
    assert shape(settings) == before


def test_the_runner_of_peewee_has_the_same_history(settings: Settings) -> None:
    migrate_store(settings, lambda _: None)
    database = open_database(settings.store_url, settings.store_timeout)
    with database.read():
        assert Runner(database.engine, str(schema.MIGRATIONS)).up() == []
    database.close()
