from collections.abc import Callable

import pytest
from support.stores.ledger import open_request, settle_request
from support.stores.stores import make_many_tokens, make_token, set_columns

from store.clock import DAY, SECOND
from store.errors import NotFound
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.reports.token_list import PAGE_SIZE, SOON, Order, State, TokenFilter, TokenList, TokenPage
from store.store import Store

KEY = "sk-upstream-key-of-the-unit-tests-0123456789"
FIRST = 1_700_000_000_000_000


def ids(page: TokenPage) -> list[str]:
    return [token.id for token in page.tokens]


def names(page: TokenPage) -> list[str | None]:
    return [token.name for token in page.tokens]


@pytest.fixture
def tokens(store: Store) -> TokenList:
    return TokenList(store)


@pytest.fixture(params=[0, 20], ids=["by an index", "by sorting"])
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the list in either way: few tokens are never dense."""
    monkeypatch.setattr("store.reports.token_list._DENSE", request.param)


@pytest.fixture
def project_id(store: Store) -> str:
    return Projects(store).create("One", KEY).id


@pytest.fixture
def of_each_state(store: Store, project_id: str) -> dict[State, TokenRecord]:
    made = {state: make_token(store, project_id=project_id, name=state, expires_in_days=30) for state in State}
    now = store.database.now()
    set_columns(store, "token", made[State.EXPIRED].id, expires_at=now - SECOND)
    set_columns(store, "token", made[State.EXPIRING].id, expires_at=now + SOON - SECOND)
    Tokens(store).revoke(made[State.REVOKED].id)
    return made


def test_an_empty_list_has_one_page(tokens: TokenList) -> None:
    page = tokens.page(TokenFilter(), number=3)
    assert (page.tokens, page.number, page.total, page.pages) == ([], 1, 0, 1)


def test_a_row_has_what_a_list_shows(store: Store, tokens: TokenList) -> None:
    made = make_token(store, name="app", max_requests=2)
    set_columns(store, "token", made.id, request_count=2, last_used_at=FIRST)
    Projects(store).update(made.project_id, {"is_active": False})
    (row,) = tokens.page(TokenFilter()).tokens
    assert row == tokens.get(made.id)
    assert (row.id, row.name, row.project_id, row.project_name) == (made.id, "app", made.project_id, "Tests")
    assert (row.created_at, row.expires_at, row.last_used_at) == (made.created_at, made.expires_at, FIRST)
    assert (row.request_count, row.max_requests, row.is_used_up) == (2, 2, True)
    assert (row.state, row.works, row.project_is_active) == (State.WORKING, True, False)


def test_the_value_of_a_token_names_none(store: Store, tokens: TokenList) -> None:
    made = make_token(store)
    assert tokens.of_ids([made.value]) == []
    with pytest.raises(NotFound):
        tokens.get(made.value)
    assert tokens.page(TokenFilter(search=made.value)).total == 0


def test_tokens_are_returned_in_the_order_of_their_ids_and_once(store: Store, tokens: TokenList) -> None:
    one, two = make_token(store).id, make_token(store).id
    assert [token.id for token in tokens.of_ids([two, "unknown", one, two, "\0"])] == [two, one]


@pytest.mark.parametrize("state", State)
def test_states(tokens: TokenList, of_each_state: dict[State, TokenRecord], state: State, store: Store) -> None:
    expected = {State.WORKING, State.EXPIRING} if state == State.WORKING else {state}
    assert {token.state for token in tokens.page(TokenFilter(state=state)).tokens} == expected
    assert tokens.get(of_each_state[state].id).state == state
    Tokens(store).revoke(of_each_state[State.EXPIRED].id)
    assert tokens.get(of_each_state[State.EXPIRED].id).state == State.REVOKED


def test_states_agree_with_the_tokens_that_the_api_lists_as_active(
    store: Store, tokens: TokenList, of_each_state: dict[State, TokenRecord], project_id: str
) -> None:
    working = Tokens(store).list(project_id, active_only=True)
    assert {token.id for token in working} == {*ids(tokens.page(TokenFilter(state=State.WORKING)))}
    assert tokens.counts() == {project_id: (len(of_each_state), len(working))}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("laptop", {"Ann's Laptop", "laptop 2"}),
        ("LAPTOP 2", {"laptop 2"}),
        ("100%", {"100% sure"}),
        ("%", {"100% sure"}),
        ("_", set[str]()),
        ("!", {"so!"}),
        ("'; DROP TABLE token; --", set[str]()),
        ("\0", set[str]()),
    ],
)
def test_a_part_of_the_name_finds_tokens(store: Store, tokens: TokenList, search: str, found: set[str]) -> None:
    project_id = make_token(store).project_id
    for name in ("Ann's Laptop", "laptop 2", "100% sure", "so!"):
        make_token(store, project_id=project_id, name=name)
    assert {*names(tokens.page(TokenFilter(search=search)))} == found


def test_the_beginning_of_an_id_finds_its_token(store: Store, tokens: TokenList) -> None:
    make_token(store)
    token_id = make_token(store).id
    for search in (token_id, token_id[:20], token_id[:20].upper()):
        assert ids(tokens.page(TokenFilter(search=search))) == [token_id]
    assert ids(tokens.page(TokenFilter(search=token_id[1:]))) == []


def test_filters_hold_together(store: Store, tokens: TokenList, of_each_state: dict[State, TokenRecord]) -> None:
    other = make_token(store, name="working")
    revoked = of_each_state[State.REVOKED]
    assert tokens.page(TokenFilter(search="working")).total == 2
    assert ids(tokens.page(TokenFilter("working", other.project_id, State.WORKING))) == [other.id]
    assert ids(tokens.page(TokenFilter("rev", revoked.project_id, State.REVOKED))) == [revoked.id]
    assert tokens.page(TokenFilter("rev", other.project_id, State.REVOKED)).total == 0


ORDERED = {
    Order.NAME: ["a", "b", "c", None],
    Order.CREATED: ["c", None, "a", "b"],
    Order.EXPIRES: ["b", "c", None, "a"],
    Order.USED: [None, "b", "a", "c"],
    Order.REQUESTS: ["a", "c", "b", None],
}


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("narrowed", [lambda _: TokenFilter(), lambda project_id: TokenFilter(project_id=project_id)])
def test_orders(
    store: Store, tokens: TokenList, project_id: str, order: Order, narrowed: Callable[[str], TokenFilter]
) -> None:
    for name in ("a", "b", "c", None):
        token_id = make_token(store, project_id=project_id, name=name).id
        place = {each: column.index(name) for each, column in ORDERED.items()}
        set_columns(
            store,
            "token",
            token_id,
            created_at=FIRST + place[Order.CREATED],
            expires_at=FIRST + place[Order.EXPIRES],
            last_used_at=place[Order.USED] or None,
            request_count=place[Order.REQUESTS],
        )
    about = narrowed(project_id)
    assert names(tokens.page(about, order, descending=False)) == ORDERED[order]
    assert names(tokens.page(about, order, descending=True)) == ORDERED[order][::-1]


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("search", [None, "a"])
def test_pages_together_have_each_token_once(
    store: Store, tokens: TokenList, project_id: str, order: Order, descending: bool, search: str | None
) -> None:
    made = {token_id for token_id, _ in make_many_tokens(store, project_id, 2 * PAGE_SIZE + 3)}
    with store.database.write():  # all are equal: their ids alone order them
        store.database.run("UPDATE token SET created_at = ?, token_name = 'a'", [FIRST])
    about = TokenFilter(search=search)
    pages = [tokens.page(about, order, descending=descending, number=number) for number in (1, 2, 3)]
    assert [len(page.tokens) for page in pages] == [PAGE_SIZE, PAGE_SIZE, 3]
    assert [(page.first, page.total, page.pages) for page in pages] == [
        (place, len(made), 3) for place in (1, PAGE_SIZE + 1, 2 * PAGE_SIZE + 1)
    ]
    assert {token_id for page in pages for token_id in ids(page)} == made
    assert tokens.page(about, order, descending=descending, number=4) == pages[2]


def test_running_requests_are_counted_by_token(store: Store, tokens: TokenList, project_id: str) -> None:
    one, two = (make_token(store, project_id=project_id) for _ in range(2))
    other = make_token(store)
    for token in (one, one, two, other):
        open_request(store, project_id=token.project_id, token_id=token.id)
    settle_request(store, project_id=project_id, token_id=two.id)
    assert tokens.running() == {one.id: 2, two.id: 1, other.id: 1}
    assert tokens.running(project_id) == {one.id: 2, two.id: 1}


def test_a_list_decrypts_nothing(store: Store, tokens: TokenList, monkeypatch: pytest.MonkeyPatch) -> None:
    make_token(store, rate_limits=[{"requests": 1, "per": "day"}])
    monkeypatch.setattr(type(store.vault), "open_token", None)
    monkeypatch.setattr("store.limits.balance.of_owners", None)
    assert tokens.page(TokenFilter()).total == 1


def test_expiring_ends_with_the_seventh_day(store: Store, tokens: TokenList, project_id: str) -> None:
    make_token(store, project_id=project_id, expires_in_days=7)
    make_token(store, project_id=project_id, expires_at=store.database.now() + 7 * DAY + 60 * SECOND)
    assert tokens.page(TokenFilter(state=State.EXPIRING)).total == 1
