"""Admission: may this token make one more request, now? And if so, count it, and open its row in the ledger.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.

How a request ended goes the same way, through the same writer: it is written along with the admissions that follow.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from store.admission import refusals, withdrawals
from store.admission.holder import Holder
from store.admission.refusals import Refusals, Refused, Tally
from store.admission.writer import GroupCommit
from store.database import Statement
from store.encryption.crypto import DecryptionError, Vault
from store.errors import (
    EndpointNotAllowed,
    GatewayError,
    InvalidToken,
    ProjectInactive,
    QuotaExhausted,
    TokenExpired,
    TokenInactive,
    TokenRefused,
)
from store.ledger import instances
from store.ledger.ledger import Ledger, Opened, Opening, Settlement
from store.management.tokens import is_token_value
from store.store import Store

_log = logging.getLogger(__name__)

_LOCK_AND_READ = (
    "SELECT id FROM project WHERE id IN (SELECT project_id FROM token WHERE {named}) ORDER BY id",
    "SELECT id FROM token WHERE {named} ORDER BY id",
    (
        "SELECT lookup, token.id, token_name, token.is_active, expires_at, request_count, max_requests,"
        " project.id AS project_id, name, project.is_active AS project_is_active, sealed_api_key"
        " FROM token JOIN project ON project.id = token.project_id WHERE {named}"
    ),
)
_COUNT = (
    "UPDATE token SET request_count = request_count + admitted.number, last_used_at = ?"
    " FROM admitted WHERE token.id = admitted.id"
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted request: it is counted, and may use this key once."""

    opened: Opened
    holder: Holder
    api_key: str = field(repr=False)


class _Name(NamedTuple):
    """How a request names its token: by the HMAC of its value, or (a replay) by its public id."""

    column: Literal["lookup", "id"]
    value: str


class _Claim(NamedTuple):
    """A request that wants to be admitted, or one that is paid for, and is checked again only."""

    name: _Name
    opening: Opening
    is_paid: bool = False


class _Row(NamedTuple):
    """A token with its project, as read inside the transaction."""

    token_id: str
    token_name: str | None
    is_active: bool
    expires_at: int
    request_count: int
    max_requests: int
    project_id: str
    project_name: str
    project_is_active: bool
    sealed_api_key: bytes

    @property
    def holder(self) -> Holder:
        return Holder(self.token_id, self.token_name, self.project_id, self.project_name)


type _Note = Settlement | Tally
type _Writer = GroupCommit[_Claim | None, Admitted | None, _Note]


