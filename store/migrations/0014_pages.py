"""Pages: administrators' sessions in browsers."""

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
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the table; processes of the version before do not know it."""
    for statement in _STATEMENTS:
        db.execute_sql(statement)
