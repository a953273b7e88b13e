"""Projects: each owns one upstream key and any number of tokens."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypedDict

from store.database import Statement
from store.database.locks import lock_project
from store.database.models import FormerProject, Price, Project
from store.database.transactions import transaction
from store.errors import InvalidRequest, NotFound, OutcomeUnknown
from store.management import bulk, names
from store.store import Store

_ADMIN_KEY = "sk-admin-"
"""The prefix of OpenAI's keys that manage an organization, in lower case."""


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project as the management API shows it, without its key. Times are microseconds.

    `api_key_updated_at` is when the key was last set; None for a key that is older than this column.
    """

    id: str
    name: str
    is_active: bool
    created_at: int
    updated_at: int
    api_key_updated_at: int | None

    @classmethod
    def of(cls, row: Project) -> Self:
        """Read a row."""
        return cls(row.id, row.name, row.is_active, row.created_at, row.updated_at, row.api_key_updated_at)


class ProjectChanges(TypedDict, total=False):
    """The columns that an update names; the others stay as they are."""

    name: str
    api_key: str
    is_active: bool


class Projects:
    """Reads and writes projects. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self._vault = store.vault

    @transaction
    def create(self, name: str, api_key: str) -> ProjectRecord:
        """Add an active project; its key is stored encrypted. Raises InvalidRequest for an admin key."""
        _refuse_admin_key(api_key)
        project_id, now = str(uuid.uuid4()), self._database.now()
        row = Project.create(
            id=project_id,
            name=name,
            sealed_api_key=self._vault.seal_api_key(project_id, api_key),
            is_active=True,
            created_at=now,
            updated_at=now,
            api_key_updated_at=now,
        )
        return ProjectRecord.of(row)

    def list(self) -> list[ProjectRecord]:
        """Return every project, ordered by name."""
        with self._database.read():
            records = [ProjectRecord.of(row) for row in Project.select()]
        # Databases collate differently; code points sort alike everywhere.
        return sorted(records, key=lambda record: (record.name, record.created_at, record.id))

    def get(self, project_id: str) -> ProjectRecord:
        """Return one project. Raises NotFound."""
        with self._database.read():
            row = Project.get_or_none(Project.id == project_id)
        if row is None:
            raise NotFound("There is no such project.")
        return ProjectRecord.of(row)

    def update(
        self, project_id: str, changes: ProjectChanges, check: Callable[[ProjectRecord], None] | None = None
    ) -> ProjectRecord:
        """Write the named columns and return the project; if none of them changes, nothing is written.

        `check` gets the project as it is before the change, in the same transaction; its exception prevents the change.
        The same key again counts as a new one: keys are not compared. Raises NotFound, InvalidRequest for an admin key.
        """
        columns: dict[str, object] = {**changes}
        if "api_key" in changes:
            _refuse_admin_key(changes["api_key"])
            columns["sealed_api_key"] = self._vault.seal_api_key(project_id, str(columns.pop("api_key")))
        if columns or check:
            self._write(project_id, columns, check)
        return self.get(project_id)

    def delete(self, project_id: str) -> None:
        """Remove a project, its tokens and its own prices; names are kept for reports.

        Of many tokens most are removed before the project. Raises NotFound, OutcomeUnknown where only some were.
        """
        ids = bulk.token_ids(self._database, project_id)
        if bulk.change_tokens(self._database, self._delete_tokens, ids[bulk.BATCH :]).failed:
            raise OutcomeUnknown
        self._delete(project_id)

    @transaction
    def _write(
        self, project_id: str, columns: dict[str, object], check: Callable[[ProjectRecord], None] | None
    ) -> None:
        lock_project(self._database, project_id)
        row = Project.get_by_id(project_id)
        if check:
            check(ProjectRecord.of(row))
        changed = {name: value for name, value in columns.items() if getattr(row, name) != value}
        if changed:
            changed["updated_at"] = now = self._database.now()
            if "sealed_api_key" in changed:
                changed["api_key_updated_at"] = now
            Project.update(**changed).where(Project.id == project_id).execute()

    def _delete_tokens(self, which: Statement) -> int:
        names.keep_of_tokens(self._database, which)
        return self._database.update(f"DELETE FROM token WHERE {which.sql}", which.parameters)  # noqa: S608 - no data

    @transaction
    def _delete(self, project_id: str) -> None:
        project = lock_project(self._database, project_id, with_tokens=True)
        self._delete_tokens(Statement("project_id = ?", [project_id]))
        Project.delete().where(Project.id == project_id).execute()
        Price.delete().where(Price.project_id == project_id).execute()
        FormerProject.create(id=project_id, name=project.name)


def _refuse_admin_key(api_key: str) -> None:
    """Raise InvalidRequest for a key that manages an organization: every token could make keys with it."""
    if api_key.strip().lower().startswith(_ADMIN_KEY):
        raise InvalidRequest(
            f"The field 'api_key' begins with {_ADMIN_KEY}: an admin key makes other keys, and is not for inference. "
            "Send the key of a project."
        )
