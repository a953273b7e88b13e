"""The ledger: a row for each admitted request, opened with its count and settled once, with how the request ended.

Its methods run inside the transactions of their callers (`admission`, `housekeeping`), so that a count has its row, and
a settled row is in the sums of its hour and day, or neither is. Sums are by the time of the admission.
"""

import functools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from store.clock import DAY
from store.database import Database, Statement
from store.database.models import UPSTREAM_ID_LENGTH
from store.database.sql import storable
from store.database.transactions import attempt
from store.ledger import late_usage, rollups, totals
from store.ledger.booking import BOOKED, RARE, Booking, amounts_of, book, is_priced
from store.ledger.pricing import Pricing
from store.ledger.rollups import OTHER_MODELS, Addend
from store.ledger.usage import Metered, Source
from store.limits.holds import Counted
from store.request import Amounts, Opened, Opening

_log = logging.getLogger(__name__)

MAX_MODELS = 200
"""Models of a project in a day that have sums of their own; others are OTHER_MODELS."""

MAX_DAYS = 1000
"""Pairs of a project and a day whose models are remembered for that."""


class Outcome(NamedTuple):
    """The end of a request, without its usage; None is unknown. Times are milliseconds since its arrival."""

    status: int | None = None
    streamed: bool | None = None
    duration_ms: int | None = None
    first_byte_ms: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    upstream_request_id: str | None = None
    upstream: str | None = None
    """The origin that answered, which determines whose prices hold."""
    code: str | None = None
    """The code of the error with which the gateway ended it; None for one that came to its own end."""
    may_cost: bool = True
    """False where nothing was used without being told: it never went upstream, or the upstream answered an error."""


NEVER_SENT = Outcome(may_cost=False)
"""The end of a request that was admitted, and whose key was not used."""


class Settlement(NamedTuple):
    """The end of a request."""

    opened: Opened
    outcome: Outcome = Outcome()
    metered: Metered = Metered()


class _Entry(NamedTuple):
    """A settlement as it is written: its columns (_SETTLED), and what it adds to the sums."""

    settlement: Settlement
    columns: Sequence[object]
    addend: Addend
    amounts: Amounts
    """The amounts that it counts against limits of tokens and of money."""

    @property
    def request_id(self) -> str:
        return self.settlement.opened.request_id


_OPENED = {
    "id": "TEXT",
    "instance_id": "TEXT",
    "started_at": "BIGINT",
    **dict.fromkeys(("project_id", "token_id", "method", "path", "endpoint", "session_id", "client"), "TEXT"),
    **dict.fromkeys(("reserved_tokens", "reserved_usd"), "BIGINT"),
}
"""The columns of an opened row, with their types."""

_SETTLED = {
    "upstream_request_id": "TEXT",
    "status": "INTEGER",
    "streamed": "BOOLEAN",
    **dict.fromkeys(("duration_ms", "first_byte_ms", "request_bytes", "response_bytes"), "BIGINT"),
    "code": "TEXT",
    **BOOKED,
}
"""The columns that a settlement writes, with their types."""

_OPEN = f"INSERT INTO request ({', '.join(_OPENED)})"
_ALL = (*_SETTLED,)
_SELDOM = ("code", *RARE)
_USUAL = tuple(name for name in _ALL if name not in _SELDOM)
_seldom = operator.itemgetter(*[_ALL.index(name) for name in _SELDOM])
_NONE_OF_THESE = (None,) * len(_SELDOM)
_RETURNING = "RETURNING request.id, request.is_limited, request.reserved_tokens, request.reserved_usd"
_RESERVE_MORE = (
    "UPDATE request SET reserved_tokens = COALESCE(reserved_tokens, 0) + more.tokens,"
    " reserved_usd = COALESCE(reserved_usd, 0) + more.usd FROM more WHERE request.id = more.id"
)

