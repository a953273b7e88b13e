"""Copies a store: reads a snapshot of the source, which may be in use, and writes all of it into the target or nothing.

The target's tables are locked from the beginning to the end, and a process that starts on it waits. The copy is read
back and compared before it is committed, so that no process ever sees a copy that differs.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from store import schema
from store.database import Database, Row, RowRefused
from store.encryption.crypto import DecryptionError
from store.errors import CopyFailed, StoreLocked, StoreUnavailable
from store.ledger.instances import HEARTBEAT
from store.operations.copying import mark
from store.operations.copying.digest import Digest
from store.operations.copying.tables import TABLES, Table
from store.operations.rotation import SEALED
from store.store import Store

BATCH = 2_000
"""Rows that are in memory at a time, and are copied between two checks whether to stop."""

TIME = 24 * 60 * 60.0
"""Maximum seconds of a copy."""

PATIENCE = 2.0
"""Seconds that it waits for other users of the target."""

_ORIGIN = "the store of a copy"
_BEATS = "SELECT id, beats FROM instance"


class Copied(NamedTuple):
    """The result: rows by table, the number of texts that had to be changed, the rows whose ciphertext no key opens.

    `source_in_use`: whether a process used the source, by its heartbeat.
    """

    rows: dict[str, int]
    replaced: int
    unreadable: list[str]
    source_in_use: bool


def copy(source: Store, target: Database, stopped: Callable[[], bool]) -> Copied:
    """Copy the source into the target, in place of an earlier copy.

    Raises CopyFailed when the target holds anything else, when a row does not fit, when anything goes wrong, and soon
    after `stopped` returns True: then the target is unchanged, but that an empty one may have got its tables. Raises
    StartupError for a target whose schema is newer than this code.
    """
    return _Copier(source, target, stopped).run()


class _Copier:
    def __init__(self, source: Store, target: Database, stopped: Callable[[], bool]) -> None:
        self._source = source.database
        self._vault = source.vault
        self._target = target
        self._stopped = stopped
        self._replaced = 0
        self._unreadable: list[str] = []

    def run(self) -> Copied:
        began = time.monotonic()
        with _faults_of("source"), self._source.read():
            beats: dict[str, int] = dict(self._source.execute(_BEATS))
        with _faults_of("target"):
            self._require_usable_target()
            with self._target.schema.exclusive():
                schema.migrate(self._target)
                digests = self._replace()
        return Copied(
            {name: digest.rows for name, digest in digests.items()},
            self._replaced,
            self._unreadable,
            self._is_in_use(beats, began),
        )

    def _require_usable_target(self) -> None:
        if schema.pending(self._target) and not schema.is_new(self._target):
            raise CopyFailed("The target holds a store of an older version. Name an empty database.")

    def _replace(self) -> mark.Digests:
        """Write the copy in one transaction, and return its digests."""
        origin = self._vault.lookup(_ORIGIN)  # the same as long as the store exists, and discloses nothing
        names = [table.name for table in TABLES]
        with self._target.write(deadline=time.monotonic() + TIME, patience=PATIENCE):
            self._target.bulk.lock(names)
            mark.require_replaceable(self._target, origin, {table.name: self._found(table) for table in TABLES})
            self._target.bulk.empty(names)
            with _faults_of("source"), self._source.snapshot(limit=TIME):
                digests = {table.name: self._load(table) for table in TABLES}
            for table in TABLES:
                self._compare(table, digests[table.name])
            mark.write(self._target, origin, digests)
            self._check_stopped()
        return digests

    def _load(self, table: Table) -> Digest:
        self._require_parents(table)
        digest = Digest()
        for rows in self._source.bulk.stream(table.select, BATCH):
            self._check_stopped()
            fitted = [table.fitted(row) for row in rows]
            self._replaced += _count_replaced(rows, fitted)
            digest.add(fitted)
            with _faults_of("target"):
                self._write(table, fitted)
        return digest

    def _require_parents(self, table: Table) -> None:
        for select in table.orphans:
            for row in self._source.execute(select):
                raise CopyFailed(f"{table.named(row)}: it refers to a row that is not there.")

    def _write(self, table: Table, rows: list[Row]) -> None:
        try:
            self._target.bulk.load(table.name, table.columns, rows)
        except RowRefused as refused:
            name = table.name if refused.index is None else table.named(rows[refused.index])
            raise CopyFailed(f"{name}: the target refuses it: {refused}.") from None

    def _found(self, table: Table) -> Digest:
        """Return the digest of a table of the target."""
        digest = Digest()
        for rows in self._target.bulk.stream(table.select, BATCH):
            self._check_stopped()
            digest.add([table.fitted(row) for row in rows])
        return digest

    def _compare(self, table: Table, expected: Digest) -> None:
        """Read back a table, compare it, and try to decrypt its ciphertexts."""
        found = Digest()
        for rows in self._target.bulk.stream(table.select, BATCH):
            self._check_stopped()
            fitted = [table.fitted(row) for row in rows]
            found.add(fitted)
            self._try_ciphertexts(table, fitted)
        if (found.rows, found.text()) != (expected.rows, expected.text()):
            raise CopyFailed(f"{table.name}: what the target has differs from what was copied.")

    def _try_ciphertexts(self, table: Table, rows: list[Row]) -> None:
        for column in SEALED:
            if column.table == table.name:
                key, sealed = table.columns.index(column.key), table.columns.index(column.name)
                for row in rows:
                    try:
                        self._vault.ring.decrypt(row[sealed], column.associated_data.of(row[key]))
                    except DecryptionError:
                        self._unreadable.append(table.named(row))

    def _check_stopped(self) -> None:
        if self._stopped():
            raise CopyFailed("Stopped by a signal.")

    def _is_in_use(self, beats: dict[str, int], began: float) -> bool:
        """Tell whether any heartbeat has risen since the copy began; wait until each had the time to."""
        if beats:
            time.sleep(max(0.0, began + HEARTBEAT * 1.2 - time.monotonic()))
        with _faults_of("source"), self._source.read():
            return any(beats.get(name) != count for name, count in self._source.execute(_BEATS))


def _count_replaced(rows: list[Row], fitted: list[Row]) -> int:
    if rows == fitted:
        return 0
    changed = Counter(
        old != new for before, after in zip(rows, fitted, strict=True) for old, new in zip(before, after, strict=True)
    )
    return changed[True]


@contextlib.contextmanager
def _faults_of(side: str) -> Iterator[None]:
    """Raise faults of a side, source or target, as CopyFailed, which names it."""
    try:
        yield
    except StoreLocked as error:
        raise CopyFailed(f"The {side} is in use: {error.__cause__}.") from error
    except StoreUnavailable as error:
        raise CopyFailed(f"The {side} does not answer: {error.__cause__}.") from error
