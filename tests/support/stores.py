"""Real stores in a folder of the test's own."""

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from store import clock
from store.bootstrap import Store, open_store
from store.ids import new_request_id
from store.ledger import Opening
from store.projects import Projects
from store.settings import Settings
from store.tokens import TokenRecord, Tokens

API_KEY = "sk-upstream-key-of-the-unit-tests-0123456789"
UNKNOWN_TOKEN = "00000000-0000-4000-8000-000000000000"


def make_settings(folder: Path, **values: Any) -> Settings:
    """Settings with DATA_DIR inside `folder`, without a `.env`."""
    return Settings(_env_file=None, **{"data_dir": folder / "data", **values})


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """Open a store, and close this thread's connection with the block."""
    store = open_store(settings)
    try:
        yield store
    finally:
        store.database.close()


def make_token(store: Store, **fields: Any) -> TokenRecord:
    """Add a token, in a project of its own where none is named."""
    project_id = fields.pop("project_id", None) or Projects(store).create("Tests", API_KEY).id
    return Tokens(store).create(project_id, **fields)


def make_many_tokens(store: Store, project_id: str, number: int) -> list[tuple[str, str]]:
    """Add tokens in one go, the last one newest; return their ids and values."""
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
        )
        for age, (token_id, value) in enumerate(made)
    ]
    with contextlib.closing(sqlite3.connect(store.database.path)) as connection, connection:
        connection.executemany(
            "INSERT INTO token (id, project_id, lookup, sealed_value, created_at, expires_at, is_active, request_count,"
            " max_requests) VALUES (?, ?, ?, ?, ?, ?, 1, 0, 0)",
            rows,
        )
    return made


def set_columns(store: Store, table: str, row_id: str, **columns: object) -> None:
    """Write columns of a row directly, past everything that checks them."""
    names = ", ".join(f"{name} = ?" for name in columns)
    with store.database.write():
        store.database.execute(f"UPDATE {table} SET {names} WHERE id = ?", [*columns.values(), row_id])  # noqa: S608


def opening(path: str = "/v1/chat/completions") -> Opening:
    """Describe a new request to the ledger."""
    return Opening(new_request_id(), "POST", path, path)


@contextlib.contextmanager
def foreign_lock(store: Store) -> Iterator[sqlite3.Connection]:
    """Hold the write lock on a connection that the program knows nothing about."""
    connection = sqlite3.connect(store.database.path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.close()
