"""The database: connections, transactions, and all differences between the engines.

`base` is the interface that the rest of the store uses; `sqlite` and `postgresql` implement it.
"""

from store.database.base import Database, Row, RowRefused, Statement
from store.runtime.database_url import is_postgresql, without_password

__all__ = ["Database", "Row", "RowRefused", "Statement", "is_postgresql", "open_database", "without_password"]


def open_database(url: str, timeout: float) -> Database:
    """Return the database of a URL that `database_url.check` has passed; nothing is connected yet."""
    if is_postgresql(url):
        from store.database.postgresql import PostgresqlDatabase  # noqa: PLC0415 - its driver loads only where it is used

        return PostgresqlDatabase(url, timeout)
    from store.database.sqlite import SqliteDatabase  # noqa: PLC0415 - the same

    return SqliteDatabase(url, timeout)
