import re
from collections.abc import Callable

import pytest
from support.clients.page_client import Browser
from support.gateway.processes import wait_until
from support.stores.ledger import refuse_request, settle_request
from support.stores.stores import API_KEY, make_token, set_columns

from store import clock
from store.clock import DAY, HOUR, MINUTE
from store.database.models import ProcessFigures
from store.ledger.usage import COST_UNIT, Source
from store.management.projects import ProjectRecord, Projects
from store.management.tokens import TokenRecord
from store.metrics.process_figures import Snapshot
from store.store import Store

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=y>"


@pytest.fixture
def project(store: Store) -> ProjectRecord:
    return Projects(store).create("One", API_KEY, budgets=[{"usd": "10", "per": "total"}])


@pytest.fixture
def proxy_token(store: Store, project: ProjectRecord) -> TokenRecord:
    return make_token(store, project_id=project.id, name="mine")


@pytest.fixture
def used(store: Store, proxy_token: TokenRecord) -> Callable[..., object]:
    """Write a request of the token, that has ended a moment ago."""

    def use(**columns: object) -> object:
        own = {"token_id": proxy_token.id, "project_id": proxy_token.project_id, "started_at": clock.now()}
        known = {"usage_source": Source.OBSERVED, "model": "gpt-4o", "cost": 2 * COST_UNIT}
        return settle_request(store, **{**own, **known, "input_tokens": 1000, "output_tokens": 200, **columns})

    return use


def test_a_new_store_leads_to_the_first_project(browser: Browser, viewer: Browser) -> None:
    page = browser.open("/")
    assert page.links["Make the first project and token"] == "/start"
    assert "<svg" not in page.html
    assert "Ask an administrator" in viewer.open("/").text
    assert "/start" not in viewer.open("/").links.values()


def test_the_sums_of_today_are_shown_as_charts_and_tables(browser: Browser, used: Callable[..., object]) -> None:
    used()
    used(model="other", cost=COST_UNIT)
    page = browser.open("/")
    assert "Cost $3.00" in page.text
    assert "Requests 2" in page.text
    assert "Tokens 2,400" in page.text
    assert page.html.count('<figure class="chart">') == 4
    assert page.html.count("as a table</summary>") == 4
    hour = clock.to_rfc3339(clock.now())[11:13]
    assert f"{hour}:00 2,400" in page.text
    assert (page.links["One"], page.links["mine"][:8]) == (
        f"/projects/{page.links['One'].rpartition('/')[2]}",
        "/tokens/",
    )
    assert page.text.index("gpt-4o 1 $2.00") < page.text.index("other 1 $1.00")


@pytest.mark.parametrize(("days", "bars"), [("1", None), ("7", 7), ("30", 30)])
def test_the_time_is_switched_by_links(
    browser: Browser, used: Callable[..., object], days: str, bars: int | None
) -> None:
    used()
    used(started_at=clock.now() - int(days) * DAY)
    page = browser.open(f"/?days={days}")
    assert {title: page.links[title] for title in ("Today", "7 days", "30 days")} == {
        "Today": "/?days=1",
        "7 days": "/?days=7",
        "30 days": "/?days=30",
    }
    assert re.findall(r'href="/\?days=(\d+)" aria-current="true"', page.html) == [days]
    if bars:
        assert page.html.count('class="place"') == 4 * bars


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("days", ["2", "x", "", "-1", "1000000"])
def test_another_time_is_refused(browser: Browser, days: str) -> None:
    page = browser.open(f"/?days={days}")
    assert (page.status, "must be one of 1, 7, 30" in page.text) == (400, True)


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [(3, 2, "50 % more"), (1, 2, "50 % less"), (30, 2, "15 times as much"), (2, 2, "as much"), (2, 0, "new")],
)
def test_a_period_is_compared_with_the_one_before(
    browser: Browser, used: Callable[..., object], now: int, before: int, words: str
) -> None:
    for _ in range(now):
        used()
    for _ in range(before):
        used(started_at=clock.now() - 7 * DAY - HOUR)
    page = browser.open("/?days=7")
    assert f"Requests {now} {words}; the 7 days before: {before}" in page.text


@pytest.mark.usefixtures("project")
def test_refusals_are_shown(browser: Browser, store: Store) -> None:
    refuse_request(store, started_at=clock.now(), repeats=1234)
    wait_until(lambda: "Refused requests 1,234" in browser.open("/").text)  # sums are kept for a moment


def test_nothing_to_look_at_has_no_heading(browser: Browser, used: Callable[..., object]) -> None:
    used()
    assert "Needs a look" not in browser.open("/").text


def test_budgets_near_their_end_are_shown(browser: Browser, store: Store, project: ProjectRecord) -> None:
    set_columns(store, "balance", f"{project.id}/usd/total", used=7 * COST_UNIT, reserved=2 * COST_UNIT)
    page = browser.open("/")
    assert "One $10.00 in total $7.00 $2.00 $1.00" in page.text
    assert 'aria-label="70.0 % used, 20.0 % reserved"' in page.html


def test_tokens_that_expire_soon_are_shown(browser: Browser, store: Store, project: ProjectRecord) -> None:
    make_token(store, project_id=project.id, name="soon", expires_at=clock.now() + DAY)
    make_token(store, project_id=project.id, name="late", expires_at=clock.now() + 8 * DAY)
    page = browser.open("/")
    assert "Tokens that expire within 7 days" in page.text
    assert "soon" in page.links
    assert "late" not in page.text


def test_a_key_that_was_rejected_is_shown(browser: Browser, used: Callable[..., object]) -> None:
    used(code="upstream_key_rejected", status=503, started_at=clock.now() + MINUTE)
    page = browser.open("/")
    assert "Upstream keys that were rejected" in page.text
    assert "One" in page.links


@pytest.mark.usefixtures("project")
def test_the_processes_are_counted(browser: Browser, store: Store) -> None:
    assert "No process of the proxy has reported in" in browser.open("/").text
    with store.database.write():
        for number in range(2):
            ProcessFigures.create(instance_id=str(number), figures=str(Snapshot({}, {"in_flight": 3}, "1.2")))
        ProcessFigures.create(instance_id="ended", figures=str(Snapshot({}, {}, "1.1")))
    assert "2 processes serve requests, version 1.2, 6 requests under way." in browser.open("/").text


def test_names_are_no_markup(browser: Browser, store: Store) -> None:
    project = Projects(store).create(EVIL, API_KEY)
    token = make_token(store, project_id=project.id, name=EVIL, expires_at=clock.now() + DAY)
    settle_request(
        store,
        token_id=token.id,
        project_id=project.id,
        started_at=clock.now() + 1,
        model=EVIL,
        cost=None,
        usage_source=Source.OBSERVED,
        code="upstream_key_rejected",
    )
    for path in ("/", "/prices"):
        page = browser.open(path)
        assert page.text.count("<script>alert('x')") >= 2, path
        assert "<script>alert" not in page.html
        assert "<img" not in page.html


def test_a_project_that_is_gone_is_shown_by_its_last_name(
    browser: Browser, store: Store, used: Callable[..., object], project: ProjectRecord
) -> None:
    used()
    Projects(store).delete(project.id)
    Projects(store).create("Two", API_KEY)
    page = browser.open("/")
    assert "One 1 $2.00" in page.text
