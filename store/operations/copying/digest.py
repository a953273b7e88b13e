"""Whether two tables have the same rows, in whatever order they come and however many they are."""

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
        """Take in more rows, of values whose `repr` tells them from all others."""
        for row in rows:
            self.rows += 1
            self._sum += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=_SIZE).digest())

    def text(self) -> str:
        """Write the sum in hexadecimal."""
        return f"{self._sum % 2 ** (8 * _SIZE):0{2 * _SIZE}x}"
