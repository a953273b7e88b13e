"""Compares the rows of two tables, in any order, without keeping them."""

import hashlib
from collections.abc import Iterable

from store.database import Row

_SIZE = 32


class Digest:
    """The number of some rows, and the sum of their hashes."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, whose values have a `repr` that no other value has."""
        for row in rows:
            self.rows += 1
            self._sum += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=_SIZE).digest())

    def text(self) -> str:
        """Return the sum in hexadecimal."""
        return f"{self._sum % 2 ** (8 * _SIZE):0{2 * _SIZE}x}"
