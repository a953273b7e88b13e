"""Totals since the beginning, for counters that never fall: by project and model, and of refusals by project and code.

To add up all days at each scrape would take too long. So the sums of the days that are over are added, once, to a table
of totals, with a mark up to where it holds them; a scrape adds what comes after. What changes a sum before the mark
later is added to the totals too, in the same transaction; it is the mark's lock that keeps both apart. Refusals, of
which retention deletes the rows, are added up likewise.

A total never falls. Where the ledger takes an amount back, it stays in the total: an estimate that was summed up under
another model, once the upstream tells what was used. A request that only moves to another model stays one request of
its project.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from store.clock import DAY, HOUR, NEVER
from store.database import Database, Statement
from store.database.transactions import transact
from store.ledger.rollups import AMOUNTS, OTHER_MODELS, Addend

MOST_PAIRS = 3000
"""Pairs of a project and a model, or a code, with totals of their own. Further ones of a project are its `{other}`."""

MOST_OTHERS = 500
"""Further pairs for the `{other}` of projects. Beyond these all is of one project, `{other}`."""

SETTLED_FOR = HOUR
"""Microseconds after the end of a day until it is added: the transactions that began on it have ended by then."""

LATE = SETTLED_FOR // 2
"""Microseconds after the end of a day from which on a change of it looks at the mark: less, as clocks differ."""

CHUNK = 2000
"""Rows that are added up in one transaction, more only where a project has more in a day."""

PAUSE = 0.02
"""Seconds between two transactions, for others to write."""

OTHER = OTHER_MODELS

_MICRO = 1_000_000
"""COST_UNITs in a millionth of a dollar. Costs are added up in two parts: 64 bits hold 9 million dollars otherwise."""

_TOKENS_AND_COST = [AMOUNTS.index(name) for name in ("input_tokens", "output_tokens", "cost")]
_REQUESTS = AMOUNTS.index("requests")

_MARK = "SELECT time, place FROM total_mark WHERE name = ?"
_NO_MARK = "INSERT INTO total_mark (name, time, place) VALUES (?, 0, '') ON CONFLICT (name) DO NOTHING"
_HELD = "SELECT 1 FROM total_mark WHERE name = ? AND (time > ? OR (time = ? AND place >= ?))"

type Pair = tuple[str, str]
"""A project's id, and a model or a code."""

type Sums = dict[Pair, tuple[int, ...]]
"""The amounts of pairs, in the order of a table's columns."""


