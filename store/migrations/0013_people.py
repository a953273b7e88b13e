"""People: administrators with tokens of their own, and the audit of all changes."""

import peewee
from playhouse.migrate import SchemaMigrator

_ADMIN = (
    "CREATE TABLE admin (id VARCHAR(36) NOT NULL PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,"
    " lookup VARCHAR(64), is_active BOOLEAN NOT NULL, created_at BIGINT NOT NULL)"
)
_AUDIT = (
    "CREATE TABLE audit (id VARCHAR(36) NOT NULL PRIMARY KEY, changed_at BIGINT NOT NULL, actor TEXT NOT NULL,"
    " action TEXT NOT NULL, object_id VARCHAR(36), object_name TEXT, project_id VARCHAR(36), changes TEXT NOT NULL,"
    " ids TEXT, address TEXT, request_id VARCHAR(36))"
)
_STATEMENTS = (
    _ADMIN,
    "CREATE UNIQUE INDEX admin_name ON admin (name)",
    "CREATE UNIQUE INDEX admin_lookup ON admin (lookup)",
    _AUDIT,
    "CREATE INDEX audit_changed_at ON audit (changed_at, id)",
    "CREATE INDEX audit_object_id ON audit (object_id, changed_at, id)",
    "CREATE INDEX audit_project_id ON audit (project_id, changed_at, id)",
    # For the few rows of changes that were made in parts: they are searched for an id among theirs.
    "CREATE INDEX audit_parts ON audit (changed_at, id) WHERE ids IS NOT NULL",
)


def up(_migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the tables; processes of the version before write to neither."""
    for statement in _STATEMENTS:
        db.execute_sql(statement)
