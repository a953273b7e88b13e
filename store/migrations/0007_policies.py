"""Policies of tokens and projects: the models, endpoints and client addresses that they allow."""

import peewee
from playhouse.migrate import SchemaMigrator

_COLUMNS = ("allowed_models", "allowed_endpoints", "allowed_ips")


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns; processes of the version before do not see the policies."""
    for table in ("token", "project"):
        for column in _COLUMNS:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
