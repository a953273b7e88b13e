"""The ledger of requests, its sums, the processes that write it, and prices of the operator's own."""

import peewee
from peewee import SQL, BigIntegerField, BooleanField, CharField, CompositeKey, IntegerField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Create the tables, and take the counts that are older than the ledger as the opening balances."""

    class Request(Model):
        id = CharField(max_length=36, primary_key=True)
        instance_id = CharField(max_length=36)
        started_at = BigIntegerField()
        project_id = CharField(max_length=36)
        token_id = CharField(max_length=36)
        method = TextField()
        path = TextField()
        endpoint = TextField()
        settled_at = BigIntegerField(null=True)
        usage_source = TextField(null=True)
        upstream_request_id = TextField(null=True)
        model_asked = TextField(null=True)
        model = TextField(null=True)
        status = IntegerField(null=True)
        streamed = BooleanField(null=True)
        duration_ms = BigIntegerField(null=True)
        first_byte_ms = BigIntegerField(null=True)
        request_bytes = BigIntegerField(null=True)
        response_bytes = BigIntegerField(null=True)
        input_tokens = BigIntegerField(null=True)
        cached_input_tokens = BigIntegerField(null=True)
        output_tokens = BigIntegerField(null=True)
        reasoning_tokens = BigIntegerField(null=True)
        input_audio_tokens = BigIntegerField(null=True)
        output_audio_tokens = BigIntegerField(null=True)
        cost = BigIntegerField(null=True)
        price = TextField(null=True)

        class Meta:
            indexes = (
                (("started_at", "id"), False),
                (("token_id", "started_at", "id"), False),
                (("project_id", "started_at", "id"), False),
            )

    Request.add_index(SQL("CREATE INDEX request_open ON request (instance_id) WHERE settled_at IS NULL"))

    class Sums(Model):
        start = BigIntegerField()
        project_id = CharField(max_length=36)
        token_id = CharField(max_length=36)
        model = TextField()
        endpoint = TextField()
        requests = BigIntegerField()
        observed = BigIntegerField()
        estimated = BigIntegerField()
        unpriced = BigIntegerField()
        request_bytes = BigIntegerField()
        response_bytes = BigIntegerField()
        input_tokens = BigIntegerField()
        cached_input_tokens = BigIntegerField()
        output_tokens = BigIntegerField()
        reasoning_tokens = BigIntegerField()
        input_audio_tokens = BigIntegerField()
        output_audio_tokens = BigIntegerField()
        cost = BigIntegerField()

        class Meta:
            primary_key = CompositeKey("start", "project_id", "token_id", "model", "endpoint")

    class HourlyUsage(Sums):
        class Meta:
            table_name = "hourly_usage"

    class DailyUsage(Sums):
        class Meta:
            table_name = "daily_usage"
            indexes = ((("token_id",), False), (("project_id",), False))

    class Instance(Model):
        id = CharField(max_length=36, primary_key=True)
        beats = BigIntegerField()

    class Price(Model):
        id = CharField(max_length=36, primary_key=True)
        project_id = CharField(max_length=36)
        model = TextField()
        rates = TextField()
        updated_at = BigIntegerField()

        class Meta:
            indexes = ((("project_id", "model"), True),)

    class FormerProject(Model):
        id = CharField(max_length=36, primary_key=True)
        name = TextField()

        class Meta:
            table_name = "former_project"

    made = (Request, HourlyUsage, DailyUsage, Instance, Price, FormerProject)
    with db.bind_ctx(made):
        db.create_tables(made)
    db.execute_sql("ALTER TABLE token ADD COLUMN opening_count BIGINT NOT NULL DEFAULT 0")
    db.execute_sql("UPDATE token SET opening_count = request_count")
