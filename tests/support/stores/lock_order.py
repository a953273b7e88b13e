"""Checks that every transaction locks rows in the order of LOCK_ORDER."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from store.database import Database, Statement
from store.database.locks import LOCK_ORDER
from store.database.postgresql import PostgresqlDatabase
from store.database.sqlite import SqliteDatabase

_SELECTED = re.compile(r"\bFROM (\w+)")
_CHANGED = re.compile(r"\bUPDATE (\w+) SET\b|\bINSERT INTO (\w+)\b.*\bDO UPDATE\b", re.DOTALL)


class _Recorder(threading.local):
    """The tables in which a thread's transaction has locked rows, in the order of their first locks."""

    def __init__(self, out_of_order: list[tuple[str, ...]]) -> None:
        self._out_of_order = out_of_order
        self.tables: tuple[str, ...] = ()

    def add(self, table: str) -> None:
        if table in LOCK_ORDER and table not in self.tables:
            self.tables += (table,)
            if list(self.tables) != sorted(self.tables, key=LOCK_ORDER.index):
                self._out_of_order.append(self.tables)


@contextlib.contextmanager
def recorded() -> Iterator[list[tuple[str, ...]]]:
    """Collect the tables of transactions that lock rows out of order, by SELECT FOR UPDATE or by UPDATE.

    Rows that are deleted do not count: they are locked before, or no other transaction changes them.
    """
    out_of_order: list[tuple[str, ...]] = []
    recorder = _Recorder(out_of_order)
    with pytest.MonkeyPatch.context() as patch:
        for engine in (SqliteDatabase, PostgresqlDatabase):
            _wrap(patch, engine, recorder)
        yield out_of_order


def _wrap(patch: pytest.MonkeyPatch, engine: type[Database], recorder: _Recorder) -> None:
    write, savepoint, lock_rows, read_locked = engine.write, engine.savepoint, engine.lock_rows, engine.read_locked

    @contextlib.contextmanager
    def recorded_write(self: Database, **options: Any) -> Iterator[None]:
        recorder.tables = ()
        with write(self, **options):
            yield

    @contextlib.contextmanager
    def recorded_savepoint(self: Database) -> Iterator[None]:
        before = recorder.tables
        try:
            with savepoint(self):
                yield
        except BaseException:
            recorder.tables = before  # its locks are released
            raise

    def recorded_lock_rows(self: Database, select: Statement) -> Any:
        recorder.add(_table(_SELECTED, select.sql))
        return lock_rows(self, select)

    def recorded_read_locked(self: Database, locks: Sequence[Statement], select: Statement) -> Any:
        for lock in locks:
            recorder.add(_table(_SELECTED, lock.sql))
        return read_locked(self, locks, select)

    patch.setattr(engine, "write", recorded_write)
    patch.setattr(engine, "savepoint", recorded_savepoint)
    patch.setattr(engine, "lock_rows", recorded_lock_rows)
    patch.setattr(engine, "read_locked", recorded_read_locked)
    for name in ("execute", "update", "run"):
        patch.setattr(engine, name, _recorded_statement(getattr(engine, name), recorder))


def _recorded_statement(method: Callable[..., Any], recorder: _Recorder) -> Callable[..., Any]:
    def run(self: Database, sql: str, parameters: Sequence[object] = ()) -> Any:
        recorder.add(_table(_CHANGED, sql))
        return method(self, sql, parameters)

    return run


def _table(pattern: re.Pattern[str], sql: str) -> str:
    found = pattern.search(sql)
    return next(filter(None, found.groups())) if found else ""
