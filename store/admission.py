"""Admission: may this token make one more request, now? And if so, count it.

Decided in the store for each request, in one transaction that locks, reads, decides and counts: a limit is never
exceeded and a revoke is obeyed at once, by every process on the store. Nothing about a token is cached.
"""

import functools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from store.bootstrap import Store
from store.crypto import DecryptionError, Vault
from store.errors import (
    GatewayError,
    InvalidToken,
    ProjectInactive,
    RateLimitExceeded,
    TokenExpired,
    TokenInactive,
)
from store.group_commit import GroupCommit
from store.tokens import is_token_value

_log = logging.getLogger(__name__)

_COUNT = "UPDATE token SET request_count = request_count + ?, last_used_at = ? WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted request: it is counted, and may use this key once."""

    token_id: str
    project_id: str
    project_name: str
    api_key: str = field(repr=False)


class _Claim(NamedTuple):
    """How a request names its token: by the HMAC of its value, or (a replay) by its public id."""

    column: Literal["lookup", "id"]
    value: str


class _Row(NamedTuple):
    """A token with its project, as read inside the transaction."""

    token_id: str
    is_active: bool
    expires_at: int
    request_count: int
    max_requests: int
    project_id: str
    project_name: str
    project_is_active: bool
    sealed_api_key: bytes


class Admission:
    """Admits requests by their token."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._vault = store.vault
        self._writer = GroupCommit(store.database, self._decide)

    async def admit(self, token_value: str) -> Admitted:
        """Count one request of a token and return what it may use; durable when this returns.

        Raises InvalidToken, TokenInactive, TokenExpired, ProjectInactive, RateLimitExceeded, StoreUnavailable, or
        GatewayError when the project's key cannot be decrypted; then nothing is counted.
        """
        if not is_token_value(token_value):
            raise InvalidToken
        return await self._writer.submit(_Claim("lookup", self._vault.lookup(token_value)))

    async def admit_again(self, token_id: str) -> Admitted:
        """Count one more request of a token that is known by its public id, as for a replay. Raises as `admit` does."""
        return await self._writer.submit(_Claim("id", token_id))

    def close(self) -> None:
        """Finish what waits and stop."""
        self._writer.close()

    def _decide(self, claims: Sequence[_Claim]) -> list[Admitted | GatewayError]:
        """Decide on requests in the order of their arrival, and write the counts of the admitted ones."""
        now = self._database.now()
        batch = _Batch(self._vault, self._rows(claims), now)
        outcomes = [batch.decide(claim) for claim in claims]
        for token_id, count in batch.counts.items():
            self._database.execute(_COUNT, (count, now, token_id))
        return outcomes

    def _rows(self, claims: Sequence[_Claim]) -> dict[_Claim, _Row]:
        found = {}
        for column in sorted({claim.column for claim in claims}):
            values = sorted({claim.value for claim in claims if claim.column == column})
            rows = self._database.execute(_select(column, len(values)), values)
            found.update({_Claim(column, value): _Row(*columns) for value, *columns in rows})
        return found


class _Batch:
    """The state of a batch while it is decided: each admission changes what the next of the same token may do."""

    def __init__(self, vault: Vault, rows: Mapping[_Claim, _Row], now: int) -> None:
        self.counts: Counter[str] = Counter()
        self._vault = vault
        self._rows = rows
        self._now = now
        self._api_keys: dict[str, str] = {}

    def decide(self, claim: _Claim) -> Admitted | GatewayError:
        row = self._rows.get(claim)
        if row is None:
            return InvalidToken()
        refusal = self._refusal(row)
        if refusal is not None:
            return refusal
        try:
            api_key = self._api_key(row)
        except DecryptionError:
            fault = f"The key of project {row.project_id} cannot be decrypted."
            _log.error("%s Replace it: PATCH the project's api_key.", fault)
            return GatewayError(fault)
        self.counts[row.token_id] += 1
        return Admitted(row.token_id, row.project_id, row.project_name, api_key)

    def _refusal(self, row: _Row) -> GatewayError | None:
        if not row.is_active:
            return TokenInactive()
        if row.expires_at <= self._now:
            return TokenExpired()
        if not row.project_is_active:
            return ProjectInactive()
        if row.max_requests and row.request_count + self.counts[row.token_id] >= row.max_requests:
            return RateLimitExceeded()
        return None

    def _api_key(self, row: _Row) -> str:
        if row.project_id not in self._api_keys:
            self._api_keys[row.project_id] = self._vault.open_api_key(row.project_id, bytes(row.sealed_api_key))
        return self._api_keys[row.project_id]


@functools.cache
def _select(column: str, number: int) -> str:
    places = ", ".join("?" * number)
    return (
        f"SELECT t.{column}, t.id, t.is_active, t.expires_at, t.request_count, t.max_requests,"  # noqa: S608 - no data
        " p.id, p.name, p.is_active, p.sealed_api_key"
        f" FROM token t JOIN project p ON p.id = t.project_id WHERE t.{column} IN ({places})"
    )
