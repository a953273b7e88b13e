"""Backs up the store: copies it into one file while other processes read and write it.

SQLite's own online backup copies the pages of one snapshot: the transaction that reads it begins first, and is held to
the end. Without it the copying would start over whenever another process writes, and never end beside busy proxies.
`VACUUM INTO` reads a snapshot too, but its number of rows cannot be known. The copying blocks no other process; but the
write-ahead log cannot be reset during it, and grows with every write.

The store is copied as it is, whatever its version, and no key is needed: ciphertexts stay encrypted.
"""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from store.errors import BackupFailed

PAGES = 1_000
"""Pages (of 4 KiB) that are copied between two checks whether to stop."""

OPERATIONS = 1_000_000
"""Steps of SQLite's virtual machine between two such checks while the copy is verified: some 10 ms."""


class Backup(NamedTuple):
    """The result: the rows of each table, and the bytes of the file."""

    rows: Mapping[str, int]
    size: int


class _Stopped(Exception):
    """The caller wants the backup to stop."""


def back_up(store: Path, file: Path, stopped: Callable[[], bool]) -> Backup:
    """Copy the SQLite database `store` into a new `file`, which only its owner may read.

    The copy gets its name once it is complete, durable and verified: its pages and indexes, its foreign keys, and that
    each table has as many rows as in the snapshot. Raises BackupFailed when there is no store, when `file` exists,
    when anything goes wrong, and soon after `stopped` returns True; then nothing is left.
    """
    if os.path.lexists(file):
        raise _exists(file)
    try:
        _require_there(store)
        with _temporary(file) as copy:
            rows = _copy(store, copy, stopped)
            _publish(copy, file)
            return Backup(rows, file.stat().st_size)
    except _Stopped:
        raise BackupFailed("Stopped by a signal; no backup was made.") from None
    except sqlite3.Error as error:
        raise BackupFailed(f"No backup was made: {error}.") from error
    except OSError as error:
        raise BackupFailed(f"No backup was made: {error.strerror}: {error.filename or file}.") from error


def _exists(file: Path) -> BackupFailed:
    return BackupFailed(f"{file} is there already, and a backup replaces nothing: name another file.")


def _require_there(store: Path) -> None:
    """Raise BackupFailed for a file that does not exist, OSError where that cannot be checked."""
    try:
        store.stat()
    except FileNotFoundError:
        raise BackupFailed(f"No backup was made: there is no store at {store}.") from None


@contextlib.contextmanager
def _temporary(file: Path) -> Iterator[Path]:
    """Make a file beside `file`; remove it at the end, with the files that SQLite may have left beside it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.absolute().parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(name + suffix).unlink(missing_ok=True)


def _copy(store: Path, copy: Path, stopped: Callable[[], bool]) -> Mapping[str, int]:
    """Copy a snapshot and verify the copy; return its rows by table. Raises sqlite3.Error, BackupFailed, _Stopped."""

    def check_stopped(*_: int) -> None:
        if stopped():
            raise _Stopped

    with _connected(store, "ro") as source, _connected(copy, "rw") as target:
        source.execute("BEGIN")
        expected = _rows(source)  # the snapshot is that of the first read
        target.execute("PRAGMA synchronous = OFF")  # it is synchronized once, at the end
        source.backup(target, pages=PAGES, progress=check_stopped)
        target.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
        target.set_progress_handler(stopped, OPERATIONS)
        try:
            _check(target, expected)
        except sqlite3.OperationalError:
            check_stopped()  # the handler has interrupted it
            raise
    return expected


@contextlib.contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        yield connection


def _rows(connection: sqlite3.Connection) -> Mapping[str, int]:
    """Count the rows of each table. Raises BackupFailed where there is no store."""
    select = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    tables = [name for (name,) in connection.execute(select)]
    if "token" not in tables:
        raise BackupFailed("No backup was made: there is no store in the database.")
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}  # noqa: S608


def _check(copy: sqlite3.Connection, expected: Mapping[str, int]) -> None:
    (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise BackupFailed(f"No backup was made: the copy, and so the store, is damaged: {found}.")
    if copy.execute("PRAGMA foreign_key_check").fetchone():
        raise BackupFailed("No backup was made: the store is damaged: a row refers to one that is not there.")
    if _rows(copy) != expected:
        raise BackupFailed("No backup was made: the copy has not the rows of the store.")


def _publish(copy: Path, file: Path) -> None:
    """Make a copy durable under its name, without ever replacing a file."""
    _synchronize(copy)
    try:
        os.link(copy, file)
    except FileExistsError:
        raise _exists(file) from None
    except OSError:  # a file system without hard links
        copy.rename(file)
    _synchronize(file.absolute().parent)


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
