"""Projects: each owns one upstream key and any number of tokens."""

import functools
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Unpack

from store.database import Statement
from store.database.locks import lock_project
from store.database.models import FormerProject, Price, Project
from store.database.transactions import transaction
from store.errors import InvalidRequest, NotFound, OutcomeUnknown
from store.limits import rate_limits
from store.limits.rate_limits import BudgetLimit, Limits, RateLimit
from store.limits.standing import LimitStanding
from store.management import audit, bulk, limits, names, policies
from store.management.audit import Action, Fields, Subject, Versions
from store.management.limits import LockedBalances
from store.policies.lists import Policies, Rules
from store.store import Store

_ADMIN_KEY = "sk-admin-"
"""The prefix of OpenAI's keys that manage an organization, in lower case."""


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project as the management API shows it, without its key. Times are microseconds.

    `api_key_updated_at` is when the key was last set; None for a key that is older than this column. `rate_limits`,
    `budgets`, `max_parallel_requests` and `policies` are as they were written; `limits` shows what has been used.
    """

    id: str
    name: str
    is_active: bool
    created_at: int
    updated_at: int
    api_key_updated_at: int | None
    rate_limits: Sequence[RateLimit] | None
    budgets: Sequence[BudgetLimit] | None
    max_parallel_requests: int | None
    policies: Policies
    limits: Sequence[LimitStanding]


class ProjectChanges(Rules, total=False):
    """The fields that an update names; the others stay as they are."""

    name: str
    api_key: str
    is_active: bool


class Projects:
    """Reads and writes projects. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._vault = store.vault

    @transaction
    def create(self, name: str, api_key: str, **rules: Unpack[Rules]) -> ProjectRecord:
        """Add an active project; its key is stored encrypted.

        Raises InvalidRequest for an admin key, for bad limits and bad policies.
        """
        _refuse_admin_key(api_key)
        limited = limits.named(rules)
        rule_columns = {**limits.columns(limited), **policies.columns(rules)}
        project_id, now = str(uuid.uuid4()), self._database.now()
        row = Project.create(
            id=project_id,
            name=name,
            sealed_api_key=self._vault.seal_api_key(project_id, api_key),
            is_active=True,
            created_at=now,
            updated_at=now,
            api_key_updated_at=now,
            **rule_columns,
        )
        limits.begin(self._database, project_id, limited)
        self._record("project.create", row, Versions({}, {**_fields(row), "api_key": audit.SET}))
        return self._records([row])[0]

    def exist(self) -> bool:
        """Tell whether there is a project."""
        with self._database.read():
            return bool(Project.select().exists())

    def list(self) -> list[ProjectRecord]:
        """Return every project, ordered by name."""
        with self._moment():
            records = self._records([*Project.select()])
        # Databases collate differently; code points sort alike everywhere.
        return sorted(records, key=lambda record: (record.name, record.created_at, record.id))

    def get(self, project_id: str) -> ProjectRecord:
        """Return one project. Raises NotFound."""
        with self._moment():
            row = Project.get_or_none(Project.id == project_id)
            if row is None:
                raise NotFound("There is no such project.")
            return self._records([row])[0]

    def update(
        self, project_id: str, changes: ProjectChanges, check: Callable[[ProjectRecord], None] | None = None
    ) -> ProjectRecord:
        """Write the named fields and return the project; if none of them changes, nothing is written.

        `check` gets the project as it is before the change, in the same transaction; its exception prevents the change.
        The same key again counts as a new one: keys are not compared. Raises NotFound, and InvalidRequest for an admin
        key, for bad limits and bad policies.
        """
        named = limits.named(changes)
        columns: dict[str, object] = {**changes, **limits.columns(named), **policies.columns(changes)}
        if "api_key" in changes:
            _refuse_admin_key(changes["api_key"])
            columns["sealed_api_key"] = self._vault.seal_api_key(project_id, str(columns.pop("api_key")))
        if columns or check:
            self._write(project_id, columns, named, check)
            limits.begin_counting(self._database, "project_id", project_id, named)
        return self.get(project_id)

    def delete(self, project_id: str) -> None:
        """Remove a project, its tokens and its own prices; names are kept for reports.

        Of many tokens most are removed before the project. Raises NotFound, OutcomeUnknown where only some were.
        """
        ids = bulk.token_ids(self._database, project_id)
        delete_some = functools.partial(self._delete_some, project_id)
        if bulk.change_tokens(self._database, delete_some, ids[bulk.BATCH :], removes=True).failed:
            raise OutcomeUnknown
        self._delete(project_id)

    @transaction
    def _write(
        self,
        project_id: str,
        columns: dict[str, object],
        named: Limits,
        check: Callable[[ProjectRecord], None] | None,
    ) -> None:
        balances = LockedBalances(self._database, limits.of_owner(project_id)) if named else None
        lock_project(self._database, project_id)
        row = Project.get_by_id(project_id)
        if check:
            check(self._records([row])[0])
        changed = {name: value for name, value in columns.items() if getattr(row, name) != value}
        if changed:
            changed["updated_at"] = now = self._database.now()
            if "sealed_api_key" in changed:
                changed["api_key_updated_at"] = now
            Project.update(**changed).where(Project.id == project_id).execute()
            self._record_update(row, Project.get_by_id(project_id))
        if balances:
            balances.set("project_id", project_id, limits.of_row(row) | named)

    def _record_update(self, former: Project, row: Project) -> None:
        if bytes(former.sealed_api_key) == bytes(row.sealed_api_key):
            self._record("project.update", row, Versions(_fields(former), _fields(row)))
        else:
            before, after = {"api_key": audit.SET, **_fields(former)}, {"api_key": audit.REPLACED, **_fields(row)}
            self._record("project.api_key.replace", row, Versions(before, after))

    def _record(self, action: Action, row: Project, versions: Versions, ids: Sequence[str] = ()) -> None:
        audit.record(self._database, action, Subject(row.id, row.name, row.id), versions, ids)

    def _delete_some(self, project_id: str, which: Statement) -> int:
        ids = bulk.matching(self._database, which)
        bulk.record_part(self._database, "project.tokens.delete", project_id, ids, Versions({"token": audit.SET}, {}))
        return self._delete_tokens(which)

    def _delete_tokens(self, which: Statement) -> int:
        names.keep_of_tokens(self._database, which)
        return self._database.update(f"DELETE FROM token WHERE {which.sql}", which.parameters)  # noqa: S608 - no data

    @transaction
    def _delete(self, project_id: str) -> None:
        balances = LockedBalances(self._database, limits.of_project(project_id))
        project = lock_project(self._database, project_id, with_tokens=True)
        balances.remove()
        of_project = Statement("project_id = ?", [project_id])
        row = Project.get_by_id(project_id)
        tokens = bulk.matching(self._database, of_project)
        prices = [price.id for price in Price.select(Price.id).where(Price.project_id == project_id)]
        before = {**_fields(row), "api_key": audit.SET, "prices": len(prices) or None, "tokens": len(tokens) or None}
        self._record("project.delete", row, Versions(before, {}), [*tokens, *prices])
        self._delete_tokens(of_project)
        Project.delete().where(Project.id == project_id).execute()
        Price.delete().where(Price.project_id == project_id).execute()
        FormerProject.create(id=project_id, name=project.name)

    def _moment(self) -> AbstractContextManager[None]:
        """Read projects and their balances as of one moment."""
        return self._database.snapshot(limit=self._database.timeout)

    def _records(self, rows: Sequence[Project]) -> Sequence[ProjectRecord]:
        shown = limits.show(self._database, rows)
        return [_record(row, shown.get(row.id, ())) for row in rows]


def _record(row: Project, shown: Sequence[LimitStanding]) -> ProjectRecord:
    return ProjectRecord(
        id=row.id,
        name=row.name,
        is_active=row.is_active,
        created_at=row.created_at,
        updated_at=row.updated_at,
        api_key_updated_at=row.api_key_updated_at,
        rate_limits=rate_limits.read_windows(row.rate_limits),
        budgets=rate_limits.read_budgets(row.budgets),
        max_parallel_requests=row.max_parallel_requests,
        policies=policies.of_row(row),
        limits=shown,
    )


def _fields(row: Project) -> Fields:
    """Return what an update can change, as the API shows it; but no key."""
    return {"name": row.name, "is_active": row.is_active, **limits.of_row(row), **policies.of_row(row)}


def _refuse_admin_key(api_key: str) -> None:
    """Raise InvalidRequest for a key that manages an organization: every token could make keys with it."""
    if api_key.strip().lower().startswith(_ADMIN_KEY):
        raise InvalidRequest(
            f"The field 'api_key' begins with {_ADMIN_KEY}: an admin key makes other keys, and is not for inference. "
            "Send the key of a project."
        )
