"""Admission: may this token make one more request, now? If so, count it, and open its row in the ledger.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.

How a request ended goes the same way, through the same writer: it is written along with the admissions that follow.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

from store.admission import refusals, token_standing
from store.admission.compensation import take_back
from store.admission.decision import (
    Admitted,
    Batch,
    Claim,
    Probe,
    Release,
    TokenName,
    TokenRow,
    TokenStanding,
    TokenState,
)
from store.admission.limits import MaxRequests, limits_of, requests
from store.admission.refusals import Refusals, Tally
from store.admission.token_standing import Question
from store.admission.writer import Writer
from store.database import Row, Statement
from store.errors import GatewayError, InvalidToken, StoreLocked, TokenRefused, TooManyParallel
from store.ledger import instances
from store.ledger.ledger import Ledger, Settlement
from store.limits import balance, slots
from store.limits.balance import Balance
from store.management.tokens import is_token_value
from store.request import Opened, Opening
from store.store import Store

type Item = Claim | Probe | Question

type Result = Admitted | TokenStanding | None

type Entry = Settlement | Tally | Release

PATIENCE = 0.5
"""Seconds that an admission waits for a slot: settlements are written a moment after their answers have ended."""

PAUSE = 0.02
"""Seconds until a slot is looked for again."""

_OWNERS = "SELECT id FROM token WHERE {named} UNION SELECT project_id FROM token WHERE {named}"
_FIELDS = ", ".join(f"{name.replace('_', '.', 1)} AS {name}" for name in TokenRow._fields)
_LOCK = (
    "SELECT id FROM project WHERE id IN (SELECT project_id FROM token WHERE {named}) ORDER BY id",
    "SELECT id FROM token WHERE {named} ORDER BY id",
)
_READ = (
    f"SELECT {_FIELDS}, {{balances}} AS balances"  # noqa: S608 - names of ours
    " FROM token JOIN project ON project.id = token.project_id WHERE {named}"
)


class Admission:
    """Admits requests by their token, and settles them, for one process: it has an instance of its own in the store."""

    def __init__(self, store: Store) -> None:
        self.instance_id = instances.new_id()
        self._database = store.database
        self._vault = store.vault
        self._ledger = Ledger(store.database)
        self._writer: Writer[Item, Result, Entry] = Writer(
            store.database, AdmissionWork(store, self._ledger, self.instance_id)
        )
        self._inbox = self._writer.inbox
        self._refusals = Refusals(self._inbox.enqueue, lambda: self._inbox.unwritten)

    async def admit(self, token_value: str, opening: Opening) -> Admitted:
        """Count one request of a token and return what it may use; durable when this returns.

        Raises InvalidToken, TokenInactive, TokenExpired, ProjectInactive, EndpointNotAllowed, QuotaExhausted,
        RateLimited, TooManyParallel, StoreUnavailable, or GatewayError when the project's key cannot be decrypted; then
        nothing is counted. A TokenRefused gets a row among the refusals soon.
        """
        if not is_token_value(token_value):
            raise InvalidToken
        return await self._admit(TokenName("lookup", self._vault.lookup(token_value)), opening)

    async def admit_again(self, token_id: str, opening: Opening) -> Admitted:
        """Count one more request of a token that is known by its public id, as for a replay. Raises as `admit` does."""
        return await self._admit(TokenName("id", token_id), opening)

    async def check_again(self, token_id: str, opening: Opening) -> None:
        """Check that a token may still make a request that is counted already. Nothing is counted, no row opened.

        Raises as `admit` does, except EndpointNotAllowed and the refusals of limits.
        """
        await self._submit(Claim(TokenName("id", token_id), opening, is_paid=True))

    async def check(self) -> None:
        """Find out whether requests could be admitted now, the way they are. Raises StoreUnavailable."""
        await self._inbox.submit(Probe())

    async def standing_of(self, token_value: str) -> TokenStanding:
        """Return how a token stands now. Nothing is counted; a refusal gets no row.

        Raises InvalidToken, TokenInactive, TokenExpired, ProjectInactive, StoreUnavailable.
        """
        if not is_token_value(token_value):
            raise InvalidToken
        standing = await self._inbox.submit(Question(self._vault.lookup(token_value)))
        if not isinstance(standing, TokenStanding):
            raise GatewayError
        return standing

    def settle(self, settlement: Settlement) -> None:
        """Have the end of an admitted request written; returns at once, and raises nothing.

        While the store fails it is kept and tried again. A request that is never settled is settled as unknown.
        """
        self._inbox.enqueue(settlement, is_urgent=settlement.opened.is_awaited)

    def release(self, opened: Opened) -> None:
        """Have a request hold its slots no more, before it is settled; returns at once, and raises nothing."""
        if opened.slots:
            self._inbox.enqueue(Release(opened), is_urgent=opened.is_awaited)

    def close(self) -> None:
        """Finish what waits and stop; settle as unknown what is still open."""
        self._writer.close(self._refusals.pop_unwritten())
        instances.end(self._database, self._ledger, self.instance_id)

    async def _admit(self, name: TokenName, opening: Opening) -> Admitted:
        admitted = await self._submit(Claim(name, opening))
        if not isinstance(admitted, Admitted):
            raise GatewayError
        return admitted

    async def _submit(self, claim: Claim) -> Result:
        try:
            return await self._with_patience(claim)
        except TokenRefused as refusal:
            self._refusals.count(refusal)
            raise

    async def _with_patience(self, claim: Claim) -> Result:
        """Submit a claim; again for a moment, where only a slot is missing. Raises the last refusal."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return await self._inbox.submit(claim)
            except TooManyParallel:
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(PAUSE)


