"""The database: connections, transactions, and all that differs between one engine and another.

`base` says what the rest of the store may expect of any engine; `sqlite` and `postgresql` do it.
"""

from store.database.base import Database, Row, RowRefused, Statement
from store.runtime.database_url import is_postgresql, without_password

__all__ = ["Database", "Row", "RowRefused", "Statement", "is_postgresql", "open_database", "without_password"]


def open_database(url: str, timeout: float) -> Database:
    """Make the database of a URL that `database_url.check` has passed; nothing is connected yet."""
    if is_postgresql(url):
        from store.database.postgresql import PostgresqlDatabase  # noqa: PLC0415 - its driver is for those who use it

        return PostgresqlDatabase(url, timeout)
    from store.database.sqlite import SqliteDatabase  # noqa: PLC0415 - alike

    return SqliteDatabase(url, timeout)
