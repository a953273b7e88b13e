"""The tables, as peewee models. Their history is in `migrations/`, which creates and changes them.

Ids are UUIDs as text; times are microseconds (see `clock`). The models are bound to a database when the store is
opened.
"""

from peewee import BigIntegerField, BlobField, BooleanField, CharField, ForeignKeyField, Model, TextField

UUID_LENGTH = 36
HMAC_LENGTH = 64


class Project(Model):
    """A team's project: it owns one upstream key."""

    id = CharField(max_length=UUID_LENGTH, primary_key=True)
    name = TextField()
    sealed_api_key = BlobField()
    is_active = BooleanField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()


class Token(Model):
    """A proxy token. `lookup` is the HMAC of its value, `sealed_value` its ciphertext."""

    id = CharField(max_length=UUID_LENGTH, primary_key=True)
    project = ForeignKeyField(Project, on_delete="CASCADE")
    project_id: str  # the foreign key itself, read without a query
    lookup = CharField(max_length=HMAC_LENGTH, unique=True)
    sealed_value = BlobField()
    is_active = BooleanField()
    request_count = BigIntegerField()
    max_requests = BigIntegerField()
    created_at = BigIntegerField()
    expires_at = BigIntegerField()
    last_used_at = BigIntegerField(null=True)


class Secret(Model):
    """The store's own secrets, encrypted by the key ring; `name` says which."""

    name = CharField(max_length=UUID_LENGTH, primary_key=True)
    sealed = BlobField()


MODELS: tuple[type[Model], ...] = (Project, Token, Secret)
