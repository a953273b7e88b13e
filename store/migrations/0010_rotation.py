"""Rotated tokens: the value before the present one, which may work for a while longer."""

import peewee
from playhouse.migrate import SchemaMigrator

_STATEMENTS = (
    "ALTER TABLE token ADD COLUMN previous_lookup VARCHAR(64)",
    "ALTER TABLE token ADD COLUMN previous_expires_at BIGINT",
    "CREATE UNIQUE INDEX token_previous_lookup ON token (previous_lookup)",
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns; processes of the version before do not know former values."""
    for statement in _STATEMENTS:
        db.execute_sql(statement)
