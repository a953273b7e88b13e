"""The standing of tokens: what those who hold one may still do. Nothing is counted.

Nothing is locked either: what is read is committed, or of this transaction.
"""

from collections.abc import Sequence
from typing import NamedTuple

from store.admission.decision import TokenRow, TokenStanding, refusal_of
from store.database import Database, Statement
from store.errors import GatewayError, InvalidToken
from store.limits import balance
from store.limits.standing import standings

_FIELDS = (*TokenRow._fields, "token_max_requests", "token_request_count")
_READ = ", ".join(f"{name.replace('_', '.', 1)} AS {name}" for name in _FIELDS)
_SELECT = f"SELECT {_READ} FROM token JOIN project ON project.id = token.project_id WHERE "  # noqa: S608 - names of ours


class Question(NamedTuple):
    """Asks for the standing of a token, by the HMAC of its value."""

    lookup: str


class _Found(NamedTuple):
    """A token as it was read."""

    row: TokenRow
    max_requests: int
    request_count: int


def answer(database: Database, questions: Sequence[Question]) -> Sequence[TokenStanding | GatewayError]:
    """Return for each question the standing, or the error with which any request of the token would be refused."""
    named = database.among("token.lookup", sorted({question.lookup for question in questions}))
    now, rows = database.read_locked([], Statement(_SELECT + named.sql, named.parameters))
    tokens = [_Found(TokenRow._make(row[:-2]), *row[-2:]) for row in rows]
    answers = {found.row.token_lookup: refusal_of(found.row, now) for found in tokens}
    good = [found for found in tokens if answers[found.row.token_lookup] is None]
    told = {**answers, **_standings(database, good, now)}
    return [told.get(question.lookup) or InvalidToken() for question in questions]


def _standings(database: Database, tokens: Sequence[_Found], now: int) -> dict[str, TokenStanding]:
    owners = {owner for found in tokens for owner in (found.row.token_id, found.row.project_id)}
    balances = balance.of_owners(database, owners, now)
    return {
        found.row.token_lookup: TokenStanding(
            found.row.token_token_name,
            found.row.token_expires_at,
            found.max_requests,
            found.request_count,
            standings(balances[found.row.token_id]),
            standings(balances[found.row.project_id]),
        )
        for found in tokens
    }
