"""Locks and reads the tokens of a batch, with their projects, and the balances of their limits."""

import functools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from store.admission.decision import TokenName, TokenRow, TokenState
from store.admission.limits import Headroom, MaxRequests, OwnHeadroom, limits_of
from store.database import Database, Row, Statement
from store.ledger import pricing
from store.limits import balance
from store.limits.balance import Balance

_OWNERS = "SELECT id FROM token WHERE {named} UNION SELECT project_id FROM token WHERE {named}"
_LOCK = (
    "SELECT id FROM project WHERE id IN (SELECT project_id FROM token WHERE {named}) ORDER BY id",
    "SELECT id FROM token WHERE {named} ORDER BY id",
)
FIELDS = ", ".join(f"{name.replace('_', '.', 1)} AS {name}" for name in TokenRow._fields)
"""The columns of a TokenRow."""

FROM = "FROM token JOIN project ON project.id = token.project_id"
_READ = f"SELECT {FIELDS}, {{balances}} AS balances {FROM} WHERE {{named}}"


class LockedTokens(NamedTuple):
    """The tokens of a batch by their names, at a time (microseconds), and all balances that are locked, by id."""

    now: int
    tokens: Mapping[TokenName, TokenState]
    balances: Mapping[str, Balance]
    prices: str
    """The `pricing.VERSION`; empty where no token has a balance."""


def lock_and_read(database: Database, names: AbstractSet[TokenName], owners: Sequence[str]) -> LockedTokens:
    """Read the tokens that are named, with the balances of their limits, and those of other owners by their ids.

    Balances are locked first, then projects, then tokens (see `locks`). A token that is created at the same time may
    be missing: its value has not been handed out yet. Raises StoreLocked where a limit was set at that time.
    """
    named = _named(database, names)
    column = balance.column(database, "token.id, token.project_id", pricing.VERSION)
    select = Statement(_READ.format(named=named.sql, balances=column), named.parameters)
    now, rows, locked = database.read_locked(_locks(database, named, owners), select)
    now = now if rows else database.now()
    texts = [text.split(";") for *_, text in rows if text]
    lines = {line for text in texts for line in text[:-1]}
    balances = {one.id: one for one in (Balance.read(line, now) for line in lines)}
    known = {one.owner_id for one in balances.values()}
    for owned in balance.of_owners(database, [owner for owner in owners if owner not in known], now).values():
        balances |= {one.id: one for one in owned}
    balance.require_locked(balances, locked)
    prices = texts[0][-1] if texts else ""
    return LockedTokens(now, _by_name(rows, balances.values(), now), balances, prices)


def state_of(
    values: Row, balances: Mapping[str, Sequence[Balance]], headrooms: Mapping[str, OwnHeadroom], now: int
) -> TokenState:
    """Read a row of the tokens; with the balances of its token and its project, and their headrooms, by their ids."""
    row = TokenRow._make(values[:-1])
    max_requests = MaxRequests(row.token_request_count, row.token_max_requests)
    own, of_project = balances.get(row.token_id, ()), balances.get(row.project_id, ())
    rooms = [room for owner in (row.token_id, row.project_id) if (room := headrooms.get(owner))]
    if not rooms:
        return TokenState(row, limits_of(max_requests, own, of_project, now))
    counting, counting_of_project = ([one for one in each if not one.reserves] for each in (own, of_project))
    others = limits_of(max_requests, counting, counting_of_project, now)
    return TokenState(row, others, Headroom(rooms), functools.partial(limits_of, max_requests, own, of_project, now))


def of_values(database: Database, lookups: Sequence[str]) -> Statement:
    """Return the condition that selects the tokens that have, or had before, the values with these HMACs.

    An index serves each half of it. `TokenRow.lookups` tells which of the values work.
    """
    return _any_of(database.among("token.lookup", lookups), database.among("token.previous_lookup", lookups))


def _any_of(first: Statement, second: Statement) -> Statement:
    return Statement(f"{first.sql} OR {second.sql}", [*first.parameters, *second.parameters])


def _named(database: Database, names: AbstractSet[TokenName]) -> Statement:
    """Return the condition that selects the tokens that are named."""
    ids = [name.value for name in names if name.column == "id"]
    lookups = [name.value for name in names if name.column == "lookup"]
    if not ids:
        return of_values(database, lookups)
    by_id = database.among("token.id", ids)
    return _any_of(by_id, of_values(database, lookups)) if lookups else by_id


def _locks(database: Database, named: Statement, others: Sequence[str]) -> Sequence[Statement]:
    owners = Statement(f"owner_id IN ({_OWNERS.format(named=named.sql)})", [*named.parameters, *named.parameters])
    also = [database.among("owner_id", others)] if others else []
    return [balance.lock(owners, *also), *(Statement(sql.format(named=named.sql), named.parameters) for sql in _LOCK)]


def _by_name(rows: Sequence[Row], balances: Collection[Balance], now: int) -> Mapping[TokenName, TokenState]:
    owned: dict[str, list[Balance]] = defaultdict(list)
    for one in balances:
        owned[one.owner_id].append(one)
    headrooms = {owner: OwnHeadroom(of_owner, now) for owner, of_owner in owned.items()}
    states = [state_of(row, owned, headrooms, now) for row in rows]
    by_value = {TokenName("lookup", lookup): state for state in states for lookup in state.row.lookups(now)}
    return {**by_value, **{TokenName("id", state.row.token_id): state for state in states}}
