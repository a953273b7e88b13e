"""The standing of tokens: what those who hold one may still do. Nothing is counted.

Nothing is locked either: what is read is committed, or of this transaction.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from store.admission.decision import TokenRow, TokenStanding, refusal_of
from store.admission.locked_tokens import FIELDS, FROM, of_values
from store.database import Database, Statement
from store.errors import GatewayError, InvalidToken
from store.limits import balance
from store.limits.balance import Balance
from store.limits.standing import standings

_SELECT = f"SELECT {FIELDS} {FROM} WHERE "


class Question(NamedTuple):
    """Asks for the standing of a token, by the HMAC of a value."""

    lookup: str


def answer(database: Database, questions: Sequence[Question]) -> Sequence[TokenStanding | GatewayError]:
    """Return for each question the standing, or the error with which any request of the token would be refused."""
    named = of_values(database, sorted({question.lookup for question in questions}))
    now, rows, _ = database.read_locked([], Statement(_SELECT + named.sql, named.parameters))
    tokens = [TokenRow._make(row) for row in rows]
    owners = {owner for row in tokens for owner in (row.token_id, row.project_id)}
    balances = balance.of_owners(database, owners, now)
    told = {lookup: refusal_of(row, now) or _standing(row, balances) for row in tokens for lookup in row.lookups(now)}
    return [told.get(question.lookup) or InvalidToken() for question in questions]


def _standing(row: TokenRow, balances: Mapping[str, Sequence[Balance]]) -> TokenStanding:
    return TokenStanding(
        row.token_token_name,
        row.token_expires_at,
        row.token_max_requests,
        row.token_request_count,
        standings(balances[row.token_id]),
        standings(balances[row.project_id]),
    )
