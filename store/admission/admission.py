"""Admission: may this token make one more request, now? If so, count it, and open its row in the ledger.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.

How a request ended goes the same way, through the same writer: it is written along with the admissions that follow.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from store.admission import refusals, token_standing
from store.admission.compensation import take_back
from store.admission.decision import (
    Admitted,
    Batch,
    Claim,
    Probe,
    TokenName,
    TokenRow,
    TokenStanding,
    TokenState,
)
from store.admission.limits import LIMITS
from store.admission.refusals import Refusals, Tally
from store.admission.token_standing import Question
from store.admission.writer import Writer
from store.database import Row, Statement
from store.errors import GatewayError, InvalidToken, TokenRefused
from store.ledger import instances
from store.ledger.ledger import Ledger, Settlement
from store.management.tokens import is_token_value
from store.request import Opened, Opening
from store.store import Store

type Entry = Settlement | Tally

type Item = Claim | Probe | Question

type Result = Admitted | TokenStanding | None

_WIDTHS = [len(TokenRow._fields), *(len(dataclasses.fields(limit)) for limit in LIMITS)]
_ENDS = [*itertools.accumulate(_WIDTHS)]
"""The places in a row where the fields of TokenRow end, then those of each limit."""
_PARTS = [(limit, slice(*ends)) for limit, ends in zip(LIMITS, itertools.pairwise(_ENDS), strict=True)]
"""The limits, and which columns of a row are their fields."""

_FIELDS = [*TokenRow._fields, *(field.name for limit in LIMITS for field in dataclasses.fields(limit))]
_READ = ", ".join(f"{name.replace('_', '.', 1)} AS {name}" for name in _FIELDS)
_LOCK_AND_READ = (
    "SELECT id FROM project WHERE id IN (SELECT project_id FROM token WHERE {named}) ORDER BY id",
    "SELECT id FROM token WHERE {named} ORDER BY id",
    f"SELECT {_READ} FROM token JOIN project ON project.id = token.project_id WHERE {{named}}",  # noqa: S608 - names of ours
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
        StoreUnavailable, or GatewayError when the project's key cannot be decrypted; then nothing is counted. A
        TokenRefused gets a row among the refusals soon.
        """
        if not is_token_value(token_value):
            raise InvalidToken
        return await self._admit(TokenName("lookup", self._vault.lookup(token_value)), opening)

    async def admit_again(self, token_id: str, opening: Opening) -> Admitted:
        """Count one more request of a token that is known by its public id, as for a replay. Raises as `admit` does."""
        return await self._admit(TokenName("id", token_id), opening)

    async def check_again(self, token_id: str, opening: Opening) -> None:
        """Check that a token may still make a request that is counted already. Nothing is counted, no row opened.

        Raises as `admit` does, except EndpointNotAllowed and QuotaExhausted.
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

    def release(self, opened: Opened) -> None:
        """Give back the slot that a request holds, if it holds one; returns at once, and raises nothing.

        For a request that is over and is not settled yet.
        """

    def settle(self, settlement: Settlement) -> None:
        """Have the end of an admitted request written; returns at once, and raises nothing.

        While the store fails it is kept and tried again. A request that is never settled is settled as unknown.
        """
        self._inbox.enqueue(settlement)

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
            return await self._inbox.submit(claim)
        except TokenRefused as refusal:
            self._refusals.count(refusal)
            raise


class AdmissionWork:
    """The writer's work for one process. `instance_id` is the process in the store, whose rows it opens."""

    def __init__(self, store: Store, ledger: Ledger, instance_id: str) -> None:
        self._database = store.database
        self._vault = store.vault
        self._ledger = ledger
        self._instance_id = instance_id

    def decide(self, items: Sequence[Item]) -> Sequence[Result | GatewayError]:
        """Decide on requests in the order of their arrival; count the admitted ones, and open their rows.

        Questions are answered after that.
        """
        claims = [item for item in items if isinstance(item, Claim)]
        outcomes = self._outcomes(claims) if claims else []
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

    def record(self, entries: Sequence[Entry]) -> None:
        """Write settlements, and the rows of refusals."""
        settlements, tallies = _split(entries)
        if settlements:
            self._ledger.settle(settlements)
        if tallies:
            refusals.write(self._database, tallies)

    def record_each(self, entries: Sequence[Entry]) -> None:
        """Write them as `record` does; what cannot be written does not hold up the others."""
        settlements, tallies = _split(entries)
        if settlements:
            self._ledger.settle_each(settlements)
        if tallies:
            refusals.write_each(self._database, tallies)

    def compensate(self, results: Sequence[Result]) -> None:
        """Take back admissions whose callers were refused."""
        take_back(self._database, [result.opened for result in results if isinstance(result, Admitted)])

    def abandoned(self, result: Result) -> Entry | None:
        """Settle, as unknown, a request whose client went away while it was admitted."""
        return Settlement(result.opened) if isinstance(result, Admitted) else None

    def _outcomes(self, claims: Sequence[Claim]) -> Sequence[Result | GatewayError]:
        now, tokens = self._lock_and_read({claim.name for claim in claims})
        batch = Batch(tokens, now, self._vault.open_api_key)
        outcomes = [batch.decide(claim) for claim in claims]
        if batch.admitted:
            opened = [opened for _, opened in batch.admitted]
            for limit in LIMITS:
                limit.write(self._database, opened, now)
            self._ledger.open(self._instance_id, batch.admitted)
        return outcomes

    def _lock_and_read(self, names: AbstractSet[TokenName]) -> tuple[int, dict[TokenName, TokenState]]:
        """Read the tokens that are named, with the time: projects are locked first, then tokens (see `locks`).

        A token that is created at the same time may be missing: its value has not been handed out yet.
        """
        conditions = [
            self._database.among(f"token.{column}", [name.value for name in names if name.column == column])
            for column in sorted({name.column for name in names})
        ]
        named = " OR ".join(condition.sql for condition in conditions)
        values = [value for condition in conditions for value in condition.parameters]
        projects, tokens, select = (Statement(sql.format(named=named), values) for sql in _LOCK_AND_READ)
        now, rows = self._database.read_locked([projects, tokens], select)
        found = {}
        for row in rows:
            state = _state(row)
            found[TokenName("lookup", state.row.token_lookup)] = found[TokenName("id", state.row.token_id)] = state
        return now, found


def _state(values: Row) -> TokenState:
    """Read a row of _FIELDS."""
    return TokenState(TokenRow._make(values[: _ENDS[0]]), [limit(*values[part]) for limit, part in _PARTS])


def _split(entries: Sequence[Entry]) -> tuple[list[Settlement], list[Tally]]:
    settlements = [entry for entry in entries if isinstance(entry, Settlement)]
    return settlements, [entry for entry in entries if isinstance(entry, Tally)]