_KEEP_UPSTREAM_ID = "INSERT INTO upstream_id (upstream_request_id, request_id)"
_KEPT_ALREADY = "ON CONFLICT (upstream_request_id, request_id) DO NOTHING"

_UNSETTLED = "settled_at IS NULL"
_SETTLED_BY_OTHERS = "duration_ms IS NULL"
_WRITTEN = (
    f"SELECT {', '.join(BOOKED)} FROM request"  # noqa: S608 - no data
    f" WHERE id = ? AND settled_at IS NOT NULL AND {_SETTLED_BY_OTHERS}"
)
"""The usage of a row that others have settled."""


class Ledger:
    """Opens and settles rows. Each thread has its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.pricing = Pricing(database)
        """The prices that rows are settled with."""
        self._models: dict[tuple[int, str], set[str]] = {}

    def open(self, instance_id: str, rows: Sequence[tuple[Opening, Opened]]) -> None:
        """Add the rows of requests that a process admits; inside the transaction that counts them."""
        values = [_opened_row(instance_id, opening, opened) for opening, opened in rows]
        for table in self._database.tables([*_OPENED.values()], values):
            self._database.run(f"{_OPEN} {table.sql}", table.parameters)

    def reserve_more(self, growths: Sequence[tuple[str, Amounts]]) -> None:
        """Raise what open rows have reserved; the rows are locked. One may be named several times."""
        sums: dict[str, Amounts] = {}
        for request_id, more in growths:
            sums[request_id] = sums.get(request_id, Amounts()).plus(more)
        rows = [(request_id, *more) for request_id, more in sorted(sums.items())]
        for table in self._database.tables(["TEXT", "BIGINT", "BIGINT"], rows):
            sql = f"WITH more (id, tokens, usd) AS ({table.sql}) {_RESERVE_MORE}"
            self._database.run(sql, table.parameters)

    def settle(self, settlements: Sequence[Settlement]) -> list[Counted]:
        """Settle rows, each once; inside a writing transaction, which fails if one of them cannot be written.

        A row that another process has settled, believing this one dead, is corrected. Returns what is to be counted
        against limits in the same transaction.
        """
        return self._settle(settlements) if settlements else []

    def settle_each(self, settlements: Sequence[Settlement]) -> list[Counted]:
        """Settle rows as `settle` does; one that cannot be written is reduced, and does not hold up the others."""
        counted = self._try(settlements)
        if counted is not None:
            return counted
        return [each for settlement in settlements for each in self._settle_reduced(settlement)]

    def _settle_reduced(self, settlement: Settlement) -> list[Counted]:
        """Settle a row with as much as can be written: without its usage, or without its outcome too."""
        opened, outcome, _ = settlement
        for reduced in (settlement, Settlement(opened, outcome), Settlement(opened)):
            counted = self._try([reduced])
            if counted is not None:
                if reduced is not settlement:
                    _log.error("a request is settled without its usage or outcome", extra={"request_id": opened[0]})
                return counted
        _log.error("a request cannot be settled", extra={"request_id": opened[0]})
        return []

    def _try(self, settlements: Sequence[Settlement]) -> list[Counted] | None:
        """Settle all rows, or none; None where that was not possible. Raises errors of the database itself."""
        counted: list[Counted] = []
        fault = attempt(self._database, lambda: counted.extend(self.settle(settlements)))
        if fault is not None:
            _log.error("settlements cannot be written", exc_info=fault, extra={"requests": len(settlements)})
        return counted if fault is None else None

    def _settle(self, settlements: Sequence[Settlement]) -> list[Counted]:
        if any(_needs_prices(outcome, metered) for _, outcome, metered in settlements):
            self.pricing.refresh()
        now = self._database.now()
        firsts: dict[str, _Entry] = {}
        again = []
        for settlement in settlements:
            entry = self._entry(settlement)
            if firsts.setdefault(entry.request_id, entry) is not entry:
                again.append(entry)
        settled = self._write(_UNSETTLED, now, [firsts[request_id] for request_id in sorted(firsts)])
        again += [entry for request_id, entry in firsts.items() if request_id not in settled]
        changes = [_Change([firsts[row_id].addend], _counted(firsts[row_id], settled[row_id])) for row_id in settled]
        changes += [change for entry in again if (change := self._correct(entry, now)) is not None]
        changes += self._tell(settlements)
        addends = [addend for change in changes for addend in change.addends]
        rollups.add(self._database, addends)
        totals.note(self._database, addends, now)
        return [change.counted for change in changes if change.counted is not None]

    def _write(self, condition: str, now: int, entries: Sequence[_Entry]) -> "Mapping[str, _Kept]":
        """Settle those rows that meet a condition. Returns what they keep for limits, by their ids."""
        are_usual = condition == _UNSETTLED and all(_seldom(entry.columns) == _NONE_OF_THESE for entry in entries)
        settling = _settling(_USUAL if are_usual else _ALL)  # the others are NULL since the row was opened
        values = [(entry.request_id, *settling.pick(entry.columns)) for entry in entries]
        written: dict[str, _Kept] = {}
        for ended in self._database.tables(settling.types, values):
            sql = f"{settling.begin} ({ended.sql}) {settling.end} AND request.{condition} {_RETURNING}"
            rows = self._database.execute(sql, [*ended.parameters, now])
            written.update((row_id, _Kept(*kept)) for row_id, *kept in rows)
        done = [entry for entry in entries if entry.request_id in written]
        self._keep_upstream_ids([entry.settlement for entry in done])
        late_usage.expect(self._database, [pending for entry in done if (pending := _pending(entry)) is not None])
        return written

    def _keep_upstream_ids(self, settlements: Sequence[Settlement]) -> None:
        """Index settled requests by the upstream's ids."""
        ids = [(_text(outcome.upstream_request_id), opened.request_id) for opened, outcome, _ in settlements]
        kept = [
            (upstream_id, row_id) for upstream_id, row_id in ids if 0 < len(upstream_id or "") <= UPSTREAM_ID_LENGTH
        ]
        for found in self._database.tables(["TEXT", "TEXT"], kept):
            self._database.run(f"{_KEEP_UPSTREAM_ID} {found.sql} {_KEPT_ALREADY}", found.parameters)

    def _tell(self, settlements: Sequence[Settlement]) -> "list[_Change]":
        """Book the usages that requests told of objects that others made."""
        told = [
            (each._replace(object_id=_key(opened, each.object_id)), outcome.upstream)
            for opened, outcome, metered in settlements
            for each in metered.told
        ]
        changes = late_usage.book_told(self._database, self.pricing, told)
        return [
            _Change(
                [change.undoes, self._addend(change.opened, change.model, change.amounts)],
                Counted(change.opened, change.counted),
            )
            for change in changes
        ]

    def _correct(self, entry: _Entry, now: int) -> "_Change | None":
        """Overwrite a row that another process has settled, believing this one dead; None if there is nothing to."""
        opened, outcome, _ = entry.settlement
        if outcome.duration_ms is None:
            return None
        found = self._database.lock_rows(Statement(_WRITTEN, (opened.request_id,)))
        if not found:
            return None
        before = Booking.of_row(found[0])  # the others may have known less of what it had reserved
        self._write(_SETTLED_BY_OTHERS, now, [entry])
        undoes = self._addend(opened, before.model, before.amounts(None, None)).negated()
        return _Change([entry.addend, undoes], Counted(opened, entry.amounts.minus(before.counted)))

    def _entry(self, settlement: Settlement) -> _Entry:
        """Return the columns of a settled row, and what it adds to the sums."""
        opened, outcome, metered = settlement
        booking = book(self.pricing, opened, outcome.upstream, outcome.status, metered)
        amounts = amounts_of(opened, metered, booking.cost, may_cost=outcome.may_cost)
        booking = booking.counting(amounts)
        columns = (  # in the order of _SETTLED
            _text(outcome.upstream_request_id),
            outcome.status,
            outcome.streamed,
            outcome.duration_ms,
            outcome.first_byte_ms,
            outcome.request_bytes,
            outcome.response_bytes,
            outcome.code,
            *booking.columns,
        )
        sums = booking.amounts(outcome.request_bytes, outcome.response_bytes)
        return _Entry(settlement, columns, self._addend(opened, booking.model, sums), amounts)

    def _addend(self, opened: Opened, model: str | None, amounts: Sequence[int]) -> Addend:
        key = (opened.project_id, opened.token_id, self._summed_as(model or "", opened), opened.endpoint)
        return Addend(opened.started_at, key, amounts)

    def _summed_as(self, model: str, opened: Opened) -> str:
        """Return the model under which a row is summed up; beyond MAX_MODELS in a day it is OTHER_MODELS."""
        day = (opened.started_at // DAY, opened.project_id)
        if len(self._models) > MAX_DAYS and day not in self._models:
            self._models.clear()
        models = self._models.setdefault(day, {""})
        if model not in models and len(models) > MAX_MODELS:
            return OTHER_MODELS
        models.add(model)
        return model


class _Change(NamedTuple):
    """The change of a row: of the sums, and of what it counts against limits, if that matters."""

    addends: Sequence[Addend]
    counted: Counted | None


class _Kept(NamedTuple):
    """The part of a row for limits: whether one was set while it was open, and the amounts that are reserved."""

    is_limited: bool | None
    reserved_tokens: int | None
    reserved_usd: int | None


def _counted(entry: _Entry, kept: _Kept) -> Counted | None:
    opened = entry.settlement.opened
    if not (opened.has_slots or kept.is_limited or kept.reserved_tokens is not None):
        return None
    return Counted(opened, entry.amounts, Amounts(kept.reserved_tokens or 0, kept.reserved_usd or 0))


class _Settling(NamedTuple):
    """The statement that settles some columns of rows: what stands before the rows and behind them, and their types."""

    begin: str
    end: str
    types: Sequence[str]
    pick: Callable[[Sequence[object]], Sequence[object]]
    """Returns these columns of all."""


@functools.cache
def _settling(names: Sequence[str]) -> _Settling:
    columns = ", ".join(f"{name} = ended.{name}" for name in names)
    return _Settling(
        f"WITH ended (id, {', '.join(names)}) AS",
        f"UPDATE request SET settled_at = ?, {columns} FROM ended WHERE request.id = ended.id",  # noqa: S608 - no data
        ["TEXT", *(_SETTLED[name] for name in names)],
        operator.itemgetter(*[_ALL.index(name) for name in names]),
    )


def _needs_prices(outcome: Outcome, metered: Metered) -> bool:
    return bool(metered.told) or is_priced(outcome.status, metered)


def _pending(entry: _Entry) -> late_usage.Pending | None:
    """Return the object that a request has made, if its usage is not known yet."""
    metered = entry.settlement.metered
    if metered.pending_id is None or metered.source is Source.OBSERVED:
        return None
    key = _key(entry.settlement.opened, metered.pending_id)
    return late_usage.Pending(storable(key), entry.request_id, entry.addend.model)


def _key(opened: Opened, object_id: str) -> str:
    """Return the key of an object: some upstreams give the same id to objects of several projects."""
    return f"{opened.project_id}/{object_id}"


def _opened_row(instance_id: str, opening: Opening, opened: Opened) -> Sequence[object]:
    return (  # in the order of _OPENED
        opened.request_id,
        instance_id,
        opened.started_at,
        opened.project_id,
        opened.token_id,
        opening.method,
        opening.kept_path,
        storable(opening.endpoint),
        opening.session_id,
        _text(opening.client),
        *(opened.reserved if opened.is_counted else (None, None)),
    )


def _text(text: str | None) -> str | None:
    return text and storable(text)
