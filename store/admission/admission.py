"""Admission: may this token make one more request, now? If so, count it, and open its row in the ledger.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.

How a request ended goes the same way, through the same writer: it is written along with the admissions that follow.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from store.admission import refusals, running, token_standing
from store.admission.bounding import Bounding
from store.admission.compensation import take_back
from store.admission.decision import (
    Admitted,
    Batch,
    Claim,
    Extended,
    Growth,
    Probe,
    Release,
    TokenName,
    TokenStanding,
)
from store.admission.limits import requests
from store.admission.locked_tokens import lock_and_read
from store.admission.policies import Unread
from store.admission.refusals import Refusals, Tally
from store.admission.running import Running, Watch
from store.admission.token_standing import Question
from store.admission.writer import Writer
from store.database import Statement
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
from store.ledger.ledger import NEVER_SENT, Ledger, Settlement
from store.limits import balance, holds
from store.limits.holds import Counted
from store.management.tokens import is_token_value
from store.metrics.figures import Figures
from store.metrics.process_figures import FiguresRow
from store.request import Amounts, Opened, Opening, Reading
from store.store import Store

type Item = Claim | Growth | Probe | Question | Watch

type Result = Admitted | Extended | Unread | TokenStanding | Mapping[Running, GatewayError] | None

type Entry = Settlement | Tally | Release

PATIENCE = 0.5
"""Seconds that an admission waits for a slot: settlements are written a moment after their answers have ended."""

PAUSE = 0.02
"""Seconds until a slot is looked for again, at first; each further pause is GROWTH times as long: seven tries."""

GROWTH = 1.5
USUAL_OUTPUT = 4096
"""Tokens of output that are reserved for a request without a bound of its own, where no setting says otherwise."""

MOST_HINTS = 1024
"""Tokens of which a process remembers that their requests had to be read."""

_READINGS = 2
"""Times that a request is read, where a policy is set meanwhile that needs more of it."""

MOST_WAITING = 128
"""Admissions of a process that wait for a slot at once; further ones are refused without waiting."""


_UNREAD = (InvalidToken, TokenInactive, TokenExpired, ProjectInactive, IpNotAllowed, EndpointNotAllowed)
"""The refusals for which no request has to be read: the next one of that token is not read at once."""


class Reader(Protocol):
    """Reads the models that a request asks for, where a policy wants to know them."""

    @property
    def is_ready(self) -> bool:
        """True if all of the request has come."""

    async def read(self, *, with_demand: bool) -> Reading:
        """Return the models, and the most that it may use if that is wanted.

        Raises whatever the caller of the admission is to know of.
        """


class Admission:
    """Admits requests by their token, and settles them, for one process: it has an instance of its own in the store."""

    def __init__(self, store: Store, usual_output: int = USUAL_OUTPUT) -> None:
        """`usual_output` are the tokens of output that are reserved for a request without a bound of its own."""
        self.instance_id = instances.new_id()
        self._database = store.database
        self._vault = store.vault
        self._ledger = Ledger(store.database)
        self._writer: Writer[Item, Result, Entry] = Writer(
            store.database, AdmissionWork(store, self._ledger, self.instance_id, usual_output)
        )
        self._inbox = self._writer.inbox
        self._waiting = 0
        """Admissions that wait for a slot."""
        self._hints: dict[TokenName, Unread] = {}
        """The ways in which requests of tokens had to be read: the next one is read so, for one transaction less."""
        self._refusals = Refusals(self._inbox.enqueue, lambda: self._inbox.unwritten)
        self.figures = Figures()
        """The figures of this process."""
        self.figures.gauges |= {
            "queue admissions": lambda: self._inbox.waiting,
            "queue slots": lambda: self._waiting,
            "queue entries": lambda: self._inbox.unwritten,
        }
        self.figures_row = FiguresRow(self.instance_id, self.figures)

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

    async def extend(self, opened: Opened, opening: Opening, reader: Reader | None = None) -> Extended:
        """Check that a token may make one more use of an open row, and reserve for it. No request is counted.

        Raises as `admit` does, except the refusals of limits of requests.
        """
        claim = Claim(TokenName("id", opened.token_id), opening, is_paid=True, extends=opened)
        extended = await self._submit(claim, reader)
        return extended if isinstance(extended, Extended) else Extended(opened)

    async def grow(self, opened: Opened, more: Amounts) -> Extended:
        """Reserve more for a request under way: all that there is, where that is less. Raises StoreUnavailable."""
        extended = await self._inbox.submit(Growth(opened, more))
        return extended if isinstance(extended, Extended) else Extended(opened)

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

    async def ended(self, requests: AbstractSet[Running]) -> Mapping[Running, GatewayError]:
        """Return why running requests are to end, of those whose token is not valid any more. Raises StoreUnavailable.

        One query answers for any number of them. Nothing is counted.
        """
        found = await self._inbox.submit(Watch(requests))
        if not isinstance(found, Mapping):
            raise GatewayError
        return {each: error for each, error in found.items() if each in requests}  # the batch may have another watch

    def settle(self, settlement: Settlement) -> None:
        """Have the end of an admitted request written; returns at once, and raises nothing.

        While the store fails it is kept and tried again. A request that is never settled is settled as unknown.
        """
        self._inbox.enqueue(settlement, is_urgent=settlement.opened.is_awaited)

    def release(self, opened: Opened) -> None:
        """Have a request hold its slots no more, before it is settled; returns at once, and raises nothing."""
        if opened.has_slots:
            self._inbox.enqueue(Release(opened), is_urgent=opened.is_awaited)

    def close(self) -> None:
        """Finish what waits and stop; settle as unknown what is still open."""
        self._writer.close(self._refusals.pop_unwritten())
        instances.end(self._database, self._ledger, self.figures_row)

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
        """Submit a claim; again with what it asks for, where a policy or a limit wants to know that."""
        await self._read_at_once(claim, reader)
        result = await self._with_patience(claim)
        if isinstance(result, Admitted) and result.shown_models is None and result.bounds is None:
            self._hints.pop(claim.name, None)  # its models and its use are not limited, or not any more
        for _ in range(_READINGS):
            if not isinstance(result, Unread):
                break
            self._hint(claim.name, result)
            claim.keep(await reader.read(with_demand=result.needs_demand))
            result = await self._with_patience(claim)
        return result

    async def _read_at_once(self, claim: Claim, reader: Reader) -> None:
        """Read a request before a policy asks, where one has asked the last time."""
        hint = self._hints.get(claim.name)
        if hint is None or not reader.is_ready:
            return
        try:
            reading = await reader.read(with_demand=hint.needs_demand)
        except GatewayError:  # a policy that still asks meets it again
            return
        claim.keep(reading)

    def _hint(self, name: TokenName, unread: Unread) -> None:
        self._hints[name] = unread
        if len(self._hints) > MOST_HINTS:
            del self._hints[next(iter(self._hints))]

    async def _with_patience(self, claim: Claim) -> Result:
        """Submit a claim; again for a moment, where only a slot is missing. Raises the last refusal."""
        until, pause = time.monotonic() + PATIENCE, PAUSE
        while True:
            submitted = time.monotonic()
            try:
                return await self._inbox.submit(claim)
            except TooManyParallel:
                if time.monotonic() + pause > until or self._waiting >= MOST_WAITING:
                    raise
            finally:
                self.figures.admissions.add(time.monotonic() - submitted)
            self._waiting += 1
            try:
                await asyncio.sleep(pause)
            finally:
                self._waiting -= 1
            pause *= GROWTH


class AdmissionWork:
    """The writer's work for one process. `instance_id` is the process in the store, whose rows it opens."""

    def __init__(self, store: Store, ledger: Ledger, instance_id: str, usual_output: int = USUAL_OUTPUT) -> None:
        self._database = store.database
        self._vault = store.vault
        self._ledger = ledger
        self._instance_id = instance_id
        self._bounding = Bounding(ledger.pricing)
        self._usual_output = usual_output
        self._counted: Sequence[Counted] = ()
        self._released: Sequence[Opened] = ()
        """The requests that are settled, or released, by the entries of this transaction, for the limits to count.

        Set once all entries are written: nothing of a transaction that fails may be counted by the next one.
        """

    def record(self, entries: Sequence[Entry]) -> None:
        """Write settlements, and the rows of refusals."""
        settlements, tallies, released = _split(entries)
        counted = self._ledger.settle(settlements)
        if tallies:
            refusals.write(self._database, tallies)
        self._counted, self._released = counted, released

    def record_each(self, entries: Sequence[Entry]) -> None:
        """Write them as `record` does; what cannot be written does not hold up the others."""
        settlements, tallies, released = _split(entries)
        counted = self._ledger.settle_each(settlements) if settlements else ()
        if tallies:
            refusals.write_each(self._database, tallies)
        self._counted, self._released = counted, released

    def decide(self, items: Sequence[Item]) -> Sequence[Result | GatewayError]:
        """Decide on requests in the order of their arrival; count the admitted ones, and open their rows.

        Questions are answered after that.
        """
        asking = [item for item in items if isinstance(item, Claim | Growth)]
        if not asking:
            self.finish()
        outcomes = self._outcomes(asking) if asking else []
        if len(asking) == len(items):
            return outcomes
        of_asking = iter(outcomes)
        answers = self._answers([item for item in items if not isinstance(item, Claim | Growth)])
        return [next(of_asking) if isinstance(item, Claim | Growth) else answers[item] for item in items]

    def finish(self) -> None:
        """Have the limits count the requests that have ended."""
        counted, released = self._pop_ended()
        holds.settle_alone(self._database, counted, released)

    def compensate(self, results: Sequence[Result]) -> None:
        """Take back admissions whose callers were refused."""
        take_back(self._database, [result.opened for result in results if isinstance(result, Admitted)])

    def abandoned(self, result: Result) -> Entry | None:
        """Settle a request whose client went away while it was admitted."""
        return Settlement(result.opened, NEVER_SENT) if isinstance(result, Admitted) else None

    def _outcomes(self, items: Sequence[Claim | Growth]) -> Sequence[Result | GatewayError]:
        counted, released = self._pop_ended()
        open_ids = self._open_ids(items)
        owners = holds.owners_of([*(each.opened for each in counted), *released])
        names = {item.name if isinstance(item, Claim) else TokenName("id", item.opened.token_id) for item in items}
        now, tokens, balances, prices = lock_and_read(self._database, names, owners)
        holds.settle(self._database, counted, balances)
        holds.free_slots(self._database, released, balances)
        batch = Batch(tokens, now, self._vault.open_api_key, self._bounding.bounds_of(now, prices), self._usual_output)
        batch.open_ids = open_ids
        outcomes = [batch.decide(item) if isinstance(item, Claim) else batch.grow(item) for item in items]
        if batch.admitted:
            requests.count(self._database, [opened for _, opened in batch.admitted], now)
            self._ledger.open(self._instance_id, batch.admitted)
            holds.take(self._database, batch.slots)
        self._ledger.reserve_more(batch.growths)
        batch.close()
        balance.write(self._database, balances.values())
        return outcomes

    def _answers(self, questions: "Sequence[Question | Watch | Probe]") -> "Mapping[Item, Result | GatewayError]":
        asked = [each for each in questions if isinstance(each, Question)]
        watches = [each for each in questions if isinstance(each, Watch)]
        standings = token_standing.answer(self._database, asked) if asked else []
        ended = running.ended(self._database, watches)
        if len(asked) + len(watches) < len(questions):
            self._database.touch()
        return {
            **dict.fromkeys(questions, None),
            **dict(zip(asked, standings, strict=True)),
            **dict.fromkeys(watches, ended),
        }

    def _open_ids(self, items: Sequence[Claim | Growth]) -> AbstractSet[str]:
        """Lock and return the requests that are to reserve more, as far as they are not settled."""
        rows = [item.opened if isinstance(item, Growth) else item.extends for item in items]
        ids = sorted({row.request_id for row in rows if row is not None})
        if not ids:
            return frozenset()
        asked = self._database.among("id", ids)
        select = f"SELECT id FROM request WHERE settled_at IS NULL AND {asked.sql} ORDER BY id"  # noqa: S608 - no data
        return {request_id for (request_id,) in self._database.lock_rows(Statement(select, asked.parameters))}

    def _pop_ended(self) -> tuple[Sequence[Counted], Sequence[Opened]]:
        ended = self._counted, self._released
        self._counted, self._released = (), ()
        return ended


def _split(entries: Sequence[Entry]) -> tuple[list[Settlement], list[Tally], list[Opened]]:
    settlements = [entry for entry in entries if isinstance(entry, Settlement)]
    tallies = [entry for entry in entries if isinstance(entry, Tally)]
    return settlements, tallies, [entry.opened for entry in entries if isinstance(entry, Release)]
