"""Tokens, which applications hold instead of a key.

A token's value is a lower-case UUIDv4. The management API accepts it, or the token's public id (another UUID), as
`tokenId`; after a rotation also the value before, while that works. Logs and everything else name a token by its public
id only.
"""

import functools
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Unpack

from store import clock
from store.database import Statement, locks
from store.database.locks import lock_project
from store.database.models import Project, Token
from store.database.transactions import transaction
from store.encryption.crypto import DecryptionError
from store.errors import ExpiredNotRotated, InactiveNotRotated, InvalidRequest, NotFound, ProjectInactive
from store.limits import rate_limits
from store.limits.rate_limits import BudgetLimit, RateLimit
from store.limits.standing import LimitStanding
from store.management import audit, bulk, limits, names, policies, previous_values
from store.management.audit import Action, Fields, Subject, Versions
from store.management.limits import LockedBalances
from store.policies.lists import Policies, Rules
from store.store import Store

DEFAULT_EXPIRES_IN_DAYS = 30

UNREADABLE = str(uuid.UUID(int=0))
"""Replaces a value that cannot be decrypted: it has the form of a token, and is none (the nil UUID of RFC 9562)."""

_LOG = logging.getLogger(__name__)

_CANONICAL_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_token_value(text: str) -> bool:
    """Tell whether a text has the form of a token's value: a canonical, lower-case UUIDv4."""
    return _CANONICAL_UUID4.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as the management API shows it, with its value, or UNREADABLE. Times are microseconds.

    `previous_expires_at` is when the value before ends; None where none works any more. `rate_limits`, `budgets`,
    `max_parallel_requests` and `policies` are as they were written; `limits` shows what has been used.
    """

    id: str
    name: str | None
    value: str
    previous_expires_at: int | None
    project_id: str
    project_name: str | None
    expires_at: int
    is_active: bool
    request_count: int
    max_requests: int
    rate_limits: Sequence[RateLimit] | None
    budgets: Sequence[BudgetLimit] | None
    max_parallel_requests: int | None
    policies: Policies
    created_at: int
    last_used_at: int | None
    limits: Sequence[LimitStanding]

    def __repr__(self) -> str:
        return f"TokenRecord({self.id})"


class TokenChanges(Rules, total=False):
    """The fields that an update names; the others stay as they are.

    A token expires at `expires_at` (microseconds), or in `expires_in_days`, where 0 is never: one of them at most.
    """

    name: str | None
    is_active: bool
    max_requests: int
    expires_at: int
    expires_in_days: int


@dataclass(frozen=True, slots=True)
class RevokedTokens:
    """The result of a bulk revoke. `failed` are the tokens whose revocation the store did not confirm."""

    revoked: int
    already_revoked: int
    failed: int = 0

    @property
    def total(self) -> int:
        """The number of the project's tokens."""
        return self.revoked + self.already_revoked + self.failed


