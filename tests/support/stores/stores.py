"""Real stores in the folder of a test."""

import contextlib
import functools
import itertools
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from store import clock, schema
from store.admission.admission import Admission
from store.database import open_database
from store.database.postgresql import PostgresqlDatabase
from store.database.sqlite import SqliteDatabase
from store.ids import new_request_id
from store.management.admins import AdminRecord, Admins
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.operations.opening import open_store, prepare_folder
from store.request import Opening
from store.runtime.settings import Settings
from store.store import Store

API_KEY = "sk-upstream-key-of-the-unit-tests-0123456789"
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
"""For tests that are about one engine."""

UNKNOWN_TOKEN = "00000000-0000-4000-8000-000000000000"


def make_settings(folder: Path, **values: Any) -> Settings:
    """Settings with DATA_DIR inside `folder`, without a `.env`."""
    return Settings(_env_file=None, **{"data_dir": folder / "data", **values})


def changed(settings: Settings, **values: Any) -> Settings:
    """Settings for the same folder and the same database, otherwise with these values."""
    return make_settings(settings.data_dir.parent, database_url=settings.database_url, **values)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open a store, and close this thread's connection with the block."""
    file = settings.data_dir / "llm-proxy.db"
    if not (settings.database_url or file.exists()):
        prepare_folder(settings.data_dir)
        file.write_bytes(_migrated())
    store = open_store(settings)
    try:
        yield store
    finally:
        store.database.close()


@functools.cache
def _migrated() -> bytes:
    """Return an SQLite file with all tables, and nothing in them: copying it is five times as fast as migrating."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "llm-proxy.db"
        with contextlib.closing(open_database(f"sqlite:///{file}", 2)) as database:
            schema.migrate(database)
        return file.read_bytes()


@contextlib.contextmanager
def admission_of(store: Store, **options: int) -> Iterator[Admission]:
    """Admit requests as a process does, until the block ends."""
    admission = Admission(store, **options)
    try:
        yield admission
    finally:
        admission.close()


def make_token(store: Store, **fields: Any) -> TokenRecord:
    """Add a token, in a project of its own where none is named."""
    project_id = fields.pop("project_id", None) or Projects(store).create("Tests", API_KEY).id
    return Tokens(store).create(project_id, **fields)


def make_many_tokens(store: Store, project_id: str, number: int) -> list[tuple[str, str]]:
    """Add tokens quickly, the last one newest; return their ids and values."""
    made = [(str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(number)]
    now = clock.now()
    rows = [
        (
            token_id,
            project_id,
            store.vault.lookup(value),
            store.vault.seal_token(token_id, value),
            now + age,
            clock.NEVER,
            True,
        )
        for age, (token_id, value) in enumerate(made)
    ]
    for chunk in itertools.batched(rows, 200):  # a transaction must end in time on a busy machine too
        with store.database.write():
            store.database.run(
                "INSERT INTO token (id, project_id, lookup, sealed_value, created_at, expires_at, is_active,"  # noqa: S608
                f" request_count, max_requests) VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, 0, 0)'] * len(chunk))}",
                [value for row in chunk for value in row],
            )
    return made


def tree(folder: Path) -> dict[Path, bytes]:
    """Return all files and folders below a folder, with their content; nothing for a missing one."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def rows(store: Store, table: str) -> list[dict[str, Any]]:
    """Read all rows of a table directly, in no order."""
    cursor = store.database.engine.execute_sql(f"SELECT * FROM {table}")  # noqa: S608 - a table's name
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def path_of(store: Store) -> Path:
    """Return the file of a store on SQLite."""
    assert isinstance(store.database, SqliteDatabase)
    return store.database.path


def set_columns(store: Store, table: str, row_id: str, **columns: object) -> None:
    """Write columns of a row directly, without any check."""
    names = ", ".join(f"{name} = ?" for name in columns)
    with store.database.write():
        store.database.execute(f"UPDATE {table} SET {names} WHERE id = ?", [*columns.values(), row_id])  # noqa: S608


def opening(path: str = "/v1/chat/completions", *, is_reserved: bool = False) -> Opening:
    """Describe a new request to the ledger."""
    return Opening(new_request_id(), "POST", path, path, path if is_reserved else None)


type ForeignConnection = sqlite3.Connection | psycopg.Connection[Any]


@contextlib.contextmanager
def foreign_connection(store: Store) -> Iterator[ForeignConnection]:
    """Connect to the store's database without the program; each statement is a transaction, unless one is begun."""
    connection: ForeignConnection
    if isinstance(store.database, PostgresqlDatabase):
        connection = psycopg.connect(store.database.url, autocommit=True)
    else:
        connection = sqlite3.connect(path_of(store), isolation_level=None, check_same_thread=False)
    with contextlib.closing(connection):
        yield connection


@contextlib.contextmanager
def foreign_lock(store: Store) -> Iterator[ForeignConnection]:
    """Keep all others from writing; a COMMIT ends it before the block does."""
    with foreign_connection(store) as connection:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("BEGIN IMMEDIATE")
        else:
            tables = ", ".join(store.database.engine.get_tables())
            connection.execute("BEGIN")
            connection.execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE".encode())
        yield connection


@contextlib.contextmanager
def refused_by_the_database(store: Store, ids: Sequence[str]) -> Iterator[None]:
    """Let the database itself refuse every change of some tokens, by a trigger."""
    named = ", ".join(f"'{token_id}'" for token_id in ids)
    if isinstance(store.database, PostgresqlDatabase):
        make = f"""
            CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql;
            CREATE TRIGGER refused BEFORE UPDATE OR DELETE ON token FOR EACH ROW WHEN (OLD.id IN ({named}))
            EXECUTE FUNCTION refuse()
        """.split(";\n")
        drop = ["DROP FUNCTION refuse CASCADE"]
    else:
        kinds = ("UPDATE", "DELETE")
        refuse = f"ON token WHEN OLD.id IN ({named}) BEGIN SELECT RAISE(ABORT, 'refused'); END"
        make = [f"CREATE TRIGGER refused_{kind} BEFORE {kind} {refuse}" for kind in kinds]
        drop = [f"DROP TRIGGER refused_{kind}" for kind in kinds]
    with foreign_connection(store) as connection:
        for statement in make:
            connection.execute(statement)
        try:
            yield
        finally:
            for statement in drop:
                connection.execute(statement)


def change_elsewhere(store: Store, table: str, row_id: str) -> None:
    """Write a row over a connection of its own, or fail at once where it is locked."""
    with foreign_connection(store) as connection:
        no_patience = (
            "PRAGMA busy_timeout = 0" if isinstance(connection, sqlite3.Connection) else "SET lock_timeout = 1"
        )
        connection.execute(no_patience)
        connection.execute(f"UPDATE {table} SET id = id WHERE id = '{row_id}'")  # noqa: S608 - names of a test


def administrator(store: Store, name: str) -> AdminRecord:
    """Return the administrator of a name."""
    (found,) = [each for each in Admins(store).list() if each.name == name]
    return found


def audited(store: Store) -> list[dict[str, Any]]:
    """Return the rows of the audit in the order of the changes; ids of one millisecond have no order."""
    return sorted(rows(store, "audit"), key=lambda row: row["changed_at"])
