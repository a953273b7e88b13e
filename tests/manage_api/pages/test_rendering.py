from collections.abc import Iterator
from decimal import Decimal

import flask
import pytest
from markupsafe import Markup
from support.clients.page_client import Browser
from support.stores.stores import make_token

from manage_api.pages import rendering
from store import clock
from store.clock import from_rfc3339
from store.ledger.usage import COST_UNIT, MAX_COST
from store.management.tokens import TokenRecord, Tokens
from store.store import Store

NONE = "\N{EN DASH}"
CENT = COST_UNIT // 100


def test_a_time_is_for_machines_and_for_people() -> None:
    shown = rendering.moment(from_rfc3339("2026-11-25T13:30:00.5Z"))
    assert shown == '<time datetime="2026-11-25T13:30:00Z">2026-11-25 13:30:00 UTC</time>'
    assert isinstance(shown, Markup)
    assert rendering.moment(clock.NEVER) == "never"
    assert rendering.moment(None) == NONE
    assert rendering.moment(None, "not <yet>") == "not &lt;yet&gt;"


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (999, "999"), (1234567, "1,234,567"), (-1500, "-1,500")])
def test_a_number_has_groups_and_its_exact_value(value: int, text: str) -> None:
    assert rendering.number(value) == f'<data value="{value}">{text}</data>'


def test_no_number_is_a_dash() -> None:
    assert rendering.number(None) == rendering.dollars(None) == rendering.milliseconds(None) == NONE
    assert rendering.number(None, "none") == rendering.dollars(None, "none") == "none"


@pytest.mark.parametrize(
    ("cost", "text", "exact"),
    [
        (0, "$0.00", "0"),
        (CENT, "$0.01", "0.01"),
        (CENT * 123456789, "$1,234,567.89", "1234567.89"),
        (CENT - 1, "$0.0100", "0.009999999999"),
        (CENT // 100, "$0.0001", "0.0001"),
        (CENT // 100 - 1, "&lt; $0.0001", "0.000099999999"),
        (1, "&lt; $0.0001", "0.000000000001"),
        (MAX_COST, "$9,007.20", "9007.199254740992"),
    ],
)
def test_a_cost_is_in_cents_or_finer_and_its_title_is_exact(cost: int, text: str, exact: str) -> None:
    shown = rendering.dollars(cost)
    assert shown.endswith(f">{text}</data>")
    assert f'value="{exact}" title="${exact}"' in shown


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0"),
        ("0.0005", "$0.0005"),
        ("-0.000001", "-$0.000001"),
        ("1234.5", "$1234.5"),
        ("0.33333333333333333333", "$0.333333333333"),
        ("1E+2", "$100"),
    ],
)
def test_an_exact_amount_has_all_its_decimals(amount: str, text: str) -> None:
    assert rendering.exact_dollars(Decimal(amount)).striptags() == text


def test_exact_costs_add_up_where_rounded_ones_do_not() -> None:
    parts = [1_500_000_000, 600_000_001]
    amounts = [Decimal(rendering.exact_cost(cost).striptags()[1:]) for cost in (*parts, sum(parts))]
    assert sum(amounts[:2]) == amounts[2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1 s"),
        (1234, "1.23 s"),
        (59_999, "60 s"),
        (60_000, "1 min 0 s"),
        (200_500, "3 min 20 s"),
        (86_400_000, "1,440 min 0 s"),
    ],
)
def test_a_duration_is_as_people_say_it(value: int, text: str) -> None:
    assert rendering.milliseconds(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 10, 0), (1, 3, 33.33), (10, 10, 100), (11, 10, 100), (-1, 10, 0), (1, 0, 0), (10**17, 10**18, 10)],
)
def test_a_percentage_stays_within_its_bar(part: int, whole: int, expected: float) -> None:
    assert rendering.percentage(part, whole) == expected


@pytest.fixture
def limited(store: Store) -> TokenRecord:
    rules = {
        "rate_limits": [{"requests": 60, "per": "minute"}, {"tokens": 5000, "per": "hour"}],
        "budgets": [{"usd": "2.50", "per": "month"}],
        "max_parallel_requests": 4,
    }
    return Tokens(store).get(make_token(store, **rules).id)


def test_limits_have_names_and_numbers_of_their_kind(limited: TokenRecord) -> None:
    standings = {rendering.limit_name(each): each for each in limited.limits}
    assert standings.keys() == {"requests a minute", "tokens an hour", "USD a month", "requests at once"}
    budget, window = standings["USD a month"], standings["requests a minute"]
    assert rendering.limit_number(budget.limit, budget).striptags() == "$2.50"
    assert rendering.limit_number(window.limit, window).striptags() == "60"


@pytest.fixture
def _templates(app: flask.Flask) -> Iterator[None]:
    with app.test_request_context("/"):
        yield


@pytest.mark.usefixtures("_templates")
def test_a_name_that_a_template_does_not_know_is_an_error() -> None:
    with pytest.raises(Exception, match="'misspelt' is undefined"):
        flask.render_template_string("{{ misspelt }}")


def test_every_part_is_in_the_navigation_and_marked_on_its_page(browser: Browser) -> None:
    for name, title in rendering.NAVIGATION:
        path = browser.open("/").links[title]
        page = browser.open(path)
        assert page.status == 200, name
        assert f'href="{path}" aria-current="page">{title}</a>' in page.html


def test_a_stranger_sees_no_navigation(stranger: Browser) -> None:
    assert not {title for _, title in rendering.NAVIGATION} & stranger.open("/login").links.keys()


def test_a_message_after_a_form_is_one_of_ours(browser: Browser) -> None:
    for key, message in rendering.DONE.items():
        assert message in browser.open(f"/projects?done={key}").text
    for text in ("other", "<script>", ""):
        page = browser.open(f"/projects?done={text}")
        assert 'role="status"' not in page.html
        assert text == "" or text not in page.text


def test_one_part_is_marked(browser: Browser) -> None:
    html = browser.open("/requests").html
    assert html.count('aria-current="page"') == 1
