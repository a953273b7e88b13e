"""The WebSocket that a request of the ledger belongs to."""

import peewee
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the column; processes of the version before leave it NULL."""
    db.execute_sql("ALTER TABLE request ADD COLUMN session_id VARCHAR(36)")
