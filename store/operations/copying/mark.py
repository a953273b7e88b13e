"""The mark of a copy in its target: the store that was copied, and the digests of the tables at that time.

The next copy may replace only tables that still have these digests.
"""

from collections.abc import Mapping

from store.database import Database
from store.errors import CopyFailed
from store.operations.copying.digest import Digest
from store.operations.copying.tables import TABLES

type Digests = Mapping[str, Digest]
"""The digest of each table, by its name."""

_MAKE = (
    "CREATE TABLE IF NOT EXISTS copy_mark"
    " (name VARCHAR(36) NOT NULL PRIMARY KEY, rows BIGINT NOT NULL, digest TEXT NOT NULL, origin TEXT NOT NULL)"
)
_READ = "SELECT name, rows, digest, origin FROM copy_mark"
_WRITE = "INSERT INTO copy_mark (name, rows, digest, origin) VALUES (?, ?, ?, ?)"


def require_replaceable(target: Database, origin: str, found: Digests) -> None:
    """Raise CopyFailed unless the target is empty, or an unchanged copy of the store that `origin` identifies.

    `found` are the digests of its tables now. Inside a writing transaction.
    """
    target.run(_MAKE)
    marks = target.execute(_READ)
    if not marks:
        if any(digest.rows for digest in found.values()):
            raise CopyFailed("The target holds a store of its own, which is no copy. Name an empty database.")
        return
    if {row[3] for row in marks} != {origin}:
        raise CopyFailed("The target holds the copy of another store. Name an empty database.")
    was = {name: (rows, digest) for name, rows, digest, _ in marks}
    changed = [name for name, digest in found.items() if was.get(name) != (digest.rows, digest.text())]
    if changed:
        raise CopyFailed(
            "The target has been in use since it was copied: what it has now would be lost, as it differs in"
            f" {', '.join(changed)}. Name an empty database, or empty this one if nothing in it is needed."
        )


def write(target: Database, origin: str, copied: Digests) -> None:
    """Write the mark, in place of the previous one. Inside a writing transaction."""
    target.run("DELETE FROM copy_mark")
    for table in TABLES:
        digest = copied[table.name]
        target.run(_WRITE, (table.name, digest.rows, digest.text(), origin))