class Total(NamedTuple):
    """Amounts since the beginning. The cost is in COST_UNITs."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: int


class Totals(NamedTuple):
    """All totals: by project and model, and the numbers of refusals by project and code."""

    usage: Mapping[Pair, Total]
    refusals: Mapping[Pair, int]


class _Source(NamedTuple):
    """A table that is added up, in the order of a time and a place; times before a multiple of `step` are over."""

    table: str
    time: str
    place: str
    step: int


class _Mark(NamedTuple):
    """The last key, of a time and a place, whose sums the totals hold."""

    time: int = 0
    place: str = ""


class _Table:
    """A table of totals, and what it adds up."""

    def __init__(self, name: str, second: str, amounts: Mapping[str, str], source: _Source) -> None:
        """`amounts` are the sums by their columns; `second` is the column of models or codes."""
        table, time, place, self._step = source
        after = f"({time} > ? OR ({time} = ? AND {place} > ?))"
        names = ", ".join(("project_id", second, *amounts))
        added = ", ".join(f"{amount} = {name}.{amount} + excluded.{amount}" for amount in amounts)
        self.name = name
        self.nothing = (0,) * len(amounts)
        self._totals = f"SELECT {names} FROM {name}"  # noqa: S608 - no data
        self._sums = (
            f"SELECT project_id, {second}, {', '.join(amounts.values())} FROM {table}"  # noqa: S608 - no data
            f" WHERE {time} >= ? AND {after} AND ({time} < ? OR ({time} = ? AND {place} <= ?))"
            f" GROUP BY project_id, {second}"
        )
        self._keys = (
            f"SELECT DISTINCT {time}, {place} FROM (SELECT {time}, {place} FROM {table}"  # noqa: S608 - no data
            f" WHERE {time} >= ? AND {after} AND {time} < ? ORDER BY {time}, {place} LIMIT ?) AS chunk"
            f" ORDER BY {time}, {place}"
        )
        self._add = (
            f"INSERT INTO {name} ({names}) VALUES (?, ?{', ?' * len(amounts)})"  # noqa: S608 - no data
            f" ON CONFLICT (project_id, {second}) DO UPDATE SET {added}"
        )

    def lock(self, database: Database) -> _Mark:
        """Lock the mark; inside a writing transaction."""
        database.run(_NO_MARK, (self.name,))
        (mark,) = database.lock_rows(Statement(_MARK, (self.name,)))
        return _Mark(*mark)

    def holds(self, database: Database, time: int, place: str) -> bool:
        """Tell whether the totals hold the sums of a key, by the locked mark: the database knows the order of texts."""
        return bool(database.execute(_HELD, (self.name, time, time, place)))

    def add(self, database: Database, sums: Sums) -> None:
        """Add to the totals, under the mark's lock."""
        for pair, amounts in sorted(_placed(sums, self._read(database, self._totals)).items()):
            database.run(self._add, (*pair, *amounts))

    def move_on(self, database: Database) -> bool:
        """Add the next sums that are over to the totals. Returns False if there are none."""
        with database.write():
            limit = (database.now() - SETTLED_FOR) // self._step * self._step
            mark = self.lock(database)
            keys = [_Mark(*key) for key in database.execute(self._keys, (mark.time, *_twice(mark), limit, CHUNK))]
            last = keys[-2] if len(keys) > 1 else keys[0] if keys else _Mark(limit)  # of the last one some may be left
            if keys:
                self.add(database, self._read(database, self._sums, _between(mark, last)))
            if last.time >= mark.time:  # otherwise a clock has stepped back
                database.run("UPDATE total_mark SET time = ?, place = ? WHERE name = ?", (*last, self.name))
        return bool(keys)

    def read(self, database: Database) -> Sums:
        """Return the totals with what came since their mark; keeps the names of pairs that are new."""
        totals, since = self._read_both(database)
        new = {pair: self.nothing for pair in since if pair not in totals}
        if not _placed(new, totals).keys() <= totals.keys() | {(OTHER, OTHER)}:
            transact(database, lambda: self._keep(database, new))
            totals, since = self._read_both(database)
        return _added([*totals.items(), *_placed(since, totals).items()])

    def _keep(self, database: Database, new: Sums) -> None:
        self.lock(database)
        self.add(database, new)

    def _read_both(self, database: Database) -> tuple[Sums, Sums]:
        with database.snapshot():
            marks = database.execute(_MARK, (self.name,))
            since = _between(_Mark(*marks[0]) if marks else _Mark(), _Mark(NEVER))
            return self._read(database, self._totals), self._read(database, self._sums, since)

    @staticmethod
    def _read(database: Database, select: str, parameters: Sequence[object] = ()) -> Sums:
        return {
            (project_id, second): tuple(map(int, amounts))  # PostgreSQL's sums are decimals
            for project_id, second, *amounts in database.execute(select, parameters)
        }


_USAGE = _Table(
    "usage_total",
    "model",
    {
        "requests": "SUM(requests)",
        "input_tokens": "SUM(input_tokens)",
        "output_tokens": "SUM(output_tokens)",
        "cost_micros": f"SUM(cost / {_MICRO})",
        "cost_rest": f"SUM(cost - cost / {_MICRO} * {_MICRO})",
    },
    _Source("daily_usage", "start", "project_id", DAY),
)
_REFUSALS = _Table("refusal_total", "code", {"repeats": "SUM(repeats)"}, _Source("refusal", "started_at", "id", HOUR))


def move_on(database: Database, stopped: threading.Event) -> None:
    """Add what is over by now to the totals, until done or stopped. Raises StoreUnavailable."""
    for table in (_USAGE, _REFUSALS):
        while table.move_on(database) and not stopped.wait(PAUSE):
            pass


