"""Pages: administrators' sessions in browsers, and the orders of the list of tokens."""

import peewee
from playhouse.migrate import SchemaMigrator

_SESSION = (
    "CREATE TABLE admin_session (lookup VARCHAR(64) NOT NULL PRIMARY KEY, admin_id VARCHAR(36) NOT NULL,"
    " credential VARCHAR(64) NOT NULL, created_at BIGINT NOT NULL, used_at BIGINT NOT NULL, address TEXT,"
    " last_form VARCHAR(64) NOT NULL)"
)
_STATEMENTS = (
    _SESSION,
    "CREATE INDEX admin_session_admin_id ON admin_session (admin_id)",
    # Of columns that no admission writes: it would have to change the index too.
    "CREATE INDEX token_created_at ON token (created_at, id)",
    "CREATE INDEX token_expires_at ON token (expires_at, id)",
    "CREATE INDEX token_name ON token (token_name, id)",
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the table and the indexes; processes of the version before do not know the table."""
    for statement in _STATEMENTS:
        db.execute_sql(statement)
