"""Unpriced requests: the page of prices finds them among the sums of very many tokens."""

import peewee
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add an index of the few sums that have unpriced requests."""
    db.execute_sql("CREATE INDEX daily_usage_unpriced ON daily_usage (start) WHERE unpriced > 0")
