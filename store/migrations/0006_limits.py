"""Limits of tokens and projects: requests in a window, and requests at once; with their balances."""

import peewee
from peewee import BigIntegerField, CharField, CompositeKey, Model, TextField
from playhouse.migrate import SchemaMigrator

_COLUMNS = ("rate_limits TEXT", "max_parallel_requests BIGINT")


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns and the tables; processes of the version before do not see the limits."""

    class Balance(Model):
        id = CharField(max_length=64, primary_key=True)
        owner_id = CharField(max_length=36)
        maximum = BigIntegerField()
        used = BigIntegerField()
        newest = BigIntegerField()
        counts = TextField()

        class Meta:
            indexes = ((("owner_id",), False),)

    class Slot(Model):
        request_id = CharField(max_length=36)
        balance_id = CharField(max_length=64)

        class Meta:
            primary_key = CompositeKey("request_id", "balance_id")

    with db.bind_ctx([Balance, Slot]):
        db.create_tables([Balance, Slot])
    for table in ("token", "project"):
        for column in _COLUMNS:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
