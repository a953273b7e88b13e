import pytest
from support.stores.ledger import PROJECT_ID, TOKEN_ID, refuse_request, settle_request

from manage_api.pages import recent_usage
from manage_api.pages.recent_usage import DAYS, RecentUsage
from store import clock
from store.clock import DAY
from store.ledger.usage import Source
from store.reports.usage_query import UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

NOW = 20_500 * DAY + 5 * clock.HOUR


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manage_api.pages.recent_usage.clock.now", lambda: NOW)


def read(store: Store, token_id: str = TOKEN_ID) -> RecentUsage:
    return recent_usage.read(UsageReports(store), UsageFilter(project_id=PROJECT_ID, token_id=token_id))


def test_there_are_thirty_days_up_to_today(store: Store) -> None:
    for ago in (0, DAYS - 1, DAYS):
        settle_request(
            store, started_at=NOW - ago * DAY, usage_source=Source.OBSERVED, model=f"m{ago}", input_tokens=ago
        )
    found = read(store)
    assert [date for date, _ in found.days] == [clock.to_date(NOW - ago * DAY) for ago in reversed(range(DAYS))]
    assert [date for date, sums in found.days if sums.requests] == [
        clock.to_date(NOW - (DAYS - 1) * DAY),
        clock.to_date(NOW),
    ]
    assert found.totals.requests == 2


def test_the_dearest_model_is_first_and_days_are_added_up(store: Store) -> None:
    known = {"usage_source": Source.OBSERVED, "input_tokens": 1}
    settle_request(store, **known, started_at=NOW, model="cheap", cost=1)
    settle_request(store, **known, started_at=NOW, model="dear", cost=5)
    settle_request(store, **known, started_at=NOW - DAY, model="dear", cost=5)
    settle_request(store, started_at=NOW)
    refuse_request(store, started_at=NOW, repeats=3)
    found = read(store)
    assert [(model, sums.requests, sums.cost) for model, sums in found.models] == [
        ("dear", 2, 10),
        ("cheap", 1, 1),
        (None, 1, 0),
    ]
    assert (found.totals.requests, found.totals.refused, found.days[-1][1].refused) == (4, 3, 3)


def test_refusals_alone_are_of_no_model(store: Store) -> None:
    refuse_request(store, started_at=NOW)
    assert read(store).models == []


def test_others_are_left_out(store: Store) -> None:
    settle_request(store, started_at=NOW)
    assert read(store, "another").totals.requests == 0
