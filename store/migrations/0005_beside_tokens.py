"""Paid units beside tokens, told costs, lower bounds of costs, and usage that is told later."""

import peewee
from peewee import CharField, Model, TextField
from playhouse.migrate import SchemaMigrator

_COUNTS = (
    "web_searches",
    "file_searches",
    "code_containers",
    "tool_calls",
    "images",
    "audio_seconds",
    "video_seconds",
)
_OF_ROWS = (*(f"{name} BIGINT" for name in (*_COUNTS, "told_cost")), "cost_is_minimum BOOLEAN")
_OF_SUMS = tuple(f"{name} BIGINT NOT NULL DEFAULT 0" for name in ("minimum", *_COUNTS, "told_cost", "cost_where_told"))
_COLUMNS = {"request": _OF_ROWS, "hourly_usage": _OF_SUMS, "daily_usage": _OF_SUMS}


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns and the table; processes of the version before leave the columns NULL, and the sums 0."""

    class PendingUsage(Model):
        object_id = CharField(max_length=128, primary_key=True)
        request_id = CharField(max_length=36)
        summed_as = TextField()

        class Meta:
            table_name = "pending_usage"
            indexes = ((("request_id",), False),)

    with db.bind_ctx([PendingUsage]):
        db.create_tables([PendingUsage])
    for table, columns in _COLUMNS.items():
        for column in columns:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