class Tokens:
    """Reads and writes tokens. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._vault = store.vault

    @transaction
    def create(
        self,
        project_id: str,
        expires_in_days: int = DEFAULT_EXPIRES_IN_DAYS,
        max_requests: int = 0,
        *,
        expires_at: int | None = None,
        name: str | None = None,
        **rules: Unpack[Rules],
    ) -> TokenRecord:
        """Add an active token. 0 days: it never expires; 0 requests: it may make any number.

        A time, in microseconds, replaces the days. Raises InvalidRequest for one that is past or beyond the year 9999,
        for a name that contains a secret, for bad limits and bad policies; NotFound for an unknown project;
        ProjectInactive.
        """
        names.refuse_secret(name)
        limited = limits.named(rules)
        rule_columns = {**limits.columns(limited), **policies.columns(rules)}
        token_id, value, now = str(uuid.uuid4()), str(uuid.uuid4()), self._database.now()
        locked = lock_project(self._database, project_id)
        if not locked.is_active:
            raise ProjectInactive(description="Switch the project on before you make tokens for it.")
        row = Token.create(
            id=token_id,
            name=name,
            project=project_id,
            lookup=self._vault.lookup(value),
            sealed_value=self._vault.seal_token(token_id, value),
            is_active=True,
            request_count=0,
            max_requests=max_requests,
            created_at=now,
            expires_at=_expiry(now, expires_in_days) if expires_at is None else _future(now, expires_at),
            **rule_columns,
        )
        limits.begin(self._database, token_id, limited)
        self._audit("token.create", row, Versions({}, {**_fields(row), "token": audit.SET}))
        return self._record(row, locked.name, limits.show(self._database, [row]))

    def list(
        self, project_id: str | None = None, *, active_only: bool = False, expires_before: int | None = None
    ) -> Sequence[TokenRecord]:
        """Return tokens, newest first; `active_only` omits the revoked and the expired ones.

        `expires_before` (microseconds) selects those that expire, or have expired, before that time.
        """
        query = Token.select().order_by(Token.created_at.desc(), Token.id)
        if project_id is not None:
            query = query.where(Token.project == project_id)
        if expires_before is not None:
            query = query.where(Token.expires_at < expires_before)
        if active_only:
            query = query.where(Token.is_active & (Token.expires_at > self._database.now()))
        with self._moment():
            return self._records(query)

    def get(self, token_id: str) -> TokenRecord:
        """Return one token, by its id, its value or its previous value. Raises NotFound."""
        with self._moment():
            return self._records([self._row(token_id)])[0]

    def public_id(self, token_id: str) -> str:
        """Return the public id of a token by what `get` finds it by; any other text is returned as it is."""
        with self._database.read():
            row = self._found(token_id)
        return token_id if row is None else row.id

    def update(
        self, token_id: str, changes: TokenChanges, check: Callable[[TokenRecord], None] | None = None
    ) -> TokenRecord:
        """Write the named fields and return the token; with no changes nothing is written.

        It never writes a count, so that no request that is counted at the same time is lost. `check` gets the token as
        it is before the change, in the same transaction; an exception of it prevents the change. Raises NotFound, and
        InvalidRequest for days that reach beyond the year 9999, a name that contains a secret, bad limits and policies.
        """
        names.refuse_secret(changes.get("name"))
        limits.columns(limits.named(changes))
        policies.columns(changes)
        if not changes and not check:
            return self.get(token_id)
        public_id = self._write(token_id, changes, check)
        limits.begin_counting(self._database, "token_id", public_id, limits.named(changes))
        return self.get(public_id)

    @transaction
    def rotate(self, token_id: str, grace_seconds: int = 0) -> TokenRecord:
        """Give a token a new value and return it. The present one works for `grace_seconds` more, the one before ends.

        Raises NotFound, InactiveNotRotated, ExpiredNotRotated.
        """
        public_id: str = self._row(token_id).id
        locked = locks.tokens(self._database, [public_id])
        now = self._database.read_locked([locked], Statement("SELECT 1")).now  # it may have waited for the lock
        row = self._row(public_id)
        _require_valid(row, now)
        value, ends_at = str(uuid.uuid4()), previous_values.end(now, grace_seconds, row.expires_at)
        Token.update(
            lookup=self._vault.lookup(value),
            sealed_value=self._vault.seal_token(public_id, value),
            previous_lookup=None if ends_at is None else row.lookup,
            previous_expires_at=ends_at,
        ).where(Token.id == public_id).execute()
        ended_at = previous_values.working_until(row.previous_expires_at, row.expires_at, now)
        before = {"token": audit.SET, "previous_expires_at": _shown(ended_at)}
        after = {"token": audit.REPLACED, "previous_expires_at": _shown(ends_at), "grace_seconds": grace_seconds}
        self._audit("token.rotate", row, Versions(before, after))
        return self._records([self._row(public_id)])[0]

    def revoke(self, token_id: str) -> None:
        """Revoke a token; a revoked one stays so. Raises NotFound."""
        self.update(token_id, {"is_active": False})

    def revoke_all(self, project_id: str) -> RevokedTokens:
        """Revoke every token of a project, in batches, some of which may fail.

        Raises NotFound, OutcomeUnknown where the store confirmed nothing, and some may be revoked.
        """
        with self._database.read():
            if not Project.select().where(Project.id == project_id).exists():
                raise NotFound("There is no such project.")
        ids = bulk.token_ids(self._database, project_id)
        revoke_some = functools.partial(self._revoke_some, project_id)
        revoked, failed = bulk.change_tokens(self._database, revoke_some, ids)
        return RevokedTokens(revoked, len(ids) - revoked - failed, failed)

    def _revoke_some(self, project_id: str, which: Statement) -> int:
        active = Statement(f"is_active AND {which.sql}", which.parameters)
        ids = bulk.matching(self._database, active)
        versions = Versions({"is_active": True}, {"is_active": False})
        bulk.record_part(self._database, "project.tokens.revoke", project_id, ids, versions)
        return self._database.update(
            f"UPDATE token SET is_active = FALSE WHERE {active.sql}",  # noqa: S608 - no data
            active.parameters,
        )

    @transaction
    def _write(self, token_id: str, changes: TokenChanges, check: Callable[[TokenRecord], None] | None) -> str:
        public_id: str = self._row(token_id).id
        named = limits.named(changes)
        balances = LockedBalances(self._database, limits.of_owner(public_id)) if named else None
        self._database.lock_rows(locks.tokens(self._database, [public_id]))
        row = self._row(public_id)
        if check:
            check(*self._records([row]))
        if changes:
            Token.update(**_columns(changes, self._database.now())).where(Token.id == public_id).execute()
            changed = self._row(public_id)
            self._audit(_action(row, changed), changed, Versions(_fields(row), _fields(changed)))
        if balances:
            balances.set("token_id", public_id, limits.of_row(row) | named)
        return public_id

    def _audit(self, action: Action, row: Token, versions: Versions) -> None:
        audit.record(self._database, action, Subject(row.id, row.name, row.project_id), versions)

    def _row(self, token_id: str) -> Token:
        row = self._found(token_id)
        if row is None:
            raise NotFound("There is no such token.")
        return row

    def _found(self, token_id: str) -> Token | None:
        lookup = self._vault.lookup(token_id)
        row = Token.get_or_none((Token.id == token_id) | (Token.lookup == lookup) | (Token.previous_lookup == lookup))
        if row is None or row.previous_lookup != lookup or previous_values.ends(self._database, [row]):
            return row
        return None

    def _records(self, rows: Iterable[Token]) -> Sequence[TokenRecord]:
        """Read rows. One that is damaged, or whose key is missing, is shown without its value; it hides no other."""
        found = [*rows]
        project_names, shown = self._project_names(found), limits.show(self._database, found)
        ends = previous_values.ends(self._database, found)
        records = [self._record(row, project_names.get(row.project_id), shown, ends.get(row.id)) for row in found]
        unreadable = [record.id for record in records if record.value == UNREADABLE]
        if unreadable:
            _LOG.error("tokens cannot be decrypted", extra={"tokens": len(unreadable), "first_id": unreadable[0]})
        return records

    def _project_names(self, rows: Iterable[Token]) -> Mapping[str, str]:
        return names.of_projects(self._database, {row.project_id for row in rows})

    def _moment(self) -> AbstractContextManager[None]:
        """Read tokens and their balances as of one moment."""
        return self._database.snapshot(limit=self._database.timeout)

    def _record(
        self,
        row: Token,
        project_name: str | None,
        shown: Mapping[str, Sequence[LimitStanding]],
        previous_expires_at: int | None = None,
    ) -> TokenRecord:
        try:
            value = self._vault.open_token(row.id, bytes(row.sealed_value))
        except DecryptionError:
            value = UNREADABLE
        return TokenRecord(
            id=row.id,
            name=row.name,
            value=value,
            previous_expires_at=previous_expires_at,
            project_id=row.project_id,
            project_name=project_name,
            expires_at=row.expires_at,
            is_active=row.is_active,
            request_count=row.request_count,
            max_requests=row.max_requests,
            rate_limits=rate_limits.read_windows(row.rate_limits),
            budgets=rate_limits.read_budgets(row.budgets),
            max_parallel_requests=row.max_parallel_requests,
            policies=policies.of_row(row),
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            limits=shown.get(row.id, ()),
        )


def _action(former: Token, row: Token) -> Action:
    """Return the kind of a change."""
    if former.is_active == row.is_active:
        return "token.update"
    return "token.restore" if row.is_active else "token.revoke"


def _shown(time: int | None) -> str | None:
    return None if time is None else clock.to_rfc3339(time)


def _fields(row: Token) -> Fields:
    """Return what an update can change, as the API shows it."""
    return {
        "name": row.name,
        "is_active": row.is_active,
        "max_requests": row.max_requests,
        "expires_at": clock.to_rfc3339(row.expires_at),
        **limits.of_row(row),
        **policies.of_row(row),
    }


def _require_valid(row: Token, now: int) -> None:
    """Raise InactiveNotRotated or ExpiredNotRotated for a token that makes no requests."""
    if not row.is_active:
        raise InactiveNotRotated
    if row.expires_at <= now:
        raise ExpiredNotRotated


def _columns(changes: TokenChanges, now: int) -> dict[str, object]:
    columns: dict[str, object] = {**changes, **limits.columns(limits.named(changes)), **policies.columns(changes)}
    columns.pop("expires_in_days", None)
    if "expires_in_days" in changes:
        columns["expires_at"] = _expiry(now, changes["expires_in_days"])
    elif "expires_at" in changes:
        columns["expires_at"] = _whole_second(changes["expires_at"])
    return columns


def _whole_second(time: int) -> int:
    """Cut a time to its second: the API shows no more, and a token expires when the API says so."""
    return time // clock.SECOND * clock.SECOND


def _future(now: int, time: int) -> int:
    """Return the expiry of a new token from a time. Raises InvalidRequest for one that is past."""
    expiry = _whole_second(time)
    if expiry <= now:
        raise InvalidRequest("The field 'expires_at' must be in the future, or null for a token that never expires.")
    return expiry


def _expiry(now: int, days: int) -> int:
    """Return the expiry of a token of `days` days. Raises InvalidRequest."""
    if days == 0:
        return clock.NEVER
    expiry = _whole_second(now) + days * clock.DAY
    if expiry >= clock.NEVER:
        raise InvalidRequest("expires_in_days reaches beyond the year 9999; use 0 for a token that never expires.")
    return expiry
