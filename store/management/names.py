"""Names of projects and tokens for reports, also of deleted ones: the ledger keeps their ids for longer.

The transaction that deletes a project or a token keeps its name.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence

from store.database import Database, Row, Statement
from store.database.sql import storable
from store.errors import InvalidRequest
from store.runtime.redaction import contains_secret

# `{0}` is for a condition.
_PROJECTS = "SELECT id, name FROM project{0} UNION ALL SELECT id, name FROM former_project{0}"
_TOKENS = (
    "SELECT id, token_name FROM token{0} AND token_name IS NOT NULL UNION ALL SELECT id, name FROM former_token{0}"
)

_PRESENT_TOKENS = "SELECT id FROM token WHERE {0}"

_PROJECTS_NAMED = "SELECT id FROM project WHERE name = ? ORDER BY created_at, id"
_DELETED_PROJECTS_NAMED = "SELECT id FROM former_project WHERE name = ? ORDER BY id"
_TOKENS_NAMED = "SELECT id FROM token WHERE token_name = ? ORDER BY created_at, id"
_DELETED_TOKENS_NAMED = "SELECT id FROM former_token WHERE name = ? ORDER BY id"

_PROJECTS_THAT_BEGIN = "SELECT DISTINCT name FROM project WHERE substr(name, 1, ?) = ? ORDER BY name LIMIT ?"
_TOKENS_THAT_BEGIN = (
    "SELECT DISTINCT token_name FROM token WHERE substr(token_name, 1, ?) = ? ORDER BY token_name LIMIT ?"
)

MOST_OFFERED = 100
"""Names that are offered for a beginning at most."""

_TOGETHER = 1024
"""Maximum ids in one statement: SQLite limits parameters."""


def of_projects(database: Database, ids: Collection[str] | None = None) -> dict[str, str]:
    """Return names by ids, those of deleted projects too; of all projects where no ids are given.

    An id that no project has, or had, is omitted. Inside `Database.read` or `Database.snapshot`.
    """
    return dict(database.execute(_PROJECTS.format("")) if ids is None else _among(database, _PROJECTS, ids))


def of_tokens(database: Database, ids: Collection[str]) -> dict[str, str]:
    """Return names by public ids, those of deleted tokens too.

    A token without a name, and an id that no token has, or had, are omitted. Inside `Database.read` or
    `Database.snapshot`.
    """
    return dict(_among(database, _TOKENS, ids))


def of_present_projects(database: Database) -> dict[str, str]:
    """Return the names of all projects that are not deleted, by ids. Inside `Database.read`."""
    return dict(database.execute("SELECT id, name FROM project"))


def present_tokens(database: Database, ids: Collection[str]) -> set[str]:
    """Return those public ids whose tokens are not deleted. Inside `Database.read`."""
    found: set[str] = set()
    for some in itertools.batched(dict.fromkeys(ids), _TOGETHER):
        among = database.among("id", some)
        found.update(token_id for (token_id,) in database.execute(_PRESENT_TOKENS.format(among.sql), among.parameters))
    return found


def projects_named(database: Database, name: str, *, deleted: bool = False) -> Sequence[str]:
    """Return the ids of the projects, or of the deleted projects, with a name. Inside `Database.read`."""
    return _named(database, _DELETED_PROJECTS_NAMED if deleted else _PROJECTS_NAMED, name)


def tokens_named(database: Database, name: str, *, deleted: bool = False) -> Sequence[str]:
    """Return the public ids of the tokens, or of the deleted tokens, with a name. Inside `Database.read`."""
    return _named(database, _DELETED_TOKENS_NAMED if deleted else _TOKENS_NAMED, name)


def projects_that_begin(database: Database, beginning: str) -> Sequence[str]:
    """Return names of projects that begin with a text, MOST_OFFERED at most. Inside `Database.read`."""
    return _offered(database, _PROJECTS_THAT_BEGIN, beginning)


def tokens_that_begin(database: Database, beginning: str) -> Sequence[str]:
    """Return names of tokens that begin with a text, MOST_OFFERED at most. Inside `Database.read`."""
    return _offered(database, _TOKENS_THAT_BEGIN, beginning)


def refuse_secret(name: str | None) -> None:
    """Raise InvalidRequest for a name that contains the form of a token or a key."""
    if name and contains_secret(name):
        raise InvalidRequest(
            "The field 'name' has something in it with the form of a token or a key: a UUID, or sk- with more behind. "
            "A name is shown in reports, logs and mitmweb: choose one without."
        )


def keep_of_tokens(database: Database, which: Statement) -> None:
    """Keep the names of the tokens that match a condition; inside the transaction that deletes them."""
    database.run(
        "INSERT INTO former_token (id, name) SELECT id, token_name FROM token"  # noqa: S608 - no data
        f" WHERE {which.sql} AND token_name IS NOT NULL ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        which.parameters,
    )


def _named(database: Database, select: str, name: str) -> Sequence[str]:
    return [str(found) for (found,) in database.execute(select, [storable(name)])]


def _offered(database: Database, select: str, beginning: str) -> Sequence[str]:
    text = storable(beginning)
    return [str(name) for (name,) in database.execute(select, [len(text), text, MOST_OFFERED])]


def _among(database: Database, select: str, ids: Collection[str]) -> Iterable[Row]:
    """Run a statement of two parts, each with a condition on the ids, in batches of ids."""
    for some in itertools.batched(dict.fromkeys(ids), _TOGETHER):
        among = database.among("id", some)
        yield from database.execute(select.format(f" WHERE {among.sql}"), [*among.parameters, *among.parameters])