class Admission:
    """Admits requests by their token, and settles them, for one process: it has an instance of its own in the store."""

    def __init__(self, store: Store) -> None:
        self.instance_id = instances.new_id()
        self._database = store.database
        self._vault = store.vault
        self._ledger = Ledger(store.database)
        self._writer: _Writer = GroupCommit(
            store.database, self._decide, self._record, self._settle_unheard, self._withdraw
        )
        self._refusals = Refusals(self._writer.leave, lambda: self._writer.notes_waiting)

    async def admit(self, token_value: str, opening: Opening) -> Admitted:
        """Count one request of a token and return what it may use; durable when this returns.

        Raises InvalidToken, TokenInactive, TokenExpired, ProjectInactive, EndpointNotAllowed, QuotaExhausted,
        StoreUnavailable, or GatewayError when the project's key cannot be decrypted; then nothing is counted. A
        TokenRefused is among the refusals soon.
        """
        if not is_token_value(token_value):
            raise InvalidToken
        return await self._admit(_Name("lookup", self._vault.lookup(token_value)), opening)

    async def admit_again(self, token_id: str, opening: Opening) -> Admitted:
        """Count one more request of a token that is known by its public id, as for a replay. Raises as `admit` does."""
        return await self._admit(_Name("id", token_id), opening)

    async def check_again(self, token_id: str, opening: Opening) -> None:
        """Check that a token may still make a request which it has paid for. Nothing is counted, and no row opened.

        Raises as `admit` does, except QuotaExhausted: a token that is used up has paid.
        """
        await self._submit(_Claim(_Name("id", token_id), opening, is_paid=True))

    async def check(self) -> None:
        """Find out whether requests could be admitted now, the way they are. Raises StoreUnavailable."""
        await self._writer.submit(None)

    def settle(self, settlement: Settlement) -> None:
        """Have the end of an admitted request written; returns at once, and raises nothing.

        While the store fails it is kept and tried again. What is left open in the end is settled as unknown.
        """
        self._writer.leave(settlement)

    def close(self) -> None:
        """Finish what waits and stop; settle what nobody has settled."""
        self._writer.close(self._refusals.take_unwritten())
        instances.end(self._database, self._ledger, self.instance_id)

    async def _admit(self, name: _Name, opening: Opening) -> Admitted:
        admitted = await self._submit(_Claim(name, opening))
        if admitted is None:
            raise GatewayError
        return admitted

    async def _submit(self, claim: _Claim) -> Admitted | None:
        try:
            return await self._writer.submit(claim)
        except TokenRefused as refusal:
            self._refusals.note(refusal)
            raise

    def _settle_unheard(self, admitted: Admitted | None) -> None:
        """Settle a request that went away while it was admitted."""
        if admitted:
            self.settle(Settlement(admitted.opened))

    def _record(self, notes: Sequence[_Note], *, alone: bool) -> None:
        settlements = [note for note in notes if isinstance(note, Settlement)]
        tallies = [note for note in notes if isinstance(note, Tally)]
        if settlements:
            (self._ledger.settle_each if alone else self._ledger.settle)(settlements)
        if tallies:
            (refusals.write_each if alone else refusals.write)(self._database, tallies)

    def _withdraw(self, doubted: Sequence[Admitted | None]) -> None:
        withdrawals.withdraw(self._database, [admitted.opened for admitted in doubted if admitted])

    def _decide(self, items: Sequence[_Claim | None]) -> list[Admitted | GatewayError | None]:
        """Decide on requests in the order of their arrival; count the admitted ones, and open their rows."""
        claims = [item for item in items if item]
        outcomes = iter(self._outcomes(claims) if claims else [])
        if len(claims) < len(items):
            self._database.touch()
        return [next(outcomes) if item else None for item in items]

    def _outcomes(self, claims: Sequence[_Claim]) -> list[Admitted | GatewayError | None]:
        now, rows = self._locked_rows({claim.name for claim in claims})
        batch = _Batch(self._vault, rows, now)
        outcomes = [batch.decide(claim) for claim in claims]
        if batch.counts:
            self._count(batch.counts, now)
            self._ledger.open(self.instance_id, batch.opened)
        return outcomes

    def _count(self, counts: Mapping[str, int], now: int) -> None:
        for admitted in self._database.tables(["TEXT", "BIGINT"], sorted(counts.items())):
            self._database.run(f"WITH admitted (id, number) AS ({admitted.sql}) {_COUNT}", [*admitted.parameters, now])

    def _locked_rows(self, names: AbstractSet[_Name]) -> tuple[int, dict[_Name, _Row]]:
        """Read the tokens that are asked for, with the time: projects are locked first, then tokens, as by all.

        A token that is made meanwhile is nobody's yet: its value is told after that.
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
        for lookup, *columns in rows:
            row = _Row(*columns)
            found[_Name("lookup", lookup)] = found[_Name("id", row.token_id)] = row
        return now, found


class _Batch:
    """The state of a batch while it is decided: each admission changes what the next of the same token may do."""

    def __init__(self, vault: Vault, rows: Mapping[_Name, _Row], now: int) -> None:
        self.counts: Counter[str] = Counter()
        self.opened: list[tuple[Opening, Opened]] = []
        self._vault = vault
        self._rows = rows
        self._now = now
        self._api_keys: dict[str, str] = {}

    def decide(self, claim: _Claim) -> Admitted | GatewayError | None:
        row = self._rows.get(claim.name)
        if row is None:
            return InvalidToken()
        opening = claim.opening
        refusal = self._standing(row) or (None if claim.is_paid else self._refusal(row, opening))
        if refusal is not None:
            refusal.refused = Refused(opening, row.holder, self._now)
        if refusal is not None or claim.is_paid:
            return refusal
        try:
            api_key = self._api_key(row)
        except DecryptionError:
            fault = f"The key of project {row.project_id} cannot be decrypted."
            _log.error("%s Replace it: PATCH the project's api_key.", fault)
            return GatewayError(fault)
        self.counts[row.token_id] += 1
        opened = Opened(opening.request_id, self._now, row.project_id, row.token_id, opening.endpoint)
        self.opened.append((opening, opened))
        return Admitted(opened, row.holder, api_key)

    def _standing(self, row: _Row) -> TokenRefused | None:
        """Return why a token may make no request at all, or None."""
        if not row.is_active:
            return TokenInactive()
        if row.expires_at <= self._now:
            return TokenExpired()
        if not row.project_is_active:
            return ProjectInactive()
        return None

    def _refusal(self, row: _Row, opening: Opening) -> TokenRefused | None:
        """Return why this request is not admitted, or None."""
        if opening.is_reserved:
            return EndpointNotAllowed()
        if row.max_requests and row.request_count + self.counts[row.token_id] >= row.max_requests:
            return QuotaExhausted()
        return None

    def _api_key(self, row: _Row) -> str:
        if row.project_id not in self._api_keys:
            self._api_keys[row.project_id] = self._vault.open_api_key(row.project_id, bytes(row.sealed_api_key))
        return self._api_keys[row.project_id]
