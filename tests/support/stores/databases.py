"""PostgreSQL databases that tests reuse: making one takes a hundred times as long as emptying it."""

import contextlib
from collections.abc import Iterator

import psycopg

from support.stores.postgresql import Server

_SHAPE = """
SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
    SELECT relname || relkind::text AS part FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT attrelid::regclass::text || attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT name FROM schema_migration
) AS parts
"""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migration'"


class Databases:
    """Copies of a template with empty tables; one whose tables a test has changed is not reused."""

    def __init__(self, server: Server, template: str) -> None:
        self._server = server
        self._template = template
        self._free: list[str] = []
        with psycopg.connect(server.url(template)) as connection:
            self._shape = _read(connection, _SHAPE)

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """Lend the URL of an empty one."""
        url = self._free.pop() if self._free else self._server.make_database(self._template)
        yield url
        with contextlib.suppress(psycopg.Error):  # it is still in use, or no longer exists
            if self._is_emptied(url):
                self._free.append(url)

    def _is_emptied(self, url: str) -> bool:
        """Empty a database over one connection (the costliest part); return whether it is like new then."""
        with psycopg.connect(url) as connection:
            if _read(connection, _SHAPE) != self._shape:
                return False
            connection.execute("SET lock_timeout = '1s'")
            for (table,) in _read(connection, f"{_TABLES} ORDER BY tablename = 'project'"):
                connection.execute(f"DELETE FROM {table}".encode())  # noqa: S608 - a table's name
        return True


def _read(connection: psycopg.Connection, sql: str) -> list[tuple[str, ...]]:
    return connection.execute(sql.encode()).fetchall()
