"""The audit: each change of what operators manage has a row, which its own transaction writes.

So no change is committed without its row, and no row without its change. Rows are only added: nothing but retention
deletes them. No row holds a secret: of a key or a token it says that it was set or replaced.
"""

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Literal, NamedTuple, get_args

from store.database import Database
from store.database.sql import storable
from store.ids import new_request_id
from store.runtime.redaction import mask_words

SET = "set"
"""Stands for a secret that there is."""

REPLACED = "replaced"
"""Stands for a secret in the place of another one."""

type Fields = Mapping[str, object]
"""The fields of an object as the management API shows them, those alone that can be changed."""


Action = Literal[
    "project.create",
    "project.api_key.replace",
    "project.update",
    "project.tokens.revoke",
    "project.tokens.delete",
    "project.delete",
    "token.create",
    "token.revoke",
    "token.restore",
    "token.update",
    "token.rotate",
    "price.set",
    "price.delete",
    "admin.create",
    "admin.enable",
    "admin.disable",
    "admin.delete",
    "admin.log_in",
    "admin.log_out",
    "encryption_key.rotate",
]
"""The kinds of changes. One that is of several kinds has the one that stands first here."""

ACTIONS: tuple[Action, ...] = get_args(Action)


class Origin(NamedTuple):
    """The origin of changes: an administrator's name or `cli:` and the system's user; over HTTP also the request."""

    actor: str
    address: str | None = None
    request_id: str | None = None


UNKNOWN = Origin("unknown")
"""The origin of changes outside of the API and the command line: they are recorded, rather than refused."""

_origin: ContextVar[Origin] = ContextVar("origin", default=UNKNOWN)


def begin(origin: Origin) -> None:
    """Record the changes that this thread makes from now on as those of an origin."""
    _origin.set(origin)


class Subject(NamedTuple):
    """The object of a change. `project_id` is that of its project, or its own if it is one."""

    object_id: str | None
    name: str | None = None
    project_id: str | None = None


class Versions(NamedTuple):
    """The fields of an object before and after a change; one that is missing is None."""

    before: Fields
    after: Fields


def record(database: Database, action: Action, subject: Subject, versions: Versions, ids: Sequence[str] = ()) -> None:
    """Add the row of a change, inside the transaction that makes it; none where no field differs.

    `ids` are those of what a part of a change, or a change of several objects, is about.
    """
    before, after = versions
    changes = {
        name: {"before": _masked(before.get(name)), "after": _masked(after.get(name))}
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }
    if not changes:
        return
    origin = _origin.get()
    row = {
        "id": new_request_id(),
        "changed_at": database.now(),
        "actor": storable(origin.actor),
        "action": action,
        "object_id": subject.object_id,
        "object_name": _masked(subject.name),
        "project_id": subject.project_id,
        "changes": json.dumps(changes, ensure_ascii=False),
        "ids": json.dumps(ids) if ids else None,
        "address": origin.address,
        "request_id": origin.request_id,
    }
    database.run(f"INSERT INTO audit ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])  # noqa: S608 - no data


def _masked(value: object) -> object:
    """Mask what has the form of a secret in the texts of a value: names of projects, and of models, are any text."""
    match value:
        case str():
            return storable(mask_words(value))
        case list():
            return [_masked(each) for each in value]
        case _:
            return value
