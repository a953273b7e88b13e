"""The schema: lists the migrations that a store lacks, and runs them.

The first process to start runs them, each in a transaction of its own; others that start at the same time wait. So a
migration is applied as a whole or not at all, also if the process is killed, and the next start continues from there.

Processes of the version before keep running during a migration, and after it. So a migration only adds: tables, and
columns that are NULL or have a constant default, which neither engine writes into each row. Only what a whole version
has not used any more can be removed or renamed. On PostgreSQL a change of a table blocks all requests for it until the
migration's end: no index is made and no row rewritten on `request`, `token` or a table that can be as large, unless
nothing that runs uses the table yet. (0002 does write its column of all tokens, as the earlier counts have to be those
of that moment.)
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import peewee
from playhouse.migrations import Migration, Runner

from store.database import Database
from store.errors import StartupError, StoreLocked

MIGRATIONS = Path(__file__).with_name("migrations")

PATIENCE = 120.0
"""Seconds for which a migration is tried while requests and reports use its tables."""

PAUSE = 0.5
"""Seconds between two tries, in which requests and reports go on."""

_log = logging.getLogger(__name__)


def pending(database: Database) -> list[str]:
    """Return the migrations that a store lacks, in order, without leaving a trace; all where there is no store yet.

    Raises StartupError for a schema that is newer than this code, StoreUnavailable.
    """
    with database.schema.untouched() as engine:
        if engine is None:
            return [migration.name for migration in Migration.load_directory(str(MIGRATIONS))]
        return [migration.name for migration in _pending(_runner(engine))]


def version() -> str:
    """Return the name of the last migration of this code: an open store has it."""
    return max(path.stem for path in MIGRATIONS.glob("[0-9]*.py"))


def is_new(database: Database) -> bool:
    """Tell whether a store has no migration at all, without leaving a trace. Raises StoreUnavailable."""
    with database.schema.untouched() as engine:
        return engine is None or not _runner(engine).applied()


def migrate(database: Database, tell: Callable[[str], None] = lambda _: None) -> None:
    """Bring the schema up to date; `tell` gets the name of each migration once it is applied.

    To be called inside `database.schema.exclusive()`. Raises StartupError for a schema that is newer than this code,
    StoreLocked when others keep using the tables, StoreUnavailable. Migrations before a failed one stay.
    """
    runner = _runner(database.engine)
    with database.read():
        missing = _pending(runner)
    for migration in missing:
        _apply_patiently(database, runner, migration)
        _log.info("migrated to %s", migration.name)
        tell(migration.name)


def _runner(engine: peewee.Database) -> Runner:
    return Runner(engine, str(MIGRATIONS))


def _pending(runner: Runner) -> list[Migration]:
    status = runner.status()
    unknown = [migration.name for migration in status if migration.path is None]
    if unknown:
        names = ", ".join(unknown)
        raise StartupError(f"The store's schema is newer than this program (it has {names}). Update the program.")
    return [migration for migration in status if not migration.applied]


def _apply_patiently(database: Database, runner: Runner, migration: Migration) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            return _apply(database, runner, migration)
        except StoreLocked as error:
            if time.monotonic() >= give_up:
                raise
            _log.info("%s waits for other users of its tables: %s", migration.name, error.__cause__)
        time.sleep(PAUSE)


def _apply(database: Database, runner: Runner, migration: Migration) -> None:
    module = migration.load()
    with database.schema.migration():
        runner.History.create_table()
        module.up(runner.migrator, database.engine)
        runner.History.create(name=migration.name)
