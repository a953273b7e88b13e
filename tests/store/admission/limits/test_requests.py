import pytest
from support.stores.stores import make_token, opening

from store import clock
from store.admission.limits import Asked, requests
from store.admission.limits.requests import MaxRequests
from store.errors import QuotaExhausted
from store.management.tokens import TokenRecord, Tokens
from store.request import Opened
from store.store import Store


@pytest.mark.parametrize(
    ("count", "limit", "is_refused"), [(0, 1, False), (1, 1, True), (2, 1, True), (2**40, 0, False)]
)
def test_token_is_refused_once_its_requests_are_used_up(count: int, limit: int, *, is_refused: bool) -> None:
    assert isinstance(MaxRequests(count, limit).test(Asked(opening(), 7)), QuotaExhausted) is is_refused


def test_a_hit_counts_towards_the_limit() -> None:
    limit = MaxRequests(0, 2)
    refused = []
    for _ in range(3):
        refused.append(limit.test(Asked(opening(), 7)) is not None)
        limit.hit(Asked(opening(), 7))
    assert refused == [False, False, True]


def requests_of(*tokens: TokenRecord) -> list[Opened]:
    return [Opened(str(number), 7, token.project_id, token.id, "/v1/models") for number, token in enumerate(tokens)]


def test_requests_are_counted_and_given_back_token_by_token(store: Store) -> None:
    one, other, unused = (make_token(store) for _ in range(3))
    now = clock.now()
    with store.database.write():
        requests.count(store.database, requests_of(one, other, one), now)
        requests.count(store.database, requests_of(one), now + 1)
    found = [
        (token.request_count, token.last_used_at) for token in map(Tokens(store).get, (one.id, other.id, unused.id))
    ]
    assert found == [(3, now + 1), (1, now), (0, None)]
    with store.database.write():
        requests.take_back(store.database, requests_of(one, other, one))
    assert [Tokens(store).get(token.id).request_count for token in (one, other, unused)] == [1, 0, 0]