class AdmissionWork:
    """The writer's work for one process. `instance_id` is the process in the store, whose rows it opens."""

    def __init__(self, store: Store, ledger: Ledger, instance_id: str) -> None:
        self._database = store.database
        self._vault = store.vault
        self._ledger = ledger
        self._instance_id = instance_id
        self._ended: Sequence[Opened] = ()
        """The requests that have ended by the entries of this transaction, and still hold slots."""

    def record(self, entries: Sequence[Entry]) -> None:
        """Write settlements, and the rows of refusals."""
        settlements, tallies = _split(entries)
        if settlements:
            self._ledger.settle(settlements)
        if tallies:
            refusals.write(self._database, tallies)
        self._ended = _holders(entries)

    def record_each(self, entries: Sequence[Entry]) -> None:
        """Write them as `record` does; what cannot be written does not hold up the others."""
        settlements, tallies = _split(entries)
        if settlements:
            self._ledger.settle_each(settlements)
        if tallies:
            refusals.write_each(self._database, tallies)
        self._ended = _holders(entries)

    def decide(self, items: Sequence[Item]) -> Sequence[Result | GatewayError]:
        """Decide on requests in the order of their arrival; count the admitted ones, and open their rows.

        Questions are answered after that.
        """
        ended, self._ended = self._ended, ()
        claims = [item for item in items if isinstance(item, Claim)]
        if not claims:
            slots.give_back(self._database, ended)
        outcomes = self._outcomes(claims, ended) if claims else []
        if len(claims) == len(items):
            return outcomes
        questions = [item for item in items if isinstance(item, Question)]
        standings = token_standing.answer(self._database, questions) if questions else []
        if len(claims) + len(questions) < len(items):
            self._database.touch()
        of_claims, of_questions = iter(outcomes), iter(standings)
        return [
            next(of_claims) if isinstance(item, Claim) else next(of_questions) if isinstance(item, Question) else None
            for item in items
        ]

    def finish(self) -> None:
        """Free the slots of the requests that have ended."""
        ended, self._ended = self._ended, ()
        slots.give_back(self._database, ended)

    def compensate(self, results: Sequence[Result]) -> None:
        """Take back admissions whose callers were refused."""
        take_back(self._database, [result.opened for result in results if isinstance(result, Admitted)])

    def abandoned(self, result: Result) -> Entry | None:
        """Settle, as unknown, a request whose client went away while it was admitted."""
        return Settlement(result.opened) if isinstance(result, Admitted) else None

    def _outcomes(self, claims: Sequence[Claim], ended: Sequence[Opened]) -> Sequence[Result | GatewayError]:
        now, tokens, balances = self._lock_and_read({claim.name for claim in claims}, ended)
        batch = Batch(tokens, now, self._vault.open_api_key)
        outcomes = [batch.decide(claim) for claim in claims]
        if batch.admitted:
            opened = [opened for _, opened in batch.admitted]
            requests.count(self._database, opened, now)
            self._ledger.open(self._instance_id, batch.admitted)
            slots.take(self._database, opened)
        balance.write(self._database, balances.values())
        return outcomes

    def _lock_and_read(
        self, names: AbstractSet[TokenName], ended: Sequence[Opened]
    ) -> tuple[int, dict[TokenName, TokenState], Mapping[str, Balance]]:
        """Read the tokens that are named, with the time, and the balances of their limits; free the slots of `ended`.

        Balances are locked first, then projects, then tokens (see `locks`). A token that is created at the same time
        may be missing: its value has not been handed out yet. Raises StoreLocked where a limit was set at that time.
        """
        conditions = [
            self._database.among(f"token.{column}", [name.value for name in names if name.column == column])
            for column in sorted({name.column for name in names})
        ]
        named = " OR ".join(condition.sql for condition in conditions)
        values = [value for condition in conditions for value in condition.parameters]
        owners = Statement(f"owner_id IN ({_OWNERS.format(named=named)})", [*values, *values])
        held = {one for row in ended for one in row.slots}
        locks = [balance.lock(owners, held), *(Statement(sql.format(named=named), values) for sql in _LOCK)]
        column = balance.column(self._database, "token.id, token.project_id")
        select = Statement(_READ.format(named=named, balances=column), values)
        now, rows, locked = self._database.read_locked(locks, select)
        balances = {one.id: one for *_, text in rows for one in balance.read_column(text, now)}
        if locked is not None and not balances.keys() <= {balance_id for (balance_id,) in locked}:
            raise StoreLocked
        balances |= balance.read(self._database, held - balances.keys(), now)
        for balance_id in slots.free(self._database, [row.request_id for row in ended]):
            slots.lower(balances.get(balance_id))
        states = [_state(row, balances.values(), now) for row in rows]
        by_value = {TokenName("lookup", state.row.token_lookup): state for state in states}
        return now, {**by_value, **{TokenName("id", state.row.token_id): state for state in states}}, balances


def _state(values: Row, balances: Collection[Balance], now: int) -> TokenState:
    """Read a row of _READ."""
    row = TokenRow._make(values[:-1])
    max_requests = MaxRequests(row.token_request_count, row.token_max_requests)
    own = [one for one in balances if one.owner_id == row.token_id]
    of_project = [one for one in balances if one.owner_id == row.project_id]
    return TokenState(row, limits_of(max_requests, own, of_project, now))


def _holders(entries: Sequence[Entry]) -> Sequence[Opened]:
    """Return the requests that hold slots which these entries free."""
    ended = [entry.opened for entry in entries if isinstance(entry, Settlement | Release)]
    return [opened for opened in ended if opened.slots]


def _split(entries: Sequence[Entry]) -> tuple[list[Settlement], list[Tally]]:
    settlements = [entry for entry in entries if isinstance(entry, Settlement)]
    return settlements, [entry for entry in entries if isinstance(entry, Tally)]
