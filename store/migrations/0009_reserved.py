"""The amounts that limits reserve for a request stand in its row, no longer in a row for each limit."""

import peewee
from playhouse.migrate import SchemaMigrator

_COLUMNS = (
    "request ADD COLUMN reserved_tokens BIGINT",
    "request ADD COLUMN reserved_usd BIGINT",
    "balance ADD COLUMN begun_at BIGINT NOT NULL DEFAULT 0",
)
_PARALLEL = "/parallel"


def up(migrator: SchemaMigrator, db: peewee.Database) -> None:
    """Add the columns, and move what is held for running requests."""
    for column in _COLUMNS:
        db.execute_sql(f"ALTER TABLE {column}")
    place = migrator.database.param
    move = f"UPDATE request SET reserved_tokens = {place}, reserved_usd = {place} WHERE id = {place}"  # noqa: S608
    for request_id, (tokens, usd) in _reserved(db).items():
        db.execute_sql(move, (tokens, usd, request_id))
    db.execute_sql(f"DELETE FROM slot WHERE SUBSTR(balance_id, LENGTH(balance_id) - 8) <> '{_PARALLEL}'")  # noqa: S608
    db.execute_sql("ALTER TABLE slot DROP COLUMN amount")


def _reserved(db: peewee.Database) -> dict[str, list[int]]:
    """Return the tokens and the money that are held for requests, by their ids."""
    found: dict[str, list[int]] = {}
    for request_id, balance_id, amount in db.execute_sql("SELECT request_id, balance_id, amount FROM slot"):
        if not balance_id.endswith(_PARALLEL):
            held = found.setdefault(request_id, [0, 0])
            kind = 1 if balance_id.split("/")[1] == "usd" else 0
            held[kind] = max(held[kind], amount)
    return found
