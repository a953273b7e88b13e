"""Administrators: people and programs that use the management API, each with a token of its own.

`root` is the administrator of the setting MANAGEMENT_TOKEN. It always exists, and is enabled unless its row says
otherwise: so a new store needs no row, and a lost token no repair. A token is kept as its HMAC alone.
"""

import builtins
import enum
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from store.database import Database, Statement, locks
from store.database.models import Admin, AdminSession
from store.database.transactions import transaction
from store.errors import Conflict, InvalidRequest, LastAdmin, NotFound
from store.management import audit, names
from store.management.audit import Action, Fields, Subject, Versions
from store.runtime.redaction import ADMIN_TOKEN
from store.store import Store

ROOT = "root"

ROOT_ID = str(uuid.UUID(int=1))
"""The id of `root`, the same in every store."""

_TOKEN_BYTES = 24
"""Random bytes of a token: 192 bits."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class Role(enum.StrEnum):
    """The rights of an administrator: a viewer reads everything but the values of tokens, and changes nothing."""

    ADMIN = "admin"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class AdminRecord:
    """An administrator, without the token. `created_at` is in microseconds; None for `root`."""

    id: str
    name: str
    role: Role
    is_active: bool
    created_at: int | None

    @classmethod
    def of(cls, row: Admin) -> Self:
        """Read a row."""
        created_at = None if row.id == ROOT_ID else row.created_at
        return cls(row.id, row.name, Role(row.role), row.is_active, created_at)

    @property
    def fields(self) -> Fields:
        """The fields that a change can change."""
        return {"name": self.name, "role": self.role, "is_active": self.is_active}


_ENABLED_ROOT = AdminRecord(ROOT_ID, ROOT, Role.ADMIN, is_active=True, created_at=None)


def that_begin(_database: Database, beginning: str) -> Sequence[str]:
    """Return the names of administrators that begin with a text. Inside `Database.read`."""
    named = Admin.select(Admin.name).where(Admin.id != ROOT_ID).order_by(Admin.name)
    return [name for name in (ROOT, *(row.name for row in named)) if name.startswith(beginning)]


class Admins:
    """Reads and writes administrators. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._vault = store.vault

    def list(self) -> builtins.list[AdminRecord]:
        """Return all administrators: `root`, then the others by name."""
        with self._database.read():
            return self._all()

    def root(self) -> AdminRecord:
        """Return `root` as it is now."""
        with self._database.read():
            return self._with_id(ROOT_ID)

    def of_token(self, token: str) -> AdminRecord | None:
        """Return the enabled administrator with a token; never `root`."""
        return self.of_credential(self._vault.lookup(token))

    def of_credential(self, lookup: str) -> AdminRecord | None:
        """Return the enabled administrator with a token, by the token's HMAC; never `root`."""
        with self._database.read():
            row = Admin.get_or_none(Admin.lookup == lookup)
        return AdminRecord.of(row) if row and row.is_active else None

    @transaction
    def create(self, name: str, role: Role) -> tuple[AdminRecord, str]:
        """Add an enabled administrator. Returns it with its token, which cannot be read again.

        Raises InvalidRequest for a bad name, Conflict for one that is taken.
        """
        names.refuse_secret(name)
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                "The name must have 1 to 64 letters, digits and any of . _ @ + - and begin with a letter or a digit."
            )
        self._lock()
        if any(each.name == name for each in self._all()):
            raise Conflict("There is an administrator of this name: choose another one.")
        token = f"{ADMIN_TOKEN}{secrets.token_hex(_TOKEN_BYTES)}"
        row = Admin.create(
            id=str(uuid.uuid4()),
            name=name,
            role=role,
            lookup=self._vault.lookup(token),
            is_active=True,
            created_at=self._database.now(),
        )
        made = AdminRecord.of(row)
        self._record("admin.create", made, Versions({}, {**made.fields, "token": audit.SET}))
        return made, token

    @transaction
    def delete(self, admin_id: str) -> None:
        """Remove an administrator, whose token is refused from now on.

        Raises NotFound, LastAdmin, and Conflict for `root`, which can only be disabled.
        """
        self._lock()
        found = self._with_id(admin_id)
        if found.id == ROOT_ID:
            raise Conflict("The administrator root cannot be deleted. The command 'admin disable root' disables it.")
        self._require_another(found)
        Admin.delete().where(Admin.id == found.id).execute()
        AdminSession.delete().where(AdminSession.admin_id == found.id).execute()
        self._record("admin.delete", found, Versions({**found.fields, "token": audit.SET}, {}))

    @transaction
    def enable(self, admin_id: str) -> None:
        """Let an administrator's token in again. Raises NotFound."""
        self._lock()
        self._set_active(self._with_id(admin_id), "admin.enable", is_active=True)

    @transaction
    def disable(self, admin_id: str) -> None:
        """Refuse an administrator's token until it is enabled. Raises NotFound, LastAdmin."""
        self._lock()
        found = self._with_id(admin_id)
        self._require_another(found)
        self._set_active(found, "admin.disable", is_active=False)

    def _set_active(self, found: AdminRecord, action: Action, *, is_active: bool) -> None:
        values = {"name": found.name, "role": found.role, "created_at": self._database.now()}
        Admin.insert(id=found.id, is_active=is_active, **values).on_conflict(
            conflict_target=[Admin.id], update={"is_active": is_active}
        ).execute()
        self._record(action, found, Versions({"is_active": found.is_active}, {"is_active": is_active}))

    def _lock(self) -> None:
        """Make changes of administrators one after the other: each counts those that are left."""
        self._database.read_locked([locks.one_at_a_time()], Statement("SELECT 1"))

    def _require_another(self, found: AdminRecord) -> None:
        """Raise LastAdmin unless another one is enabled that can manage."""
        managers = [each for each in self._all() if each.is_active and each.role == Role.ADMIN]
        if managers == [found]:
            raise LastAdmin

    def _with_id(self, admin_id: str) -> AdminRecord:
        row = Admin.get_or_none(Admin.id == admin_id)
        if row is not None:
            return AdminRecord.of(row)
        if admin_id == ROOT_ID:
            return _ENABLED_ROOT
        raise NotFound("There is no such administrator.")

    def _all(self) -> builtins.list[AdminRecord]:
        found = [AdminRecord.of(row) for row in Admin.select().where(Admin.id != ROOT_ID)]
        return [self._with_id(ROOT_ID), *sorted(found, key=lambda each: each.name)]

    def _record(self, action: Action, found: AdminRecord, versions: Versions) -> None:
        audit.record(self._database, action, Subject(found.id, found.name), versions)
