"""Things that an operator should look at soon: budgets near their end, tokens that expire, keys that do not work."""

from collections.abc import Sequence
from typing import NamedTuple

from store.clock import DAY
from store.database import Database
from store.errors import UpstreamKeyRejected
from store.limits import balance
from store.limits.standing import LimitStanding, standings
from store.management import names
from store.store import Store

MOST = 20
"""Entries of each kind at most."""

NEAR_END = 80
"""Percentage of a budget, used or reserved, from which on it is near its end."""

EXPIRING = 7 * DAY
"""Microseconds before its expiry from which on a token expires soon."""

LATELY = DAY
"""Microseconds for which a rejected key is told."""

_EXPIRING = (
    "SELECT token.id, token_name, project.id, project.name, expires_at, last_used_at FROM token"
    " JOIN project ON project.id = token.project_id"
    " WHERE token.is_active AND project.is_active AND expires_at > ? AND expires_at <= ? ORDER BY expires_at LIMIT ?"
)
_REJECTED = (
    "SELECT project.id, project.name, COUNT(*), MAX(started_at) FROM request"
    " JOIN project ON project.id = request.project_id"
    " WHERE code = ? AND started_at > ? AND started_at > COALESCE(api_key_updated_at, 0)"
    " GROUP BY project.id, project.name ORDER BY MAX(started_at) DESC LIMIT ?"
)
_OWNERS = "SELECT token.id, project_id FROM token WHERE {among}"


class NearEnd(NamedTuple):
    """A budget near its end: of a token, or of a project, where `token_id` is None."""

    project_id: str
    project_name: str | None
    token_id: str | None
    token_name: str | None
    limit: LimitStanding


class Expiring(NamedTuple):
    """A token that expires soon. Times are microseconds."""

    token_id: str
    token_name: str | None
    project_id: str
    project_name: str
    expires_at: int
    last_used_at: int | None


class Rejected(NamedTuple):
    """A project whose present key the upstream has rejected lately: the number of requests, and the last one's time."""

    project_id: str
    project_name: str
    requests: int
    last_at: int


class Attention(NamedTuple):
    """All of them, MOST of each kind, the most urgent first."""

    budgets: Sequence[NearEnd]
    tokens: Sequence[Expiring]
    keys: Sequence[Rejected]


def read(store: Store) -> Attention:
    """Return what needs an operator now. Raises StoreUnavailable."""
    database = store.database
    with database.snapshot():
        now = database.now()
        expiring = database.execute(_EXPIRING, (now, now + EXPIRING, MOST))
        rejected = database.execute(_REJECTED, (UpstreamKeyRejected.code, now - LATELY, MOST))
        return Attention(
            _near_end(database, now),
            [Expiring(*row) for row in expiring],
            [Rejected(*row) for row in rejected],
        )


def _near_end(database: Database, now: int) -> Sequence[NearEnd]:
    balances = balance.near_end(database, now, NEAR_END, MOST)
    owner_ids = {each.owner_id for each in balances}
    among = database.among("token.id", sorted(owner_ids))
    projects_of: dict[str, str] = (
        dict(database.execute(_OWNERS.format(among=among.sql), among.parameters)) if owner_ids else {}
    )
    token_names = names.of_tokens(database, projects_of.keys())
    project_names = names.of_projects(database, {projects_of.get(each, each) for each in owner_ids})
    found = []
    for each in balances:
        project_id = projects_of.get(each.owner_id, each.owner_id)
        token_id = each.owner_id if each.owner_id in projects_of else None
        (limit,) = standings([each])
        found.append(
            NearEnd(project_id, project_names.get(project_id), token_id, token_names.get(each.owner_id), limit)
        )
    return found