def read(database: Database) -> Totals:
    """Return the totals as they are now. Raises StoreUnavailable."""
    usage = {
        pair: Total(requests, input_tokens, output_tokens, micros * _MICRO + rest)
        for pair, (requests, input_tokens, output_tokens, micros, rest) in _USAGE.read(database).items()
    }
    return Totals(usage, {pair: repeats for pair, (repeats,) in _REFUSALS.read(database).items()})


def note(database: Database, addends: Sequence[Addend], now: int) -> None:
    """Add to the totals what changes days that they hold, and what is taken back; in the transaction that does that.

    For nearly all requests there is nothing to do. `now` is the time of the store.
    """
    edge = (now - LATE) // DAY * DAY
    if all(addend.started_at >= edge and addend.amounts[_REQUESTS] >= 0 for addend in addends):
        return
    _USAGE.lock(database)
    old = [addend for addend in addends if addend.started_at < edge]
    late = [(_pair(addend), _amounts(addend.amounts)) for addend in old if _is_held(database, addend)]
    sums = _added([*late, *_taken_back(addends)])
    if sums:
        _USAGE.add(database, sums)


def note_refusals(database: Database, at: int, row_id: str, sums: Mapping[Pair, int]) -> None:
    """Add refusals to the totals whose row is written late, if these hold its time; in the same transaction."""
    _REFUSALS.lock(database)
    if _REFUSALS.holds(database, at, row_id):
        _REFUSALS.add(database, {pair: (repeats,) for pair, repeats in sums.items()})


def _is_held(database: Database, addend: Addend) -> bool:
    return _USAGE.holds(database, addend.started_at // DAY * DAY, addend.key[0])


def _twice(mark: _Mark) -> tuple[int, int, str]:
    """Return the parameters of a comparison with a mark."""
    return mark.time, mark.time, mark.place


def _between(after: _Mark, last: _Mark) -> tuple[object, ...]:
    """Return the parameters of a SELECT of sums: after a mark, up to another one."""
    return after.time, *_twice(after), *_twice(last)


def _taken_back(addends: Sequence[Addend]) -> Iterable[tuple[Pair, tuple[int, ...]]]:
    """Return the tokens and costs of pairs that are less than before, as amounts that make up for that."""
    nets: dict[Pair, list[int]] = {}
    for addend in addends:
        net = nets.setdefault(_pair(addend), [0, 0, 0])
        for place, index in enumerate(_TOKENS_AND_COST):
            net[place] += addend.amounts[index]
    for pair, net in nets.items():
        if min(net) < 0:
            tokens_in, tokens_out, cost = [max(-amount, 0) for amount in net]
            yield pair, (0, tokens_in, tokens_out, *divmod(cost, _MICRO))


def _pair(addend: Addend) -> Pair:
    project_id, _, model, _ = addend.key
    return project_id, model


def _amounts(amounts: Sequence[int]) -> tuple[int, ...]:
    tokens_in, tokens_out, cost = [amounts[index] for index in _TOKENS_AND_COST]
    return (amounts[_REQUESTS], tokens_in, tokens_out, *divmod(cost, _MICRO))


def _placed(sums: Sums, totals: Iterable[Pair]) -> Sums:
    """Return sums under the names that have totals, or that there is room for."""
    names = set(totals)
    return _added([(_place(pair, names), sums[pair]) for pair in sorted(sums)])


def _place(pair: Pair, names: set[Pair]) -> Pair:
    """Return the name for a pair, and add it to the names if there is room."""
    other = pair[0], OTHER
    for name, most in ((pair, MOST_PAIRS), (other, MOST_PAIRS + MOST_OTHERS)):
        if name in names or len(names) < most:
            names.add(name)
            return name
    return OTHER, OTHER


def _added(sums: Iterable[tuple[Pair, tuple[int, ...]]]) -> Sums:
    found: Sums = {}
    for pair, amounts in sums:
        before = found.get(pair)
        found[pair] = amounts if before is None else tuple(map(sum, zip(before, amounts, strict=True)))
    return found
