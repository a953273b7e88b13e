"""Admission: may this token make one more request, now? If so, count it, and open its row in the ledger.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.

How a request ended goes the same way, through the same writer: it is written along with the admissions that follow.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from store.admission import refusals, token_standing
from store.admission.compensation import take_back
from store.admission.decision import (
    Admitted,
    Batch,
    Claim,
    Probe,
    Release,
    TokenName,
    TokenStanding,
)
from store.admission.limits import requests
from store.admission.locked_tokens import lock_and_read
from store.admission.policies import Unread
from store.admission.refusals import Refusals, Tally
from store.admission.token_standing import Question
from store.admission.writer import Writer
from store.errors import (
    EndpointNotAllowed,
    GatewayError,
    InvalidToken,
    IpNotAllowed,
    ProjectInactive,
    TokenExpired,
    TokenInactive,
    TokenRefused,
    TooManyParallel,
)
from store.ledger import instances
from store.ledger.ledger import Ledger, Settlement
from store.limits import balance, slots
from store.management.tokens import is_token_value
from store.request import Opened, Opening, Reading
from store.store import Store

type Item = Claim | Probe | Question

type Result = Admitted | Unread | TokenStanding | None

type Entry = Settlement | Tally | Release

PATIENCE = 0.5
"""Seconds that an admission waits for a slot: settlements are written a moment after their answers have ended."""

PAUSE = 0.02
"""Seconds until a slot is looked for again, at first; each further pause is GROWTH times as long: seven tries."""

GROWTH = 1.5
MOST_HINTS = 1024
"""Tokens of which a process remembers that their requests had to be read."""

MOST_WAITING = 128
"""Admissions of a process that wait for a slot at once; further ones are refused without waiting."""


_UNREAD = (InvalidToken, TokenInactive, TokenExpired, ProjectInactive, IpNotAllowed, EndpointNotAllowed)
"""The refusals for which no request has to be read: the next one of that token is not read at once."""


class Reader(Protocol):
    """Reads the models that a request asks for, where a policy wants to know them."""

    @property
    def is_ready(self) -> bool:
        """True if all of the request has come."""

    async def read(self) -> Reading:
        """Return the models. Raises whatever the caller of the admission is to know of."""


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
        self._waiting = 0
        """Admissions that wait for a slot."""
        self._hints: dict[TokenName, None] = {}
        """Tokens whose last request had to be read: the next one is read at once, which saves a transaction."""
        self._refusals = Refusals(self._inbox.enqueue, lambda: self._inbox.unwritten)

    async def admit(self, token_value: str, opening: Opening, reader: Reader | None = None) -> Admitted:
        """Count one request of a token and return what it may use; durable when this returns.

        Raises InvalidToken, TokenInactive, TokenExpired, ProjectInactive, the refusals of policies and limits,
        StoreUnavailable, or GatewayError when the project's key cannot be decrypted; then nothing is counted. A
        TokenRefused gets a row among the refusals soon. What `reader` raises is raised too; there has to be one unless
        `opening` has its reading.
        """
        if not is_token_value(token_value):
            raise InvalidToken
        return await self._admit(TokenName("lookup", self._vault.lookup(token_value)), opening, reader)

    async def admit_again(self, token_id: str, opening: Opening, reader: Reader | None = None) -> Admitted:
        """Count one more request of a token that is known by its public id, as for a replay. Raises as `admit` does."""
        return await self._admit(TokenName("id", token_id), opening, reader)

    async def check_again(self, token_id: str, opening: Opening, reader: Reader | None = None) -> None:
        """Check that a token may still make a request that is counted already. Nothing is counted, no row opened.

        Raises as `admit` does, except the refusals of limits.
        """
        if await self._submit(Claim(TokenName("id", token_id), opening, is_paid=True), reader) is not None:
            raise GatewayError

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

    async def _admit(self, name: TokenName, opening: Opening, reader: Reader | None) -> Admitted:
        admitted = await self._submit(Claim(name, opening), reader)
        if not isinstance(admitted, Admitted):
            raise GatewayError
        return admitted

    async def _submit(self, claim: Claim, reader: Reader | None) -> Result:
        try:
            return await (self._with_patience(claim) if reader is None else self._submit_read(claim, reader))
        except GatewayError as error:
            if isinstance(error, _UNREAD):
                self._hints.pop(claim.name, None)
            if isinstance(error, TokenRefused):
                self._refusals.count(error)
            raise

    async def _submit_read(self, claim: Claim, reader: Reader) -> Result:
        """Submit a claim; again with what it asks for, where a policy wants to know that."""
        result = await self._with_patience(await self._read_at_once(claim, reader))
        if isinstance(result, Admitted) and result.shown_models is None:
            self._hints.pop(claim.name, None)  # its models are not limited, or not any more
        if not isinstance(result, Unread):
            return result
        self._hint(claim.name)
        return await self._with_patience(await _read(claim, reader))

    async def _read_at_once(self, claim: Claim, reader: Reader) -> Claim:
        """Read a request before a policy asks, where one has asked the last time."""
        if claim.name in self._hints and reader.is_ready:
            with contextlib.suppress(GatewayError):  # a policy that still asks meets it again
                return await _read(claim, reader)
        return claim

    def _hint(self, name: TokenName) -> None:
        self._hints[name] = None
        if len(self._hints) > MOST_HINTS:
            del self._hints[next(iter(self._hints))]

    async def _with_patience(self, claim: Claim) -> Result:
        """Submit a claim; again for a moment, where only a slot is missing. Raises the last refusal."""
        until, pause = time.monotonic() + PATIENCE, PAUSE
        while True:
            try:
                return await self._inbox.submit(claim)
            except TooManyParallel:
                if time.monotonic() + pause > until or self._waiting >= MOST_WAITING:
                    raise
            self._waiting += 1
            try:
                await asyncio.sleep(pause)
            finally:
                self._waiting -= 1
            pause *= GROWTH


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
        now, tokens, balances = lock_and_read(self._database, {claim.name for claim in claims}, ended)
        slots.free(self._database, [row.request_id for row in ended], balances)
        batch = Batch(tokens, now, self._vault.open_api_key)
        outcomes = [batch.decide(claim) for claim in claims]
        if batch.admitted:
            opened = [opened for _, opened in batch.admitted]
            requests.count(self._database, opened, now)
            self._ledger.open(self._instance_id, batch.admitted)
            slots.take(self._database, opened)
        balance.write(self._database, balances.values())
        return outcomes


async def _read(claim: Claim, reader: Reader) -> Claim:
    return claim._replace(opening=claim.opening._replace(reading=await reader.read()))


def _holders(entries: Sequence[Entry]) -> Sequence[Opened]:
    """Return the requests that hold slots which these entries free."""
    ended = [entry.opened for entry in entries if isinstance(entry, Settlement | Release)]
    return [opened for opened in ended if opened.slots]


def _split(entries: Sequence[Entry]) -> tuple[list[Settlement], list[Tally]]:
    settlements = [entry for entry in entries if isinstance(entry, Settlement)]
    return settlements, [entry for entry in entries if isinstance(entry, Tally)]
