"""Sessions: administrators who have logged in with a browser.

The browser holds a random id, the store its HMAC alone. A session ends when it is not used for IDLE, LONGEST after its
beginning, when it is ended, and with the token that opened it: each use looks that token up, on whatever node.
"""

import builtins
import contextlib
import secrets
from dataclasses import dataclass

from store.clock import HOUR, MINUTE
from store.database.models import Admin, AdminSession
from store.database.sql import storable
from store.database.transactions import transaction
from store.errors import NotFound, StoreLocked
from store.management import audit
from store.management.admins import ROOT_ID, AdminRecord, Admins
from store.management.audit import Action, Subject, Versions
from store.store import Store

IDLE = HOUR
"""Microseconds after its last use at which a session ends."""

LONGEST = 12 * HOUR
"""Microseconds after its beginning at which a session ends."""

STEP = MINUTE
"""Microseconds after which a use is written again: not every page writes."""

PATIENCE = 0.05
"""Seconds for which a page waits for the transactions of others to write a use. Then it leaves that to the next page:
beside a busy proxy the page would wait for half a second."""

LATE = 15 * MINUTE
"""Microseconds since the last written use from which on a page waits as long as a change does."""

MOST = 50
"""Sessions of an administrator at most: the next one ends the one that was used last the longest ago."""

_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A session that works, and its administrator as of now."""

    lookup: str
    admin: AdminRecord


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is listed. Times are microseconds; `ends_at` is when it ends if it is not used any more."""

    lookup: str
    admin_id: str
    address: str | None
    created_at: int
    used_at: int

    @property
    def ends_at(self) -> int:
        """When it ends if it is not used any more."""
        return min(self.used_at + IDLE, self.created_at + LONGEST)


class AdminSessions:
    """Begins, finds and ends sessions. Each method raises StoreUnavailable when the store does not answer.

    `root_token` is the token of `root`, the setting MANAGEMENT_TOKEN.
    """

    def __init__(self, store: Store, root_token: str) -> None:
        self._database = store.database
        self._vault = store.vault
        self._admins = Admins(store)
        self._root_credential = store.vault.lookup(root_token)

    @transaction
    def begin(self, admin: AdminRecord, token: str, address: str) -> str:
        """Begin a session of the administrator with a token, which has been checked. Returns the session's id."""
        now = self._database.now()
        self._make_room(admin, now)
        session_id = secrets.token_urlsafe(_ID_BYTES)
        AdminSession.create(
            lookup=self._lookup(session_id),
            admin_id=admin.id,
            credential=self._vault.lookup(token),
            created_at=now,
            used_at=now,
            address=address,
            last_form="",
        )
        self._record("admin.log_in", admin, Versions({}, {"session": audit.SET}))
        return session_id

    def find(self, session_id: str, *, is_use: bool = True) -> Session | None:
        """Return the session of an id, if it works. `is_use` defers its end: a page that reloads itself is no use."""
        with self._database.read():
            row = AdminSession.get_or_none(AdminSession.lookup == self._lookup(session_id))
        now = self._database.now()
        if row is None or _record(row).ends_at <= now:
            return None
        admin = self._admin(row)
        if admin is None or not admin.is_active:
            return None
        if is_use and row.used_at <= now - STEP:
            patience = PATIENCE if row.used_at > now - LATE else None
            with contextlib.suppress(StoreLocked), self._database.write(patience=patience):
                AdminSession.update(used_at=now).where(AdminSession.lookup == row.lookup).execute()
        return Session(row.lookup, admin)

    @transaction
    def accept_form(self, session: Session, mark: str) -> bool:
        """Tell whether a form was not the last one that was sent, by its mark, and remember it as the last one."""
        other = (AdminSession.lookup == session.lookup) & (AdminSession.last_form != mark)
        return bool(AdminSession.update(last_form=mark).where(other).execute())

    def list(self) -> builtins.list[SessionRecord]:
        """Return all sessions that work, those used last first."""
        with self._database.read():
            rows = [*AdminSession.select()]
            credentials = {row.id: row.lookup for row in Admin.select().where(Admin.is_active)}
        credentials[ROOT_ID] = self._root_credential if self._admins.root().is_active else None
        now = self._database.now()
        found = [_record(row) for row in rows if row.credential == credentials.get(row.admin_id)]
        return sorted((each for each in found if each.ends_at > now), key=lambda each: each.used_at, reverse=True)

    @transaction
    def end(self, session: Session) -> None:
        """End one session."""
        if AdminSession.delete().where(AdminSession.lookup == session.lookup).execute():
            self._record("admin.log_out", session.admin, Versions({"session": audit.SET}, {}))

    @transaction
    def end_of(self, admin: AdminRecord, lookup: str) -> None:
        """End one session of an administrator. Raises NotFound where it has ended."""
        own = (AdminSession.lookup == storable(lookup)) & (AdminSession.admin_id == admin.id)
        if not AdminSession.delete().where(own).execute():
            raise NotFound("This session has ended.")
        self._record("admin.log_out", admin, Versions({"session": audit.SET}, {}))

    @transaction
    def end_all(self, admin: AdminRecord) -> int:
        """End all sessions of an administrator. Returns their number."""
        ended = AdminSession.delete().where(AdminSession.admin_id == admin.id).execute()
        if ended:
            self._record("admin.log_out", admin, Versions({"sessions": ended}, {}))
        return int(ended)

    def mark_of(self, session_id: str, mark: str) -> str:
        """Return the proof that a form with a mark was made for a session: others cannot make it."""
        return self._vault.lookup(f"form:{session_id}:{mark}")

    def _lookup(self, session_id: str) -> str:
        return self._vault.lookup(f"session:{session_id}")

    def _admin(self, row: AdminSession) -> AdminRecord | None:
        if row.admin_id == ROOT_ID:
            return self._admins.root() if row.credential == self._root_credential else None
        return self._admins.of_credential(row.credential)

    def _make_room(self, admin: AdminRecord, now: int) -> None:
        """Delete all sessions that have ended, and those of the administrator for which there is no room."""
        ended = (AdminSession.used_at <= now - IDLE) | (AdminSession.created_at <= now - LONGEST)
        AdminSession.delete().where(ended).execute()
        own = AdminSession.select().where(AdminSession.admin_id == admin.id).order_by(AdminSession.used_at.desc())
        surplus = [row.lookup for row in own][MOST - 1 :]
        if surplus:
            AdminSession.delete().where(AdminSession.lookup.in_(surplus)).execute()

    def _record(self, action: Action, admin: AdminRecord, versions: Versions) -> None:
        audit.record(self._database, action, Subject(admin.id, admin.name), versions)


def _record(row: AdminSession) -> SessionRecord:
    return SessionRecord(row.lookup, row.admin_id, row.address, row.created_at, row.used_at)
