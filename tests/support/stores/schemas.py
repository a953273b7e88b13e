"""Stores as the released versions left them: a file of rows for each schema, in `tests/store/schemas`.

A new migration gets one too: JSON with rows for each table, sealed with KEY, in which TOKEN was used REQUESTS times.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from playhouse.migrations import Runner

from store import schema
from store.database import Database, open_database
from store.operations.opening import prepare_folder
from store.runtime.settings import Settings
from support.gateway.processes import ROOT

KEY = "YSBrZXkgZm9yIHRoZSBzdG9yZXMgb2Ygb2xkIHRlc3Q="
TOKEN = "4e9e2930-8b67-4da4-8974-c4b7e842b758"
REQUESTS = 5

FOLDER = ROOT / "tests" / "store" / "schemas"
SCHEMAS = sorted(path.stem for path in schema.MIGRATIONS.glob("[0-9]*.py"))

type Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def rows_of(name: str) -> Rows:
    """Return the rows of a schema's store, by table."""
    tables = json.loads((FOLDER / f"{name}.json").read_text())
    return {
        table: [{column: _bytes_or(value) for column, value in row.items()} for row in rows]
        for table, rows in tables.items()
    }


def make_store(settings: Settings, name: str) -> None:
    """Make a store with a schema, and its rows."""
    prepare_folder(settings.data_dir)
    database = open_database(settings.store_url, settings.store_timeout)
    Runner(database.engine, str(schema.MIGRATIONS)).up(name)
    _fill(database, rows_of(name))
    database.close()


def _fill(database: Database, tables: Rows) -> None:
    with database.write():
        for table, rows in tables.items():
            for row in rows:
                places = ", ".join("?" * len(row))
                database.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", [*row.values()])  # noqa: S608


def _bytes_or(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
