"""Names of tokens, clients' addresses, refused requests, and requests by the upstream's ids."""

import peewee
from peewee import BigIntegerField, CharField, CompositeKey, IntegerField, Model, TextField
from playhouse.migrate import SchemaMigrator

_COLUMNS = (
    "token ADD COLUMN token_name TEXT",
    "project ADD COLUMN api_key_updated_at BIGINT",
    "request ADD COLUMN client TEXT",
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns and the tables; processes of the version before leave the columns NULL."""

    class Refusal(Model):
        id = CharField(max_length=36, primary_key=True)
        started_at = BigIntegerField()
        project_id = CharField(max_length=36)
        token_id = CharField(max_length=36)
        method = TextField()
        path = TextField()
        endpoint = TextField()
        session_id = CharField(max_length=36, null=True)
        client = TextField(null=True)
        status = IntegerField()
        code = TextField()
        repeats = BigIntegerField()

        class Meta:
            indexes = (
                (("started_at", "id"), False),
                (("token_id", "started_at", "id"), False),
                (("project_id", "started_at", "id"), False),
            )

    class UpstreamId(Model):
        upstream_request_id = CharField(max_length=128)
        request_id = CharField(max_length=36)

        class Meta:
            table_name = "upstream_id"
            primary_key = CompositeKey("upstream_request_id", "request_id")

    class FormerToken(Model):
        id = CharField(max_length=36, primary_key=True)
        name = TextField()

        class Meta:
            table_name = "former_token"

    made = (Refusal, UpstreamId, FormerToken)
    with db.bind_ctx(made):
        db.create_tables(made)
    for column in _COLUMNS:
        db.execute_sql(f"ALTER TABLE {column}")
