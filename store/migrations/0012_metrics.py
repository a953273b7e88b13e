"""Metrics: the figures of processes, and what the sums of the ledger and the refusals held until some time."""

import peewee
from peewee import BigIntegerField, CharField, CompositeKey, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Create the tables. They fill by themselves, from the sums of all days and the refusals that are kept."""

    class ProcessFigures(Model):
        instance_id = CharField(max_length=36, primary_key=True)
        figures = TextField()

        class Meta:
            table_name = "process_figures"

    class TotalMark(Model):
        name = CharField(max_length=36, primary_key=True)
        time = BigIntegerField()
        place = CharField(max_length=36)

        class Meta:
            table_name = "total_mark"

    class UsageTotal(Model):
        project_id = CharField(max_length=36)
        model = TextField()
        requests = BigIntegerField()
        input_tokens = BigIntegerField()
        output_tokens = BigIntegerField()
        cost_micros = BigIntegerField()
        cost_rest = BigIntegerField()

        class Meta:
            table_name = "usage_total"
            primary_key = CompositeKey("project_id", "model")

    class RefusalTotal(Model):
        project_id = CharField(max_length=36)
        code = CharField(max_length=64)
        repeats = BigIntegerField()

        class Meta:
            table_name = "refusal_total"
            primary_key = CompositeKey("project_id", "code")

    made = (ProcessFigures, TotalMark, UsageTotal, RefusalTotal)
    with db.bind_ctx(made):
        db.create_tables(made)
