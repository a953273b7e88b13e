"""Usage that is told later: by another request than the one that used it, in any process, at any time.

A response in the background, a run or a batch is made by one request, and ends after the answer to it. Its id is kept
as pending with that request; the first answer that tells how the object ended books its usage on the request's row.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from store.database import Database, Row, Statement
from store.database.sql import storable
from store.ledger.booking import BOOKED, Booking, book
from store.ledger.pricing import Pricing
from store.ledger.rollups import Addend
from store.ledger.usage import Metered, Source, Told
from store.request import Amounts, Opened

_EXPECT = "INSERT INTO pending_usage (object_id, request_id, summed_as)"
_EXPECTED_ALREADY = "ON CONFLICT (object_id) DO NOTHING"
_END = "DELETE FROM pending_usage WHERE object_id = ? RETURNING request_id, summed_as"

_OF_ROW = (
    *("id", "started_at", "project_id", "token_id", "endpoint"),
    *("status", "request_bytes", "response_bytes"),
)
_ROWS = f"SELECT {', '.join((*_OF_ROW, *BOOKED))} FROM request WHERE settled_at IS NOT NULL AND"  # noqa: S608 - no data
_BOOK = f"UPDATE request SET {', '.join(f'{name} = ?' for name in BOOKED)} WHERE id = ?"  # noqa: S608 - no data


class Pending(NamedTuple):
    """An object whose usage is not known yet, the request that made it, and the model that this is summed up under."""

    object_id: str
    request_id: str
    summed_as: str


class Change(NamedTuple):
    """The change of a row: what undoes its earlier part in the sums, and its model and the amounts that it adds now."""

    opened: Opened
    undoes: Addend
    model: str | None
    amounts: Sequence[int]
    counted: Amounts
    """The change of what it counts against limits of tokens and of money."""


def expect(database: Database, pending: Sequence[Pending]) -> None:
    """Keep objects as pending; inside the transaction that settles the requests which made them."""
    for found in database.tables(["TEXT"] * 3, pending):
        database.run(f"{_EXPECT} {found.sql} {_EXPECTED_ALREADY}", found.parameters)


def book_told(database: Database, pricing: Pricing, told: Sequence[tuple[Told, str | None]]) -> list[Change]:
    """Book usages, each told by an upstream (its origin), on the rows of the requests that made the objects.

    Inside a writing transaction. Each object is booked once: later answers that tell the same find it no more.
    """
    usages = {storable(each.object_id): (each, upstream) for each, upstream in told}
    rows = _lock(database, [*usages]) if usages else {}
    changes = []
    for object_id in sorted(usages) if rows else ():
        for request_id, summed_as in database.execute(_END, (object_id,)):
            each, upstream = usages[object_id]
            if request_id in rows and each.consumptions:
                row = _Row.of(rows[request_id], summed_as)
                booking = row.counting(book(pricing, row.opened, upstream, row.status, row.metered(each)))
                database.run(_BOOK, (*booking.columns, request_id))
                changes.append(row.change(booking))
    return changes


class _Row(NamedTuple):
    """The row of a request that made an object, before the usage of that is booked."""

    opened: Opened
    status: int | None
    request_bytes: int | None
    response_bytes: int | None
    before: Booking
    summed_as: str

    @classmethod
    def of(cls, row: Row, summed_as: str) -> Self:
        """Read the columns of _ROWS."""
        status, request_bytes, response_bytes = row[5:8]
        return cls(Opened(*row[:5]), status, request_bytes, response_bytes, Booking.of_row(row[8:]), summed_as)

    def metered(self, told: Told) -> Metered:
        return Metered(Source.OBSERVED, told.consumptions, self.before.model_asked, told.model or self.before.model)

    def counting(self, booking: Booking) -> Booking:
        """Have budgets go on counting what they did, where the cost is still not known."""
        counted = booking.counted
        return booking if booking.cost is not None else booking.counting(counted._replace(usd=self.before.counted.usd))

    def change(self, booking: Booking) -> Change:
        opened, sizes = self.opened, (self.request_bytes, self.response_bytes)
        key = (opened.project_id, opened.token_id, self.summed_as, opened.endpoint)
        undoes = Addend(opened.started_at, key, self.before.amounts(*sizes)).negated()
        more = booking.counted.minus(self.before.counted)
        return Change(opened, undoes, booking.model, booking.amounts(*sizes), more)


def _lock(database: Database, object_ids: Sequence[str]) -> Mapping[str, Row]:
    """Lock the rows of the requests that made these objects; return them by id."""
    objects = database.among("object_id", object_ids)
    pending = database.execute(
        f"SELECT request_id FROM pending_usage WHERE {objects.sql}",  # noqa: S608 - no data
        objects.parameters,
    )
    if not pending:
        return {}
    requests = database.among("id", [request_id for (request_id,) in pending])
    rows = database.lock_rows(Statement(f"{_ROWS} {requests.sql} ORDER BY id", requests.parameters))
    return {row[0]: row for row in rows}
