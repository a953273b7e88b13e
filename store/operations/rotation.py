"""Rotation: encrypts all ciphertexts with the first key of the ring, while the store is in use.

Each batch is read, encrypted again and written in one short transaction, so that admissions hardly wait. A row is
written only if it has not changed since it was read: a key that was replaced in between stays. Batches need no order
and leave nothing to clean up: however a rotation ends, the ring still opens the store, and the next rotation does the
rest.

Rows that are under the first key already are not read, damaged or not.

A process that still encrypts with another key may insert rows during a pass; passes repeat until one finds nothing to
do.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from store.database.transactions import transact
from store.encryption.crypto import HEADER_SIZE, AssociatedData, DecryptionError
from store.management import audit
from store.management.audit import Subject, Versions
from store.store import Store

BATCH = 100
"""Maximum rows in one transaction: it takes one or two milliseconds."""

PAUSE = 0.01
"""Seconds after a batch, in which requests get the lock, and the processor: most of the time."""


class _Column(NamedTuple):
    """A column that holds ciphertexts, in a table whose primary key is `key`."""

    table: str
    key: str
    name: str
    associated_data: AssociatedData


SEALED = (
    _Column("project", "id", "sealed_api_key", AssociatedData.API_KEY),
    _Column("token", "id", "sealed_value", AssociatedData.TOKEN),
    # Last, so that the new key alone does not open a store whose rotation is unfinished.
    _Column("secret", "name", "sealed", AssociatedData.SECRET),
)


class Unreadable(NamedTuple):
    """A row that no key of the ring decrypts; it stays as it is."""

    table: str
    row_id: str
    reason: str


class Rotation:
    """Encrypts a store again. `resealed` counts the rows done, by table; `unreadable` are those of the last pass."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._vault = store.vault
        self.resealed: Counter[str] = Counter()
        self.unreadable: list[Unreadable] = []

    def batches(self) -> Iterator[None]:
        """Do one batch after the other, until a whole pass finds nothing to do.

        The caller may stop after any of them. Raises StoreLocked or StoreUnavailable; the batches before are written.
        """
        found = True
        while found:
            found = False
            self.unreadable.clear()
            for column in SEALED:
                for rows in self._outdated(column):
                    found |= self._reseal(column, rows)
                    yield
                    time.sleep(PAUSE)

    def _outdated(self, column: _Column) -> Iterator[list[tuple[str, bytes]]]:
        """Read the ids and ciphertexts of the rows that are not under the first key, a batch at a time."""
        select = (
            f"SELECT {column.key}, {column.name} FROM {column.table} WHERE {column.key} > ?"  # noqa: S608 - no data
            # On SQLite a part of an empty ciphertext is NULL, which differs from nothing.
            f" AND (length({column.name}) < {HEADER_SIZE} OR substr({column.name}, 1, {HEADER_SIZE}) <> ?)"
            f" ORDER BY {column.key} LIMIT ?"
        )
        last = ""
        while True:
            with self._database.read():
                found = self._database.execute(select, (last, self._vault.ring.first_header, BATCH))
            if not found:
                return
            yield [(row_id, bytes(sealed)) for row_id, sealed in found]
            last = found[-1][0]

    def _reseal(self, column: _Column, rows: list[tuple[str, bytes]]) -> bool:
        """Encrypt rows again and write them; return whether any of them could be decrypted."""
        changes = []
        for row_id, sealed in rows:
            try:
                changes.append((self._vault.reseal(column.associated_data, row_id, sealed), row_id, sealed))
            except DecryptionError as error:
                self.unreadable.append(Unreadable(column.table, row_id, str(error)))
        if changes:
            self.resealed[column.table] += transact(self._database, lambda: self._write(column, changes))
        return bool(changes)

    def _write(self, column: _Column, changes: Sequence[tuple[bytes, str, bytes]]) -> int:
        """Write ciphertexts in the place of those that they were made of; return how many were still there."""
        update = f"UPDATE {column.table} SET {column.name} = ? WHERE {column.key} = ? AND {column.name} = ?"  # noqa: S608
        written = [change[1] for change in changes if self._database.update(update, change)]
        if written:
            versions = Versions({"encryption_key": audit.SET}, {"encryption_key": audit.REPLACED})
            subject = Subject(None, name=column.table)
            audit.record(self._database, "encryption_key.rotate", subject, versions, written)
        return len(written)
