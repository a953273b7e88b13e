"""Cuts: why the gateway ended an admitted request before its end."""

import peewee
from playhouse.migrate import SchemaMigrator

_STATEMENTS = (
    "ALTER TABLE request ADD COLUMN code TEXT",
    "CREATE INDEX request_code ON request (code, started_at, id) WHERE code IS NOT NULL",
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the column, and an index of the few rows that have it."""
    for statement in _STATEMENTS:
        db.execute_sql(statement)
