"""Projects with their sealed upstream keys, tokens, and the store's own secrets."""

import peewee
from peewee import BigIntegerField, BlobField, BooleanField, CharField, ForeignKeyField, Model, TextField
from playhouse.migrate import SchemaMigrator


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Create the tables."""

    class Project(Model):
        id = CharField(max_length=36, primary_key=True)
        name = TextField()
        sealed_api_key = BlobField()
        is_active = BooleanField()
        created_at = BigIntegerField()
        updated_at = BigIntegerField()

    class Token(Model):
        id = CharField(max_length=36, primary_key=True)
        project = ForeignKeyField(Project, on_delete="CASCADE")
        lookup = CharField(max_length=64, unique=True)
        sealed_value = BlobField()
        is_active = BooleanField()
        request_count = BigIntegerField()
        max_requests = BigIntegerField()
        created_at = BigIntegerField()
        expires_at = BigIntegerField()
        last_used_at = BigIntegerField(null=True)

    class Secret(Model):
        name = CharField(max_length=36, primary_key=True)
        sealed = BlobField()

    with db.bind_ctx((Project, Token, Secret)):
        db.create_tables((Project, Token, Secret))
