"""Budgets, and windows of tokens: what they hold for running requests, and what rows count against budgets."""

import peewee
from playhouse.migrate import SchemaMigrator

_COLUMNS = (
    "token ADD COLUMN budgets TEXT",
    "project ADD COLUMN budgets TEXT",
    "balance ADD COLUMN reserved BIGINT NOT NULL DEFAULT 0",
    "slot ADD COLUMN amount BIGINT NOT NULL DEFAULT 1",
    "request ADD COLUMN budget_beyond BIGINT",
    "request ADD COLUMN tokens_beyond BIGINT",
    "request ADD COLUMN is_limited BOOLEAN",
    "hourly_usage ADD COLUMN budget_beyond BIGINT NOT NULL DEFAULT 0",
    "daily_usage ADD COLUMN budget_beyond BIGINT NOT NULL DEFAULT 0",
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns; processes of the version before do not see budgets and windows of tokens."""
    for column in _COLUMNS:
        db.execute_sql(f"ALTER TABLE {column}")
