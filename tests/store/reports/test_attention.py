import pytest
from support.stores.ledger import NOON, settle_request
from support.stores.store_clock import StoreClock
from support.stores.stores import API_KEY, make_token, rows, set_columns

from store.clock import DAY, HOUR
from store.ledger.usage import COST_UNIT
from store.management.projects import Projects
from store.management.tokens import Tokens
from store.reports import attention
from store.store import Store


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    clock = StoreClock(monkeypatch)
    clock.set(NOON)
    return clock


def use(store: Store, balance_id: str, used: int, reserved: int = 0) -> None:
    set_columns(store, "balance", balance_id, used=used, reserved=reserved)


def test_a_new_store_needs_no_operator(store: Store) -> None:
    assert attention.read(store) == ([], [], [])


def test_budgets_near_their_end_are_told_the_fullest_first(store: Store, clock: StoreClock) -> None:
    project = Projects(store).create("One", API_KEY, budgets=[{"usd": "10", "per": "month"}])
    token = make_token(store, project_id=project.id, name="mine", budgets=[{"usd": "1", "per": "day"}])
    other = make_token(store, project_id=project.id, budgets=[{"usd": "1000000", "per": "total"}])
    make_token(store, project_id=project.id, rate_limits=[{"tokens": 1, "per": "day"}], max_parallel_requests=1)
    use(store, f"{project.id}/usd/month", 8 * COST_UNIT - 1)
    assert attention.read(store).budgets == []
    use(store, f"{project.id}/usd/month", 7 * COST_UNIT, COST_UNIT)
    use(store, f"{token.id}/usd/day", 2 * COST_UNIT)
    use(store, f"{other.id}/usd/total", 2**62)
    found = attention.read(store).budgets
    assert [(each.token_id, each.token_name, each.project_name) for each in found] == [
        (other.id, None, "One"),
        (token.id, "mine", "One"),
        (None, None, "One"),
    ]
    assert {each.project_id for each in found} == {project.id}
    assert (found[2].limit.per, found[2].limit.used, found[2].limit.reserved) == ("month", 7 * COST_UNIT, COST_UNIT)
    clock.set(NOON + DAY)  # a new day, of the same month
    assert [each.limit.per for each in attention.read(store).budgets] == ["total", "month"]
    clock.set(NOON + 40 * DAY)
    assert [each.limit.per for each in attention.read(store).budgets] == ["total"]


def test_tokens_that_expire_soon_are_told_the_first_one_first(store: Store, clock: StoreClock) -> None:
    project = Projects(store).create("One", API_KEY)
    later = make_token(store, project_id=project.id, name="later", expires_at=NOON + attention.EXPIRING)
    soon = make_token(store, project_id=project.id, expires_at=NOON + HOUR)
    make_token(store, project_id=project.id, expires_at=NOON + attention.EXPIRING + 2 * HOUR)
    make_token(store, project_id=project.id, expires_in_days=0)
    revoked = make_token(store, project_id=project.id, expires_at=NOON + HOUR)
    Tokens(store).revoke(revoked.id)
    found = attention.read(store).tokens
    assert [(each.token_id, each.token_name, each.project_name) for each in found] == [
        (soon.id, None, "One"),
        (later.id, "later", "One"),
    ]
    clock.set(NOON + HOUR)
    assert [each.token_id for each in attention.read(store).tokens] == [later.id]
    Projects(store).update(project.id, {"is_active": False})
    assert attention.read(store).tokens == []


def test_a_key_that_was_rejected_is_told_until_it_is_replaced(store: Store, clock: StoreClock) -> None:
    project, other = (Projects(store).create(name, API_KEY) for name in ("One", "Two"))
    for minutes in (1, 2):
        settle_request(store, project_id=project.id, started_at=NOON + minutes, code="upstream_key_rejected")
    settle_request(store, project_id=other.id, started_at=NOON + 1, code="upstream_timeout")
    settle_request(store, started_at=NOON + 1, code="upstream_key_rejected")  # of a project that is gone
    clock.set(NOON + HOUR)
    assert attention.read(store).keys == [(project.id, "One", 2, NOON + 2)]
    set_columns(store, "project", project.id, api_key_updated_at=None)
    assert len(attention.read(store).keys) == 1
    Projects(store).update(project.id, {"api_key": "sk-another-key-0123456789"})
    assert attention.read(store).keys == []
    settle_request(store, project_id=project.id, started_at=NOON + HOUR + 1, code="upstream_key_rejected")
    clock.set(NOON + HOUR + 2)
    assert len(attention.read(store).keys) == 1
    clock.set(NOON + 2 * attention.LATELY)
    assert attention.read(store).keys == []


def test_there_are_so_many_of_each_at_most(store: Store) -> None:
    project = Projects(store).create("One", API_KEY)
    for _ in range(attention.MOST + 1):
        make_token(store, project_id=project.id, expires_at=NOON + HOUR, budgets=[{"usd": "1", "per": "total"}])
    for row in rows(store, "balance"):
        use(store, str(row["id"]), COST_UNIT)
    found = attention.read(store)
    assert (len(found.budgets), len(found.tokens)) == (attention.MOST, attention.MOST)
