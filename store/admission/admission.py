"""Admission: may this token make one more request, now? If so, count it, and open its row in the ledger.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.

How a request ended goes the same way, through the same writer: it is written along with the admissions that follow.
"""

from store.admission.decision import Admitted, Claim, Probe, TokenName
from store.admission.refusals import Refusals
from store.admission.work import AdmissionWork, Entry
from store.admission.writer import Writer
from store.errors import GatewayError, InvalidToken, TokenRefused
from store.ledger import instances
from store.ledger.ledger import Ledger, Settlement
from store.management.tokens import is_token_value
from store.request import Opening
from store.store import Store


class Admission:
    """Admits requests by their token, and settles them, for one process: it has an instance of its own in the store."""

    def __init__(self, store: Store) -> None:
        self.instance_id = instances.new_id()
        self._database = store.database
        self._vault = store.vault
        self._ledger = Ledger(store.database)
        self._writer: Writer[Claim | Probe, Admitted | None, Entry] = Writer(
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
        if admitted is None:
            raise GatewayError
        return admitted

    async def _submit(self, claim: Claim) -> Admitted | None:
        try:
            return await self._inbox.submit(claim)
        except TokenRefused as refusal:
            self._refusals.count(refusal)
            raise
