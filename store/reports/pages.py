"""Lists page by page, newest first.

A page begins after the last row of the previous one, whose time and id are the cursor: rows that are added meanwhile do
not shift it, and a page far back is as fast as the first.
"""

import base64
import re
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from store.errors import InvalidRequest

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}")


class Cursor(NamedTuple):
    """The row after which a page begins: its time, in microseconds, and its id."""

    time: int
    row_id: str

    def __str__(self) -> str:
        """Return it as 32 characters that need no escaping in a query; every such text is a cursor."""
        packed = struct.pack(">q16s", self.time, uuid.UUID(self.row_id).bytes)
        return base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor. Raises InvalidRequest."""
        if _CURSOR.fullmatch(text) is None:
            raise InvalidRequest("The cursor is invalid: send the one of the page before, unchanged.")
        time, row_id = struct.unpack(">q16s", base64.urlsafe_b64decode(text))
        return cls(time, str(uuid.UUID(bytes=row_id)))


@dataclass(frozen=True, slots=True)
class Page[Record]:
    """Records, newest first, and the cursor of the next page, if there is one."""

    records: Sequence[Record]
    next_cursor: Cursor | None

    @classmethod
    def of(cls, found: Sequence[Record], limit: int, cursor: Callable[[Record], Cursor]) -> Self:
        """Return a page of up to `limit` records; of one more that was found, it tells only that it is there."""
        records = found[:limit]
        return cls(records, cursor(records[-1]) if len(found) > limit else None)
