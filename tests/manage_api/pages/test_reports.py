import csv
import io
import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import pytest
from support.clients.page_client import Browser, Page
from support.stores.ledger import NOON, open_request, refuse_request, settle_request
from support.stores.stores import make_token

from manage_api import export
from manage_api.pages import charts
from manage_api.pages import reports as pages
from store import clock
from store.clock import DAY, HOUR
from store.ledger.usage import COST_UNIT, Source
from store.management.projects import Projects
from store.management.tokens import TokenRecord
from store.reports import usage_report
from store.reports.usage_query import Dimension, UsageFilter
from store.reports.usage_report import UsageReports
from store.store import Store

EVIL = '"><script>alert(1)</script>'
FORMULA = "=cmd|' /C calc'!A0"
USED: Mapping[str, Any] = {
    "usage_source": Source.OBSERVED,
    "model": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 50,
    "cost": COST_UNIT // 4,
}


@pytest.fixture
def token(store: Store) -> TokenRecord:
    return make_token(store, name="Ann's laptop")


def table(page: Page) -> list[list[str]]:
    """Return the texts of the table's cells, row by row; the totals come last."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.html, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


def heights(page: Page) -> list[list[float]]:
    """Return the heights of the parts of each bar."""
    groups = re.findall(r"<g><title>.*?</g>", page.html, re.DOTALL)
    return [[float(each) for each in re.findall(r'height="([\d.]+)"', group)[1:]] for group in groups]


def titles(page: Page) -> list[str]:
    return [unescape(each) for each in re.findall(r"<g><title>(.*?)</title>", page.html)]


def test_the_page_begins_with_the_first_preset(browser: Browser) -> None:
    page = browser.open("/reports")
    assert page.status == 200
    assert page.answer.request.query_string == b"by=day&from=this+month"
    assert "No request matches." in page.text


def test_every_preset_is_a_report(browser: Browser, store: Store, token: TokenRecord) -> None:
    settle_request(store, started_at=clock.now(), project_id=token.project_id, token_id=token.id, **USED)
    page = browser.open("/reports")
    for title, query in pages.PRESETS:
        shown = browser.follow(page, title)
        assert shown.status == 200
        assert f'aria-current="true">{title}</a>' in shown.html
        checked = re.findall(r'name="by" value="(\w+)" checked', shown.html)
        assert sorted(checked) == sorted(query["by"])
    assert "$0.25" in browser.follow(page, "30 days by token").text


def test_groups_are_shown_with_their_sums_and_the_totals(browser: Browser, store: Store, token: TokenRecord) -> None:
    mine = {"project_id": token.project_id, "token_id": token.id}
    settle_request(store, **mine, **USED)
    settle_request(store, **mine, **USED, started_at=NOON + HOUR)
    settle_request(store, **mine, **{**USED, "model": "gpt-4o-mini", "cost": COST_UNIT}, started_at=NOON + DAY)
    refuse_request(store, **mine, started_at=NOON + DAY, repeats=7)
    open_request(store, **mine, started_at=NOON + DAY)
    page = browser.open("/reports?by=model&by=day")
    assert table(page) == [
        ["Day", "Model", "Requests", "Refused", "Running", "Input", "Output", "Cost (USD)"],
        ["2024-10-04", "gpt-4o", "2", "0", "0", "2,000", "100", "$0.50"],
        ["2024-10-05", "gpt-4o-mini", "1", "0", "0", "1,000", "50", "$1.00"],
        ["2024-10-05", "no model", "1", "7", "1", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}"],
        ["Total", "", "4", "7", "1", "3,000", "150", "$1.50"],
    ]
    (_, *rows, total) = table(browser.open("/reports?by=project&by=token&by=endpoint&by=month"))
    assert [row[:4] for row in rows] == [["2024-10", "Tests", "Ann's laptop", "/v1/chat/completions"]]
    assert total[:5] == ["Total", "", "", "", "4"]
    (_, *rows) = table(browser.open("/reports?chart=cost"))
    assert [row[:2] for row in rows] == [["Total", "4"]]


def test_a_group_leads_to_its_requests(browser: Browser, store: Store, token: TokenRecord) -> None:
    mine = {"project_id": token.project_id, "token_id": token.id}
    first = settle_request(store, **mine, **USED)
    settle_request(store, **mine, **USED, started_at=NOON + DAY)
    settle_request(store, **mine, **{**USED, "model": "other"})
    for query in (
        "by=day&by=model&by=token&by=endpoint",
        "by=hour&by=model",
        f"by=month&by=model&to=2024-10-05&project_id={token.project_id}",
        "by=week&by=model&from=2024-10-04&to=2024-10-05",
        "by=day&by=model&timezone=Asia/Kolkata",
    ):
        page = browser.open(f"/reports?{query}")
        row = next(row for row in re.findall(r"<tr>.*?</tr>", page.html, re.DOTALL) if "gpt-4o" in row)
        (link,) = re.findall(r'href="(/requests\?[^"]+)"', row)
        found = browser.open(unescape(link))
        assert re.findall(r'<tr id="r-([^"]+)"', found.html) == [first["id"]], query


def test_days_are_those_of_the_time_zone(browser: Browser, store: Store) -> None:
    settle_request(store, **USED, started_at=NOON + 11 * HOUR)
    for zone, day in (("", "2024-10-04"), ("Europe/Berlin", "2024-10-05"), ("America/New_York", "2024-10-04")):
        page = browser.open(f"/reports?by=day&timezone={zone}")
        assert table(page)[1][0] == day
        assert f"months, weeks and days of {zone}" in page.text or not zone
    page = browser.open("/reports?by=day&timezone=Europe/Berlin&from=2024-10-05")
    assert "2024-10-04 22:00:00 UTC" in page.text
    assert table(page)[1][0] == "2024-10-05"


def test_each_filter_selects(browser: Browser, store: Store, token: TokenRecord) -> None:
    settle_request(store, project_id=token.project_id, token_id=token.id, **USED)
    settle_request(store, **{**USED, "model": "other"}, endpoint="/v1/files", started_at=NOON + DAY)
    for query in (
        f"project_id={token.project_id}",
        f"token_id={token.id}",
        f"token_id={token.value}",
        "token_id=Ann%27s laptop",
        "model=gpt-4o",
        "endpoint=/v1/chat/completions",
        "to=2024-10-05",
    ):
        page = browser.open(f"/reports?by=month&{query}")
        assert table(page)[-1][:2] == ["Total", "1"], query
        assert token.value not in page.html


def test_a_chart_has_a_bar_for_each_time_also_those_without_requests(browser: Browser, store: Store) -> None:
    settle_request(store, **USED)
    settle_request(store, **{**USED, "cost": COST_UNIT // 2}, started_at=NOON + 3 * DAY)
    page = browser.open("/reports?by=day")
    assert titles(page) == ["2024-10-04: $0.25", "2024-10-05: $0.00", "2024-10-06: $0.00", "2024-10-07: $0.50"]
    assert heights(page) == [[50], [], [], [100]]
    assert titles(browser.open("/reports?by=day&chart=requests"))[0] == "2024-10-04: 1"
    assert titles(browser.open("/reports?by=month&by=week&chart=tokens")) == [
        "2024-09-30: 1,050",
        "2024-10-07: 1,050",
    ]
    assert titles(browser.open("/reports?by=hour&to=2024-10-05")) == ["2024-10-04 12:00 UTC: $0.25"]
    assert titles(browser.open("/reports?by=month")) == ["2024-10: $0.75"]


def test_a_chart_has_a_series_for_the_largest_groups_and_one_for_all_others(browser: Browser, store: Store) -> None:
    for number in range(6):
        settle_request(store, **{**USED, "model": f"model-{number}", "cost": COST_UNIT * (number + 1)})
    settle_request(store, **{**USED, "model": "free", "cost": 0})
    page = browser.open("/reports?by=day&by=model")
    assert titles(page) == ["2024-10-04: $6.00 model-5, $5.00 model-4, $4.00 model-3, $6.00 all others"]
    assert sum(heights(page)[0]) == pytest.approx(100, abs=0.1)
    page = browser.open("/reports?by=day&by=endpoint")
    assert titles(page) == ["2024-10-04: $21.00 /v1/chat/completions"]


@pytest.mark.parametrize("query", ["by=model", "by=day&chart=cost&model=none"])
def test_a_report_without_times_has_no_chart(browser: Browser, store: Store, query: str) -> None:
    settle_request(store, **USED)
    assert "<figure" not in browser.open(f"/reports?{query}").html


def test_a_chart_with_too_many_bars_is_left_out(
    browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "MAX_BARS", 3)
    settle_request(store, **USED)
    settle_request(store, **USED, started_at=NOON + 3 * DAY)
    assert "<figure" not in browser.open("/reports?by=day").html
    assert "<figure" in browser.open("/reports?by=week").html


def test_a_long_table_is_cut_and_says_so(browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SHOWN", 2)
    for number in range(5):
        settle_request(store, **{**USED, "model": f"model-{number}"})
    page = browser.open("/reports?by=model")
    assert len(table(page)) == 1 + 2 + 1
    assert table(page)[-1][1] == "5"
    assert "These are the first 2 of 5 groups: the file has all of them" in page.text


def test_too_many_groups_are_answered_with_advice(
    browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 2)
    for number in range(5):
        settle_request(store, **{**USED, "model": f"model-{number}"})
    page = browser.open("/reports?by=model")
    assert page.status == 400
    assert "The report has more than 2 groups: group by less, or for a shorter time." in page.text
    assert page.form("Show")


def test_bad_queries_are_explained_beside_the_form(browser: Browser) -> None:
    for query, message in (
        ("by=colour", "A report is grouped by the choices of the form."),
        ("timezone=Mars", "“Time zone” must be the name of one, such as Europe/Berlin."),
        ("timezone=../UTC", "“Time zone” must be the name of one"),
        ("from=soon", "“From” must be a time ago"),
        ("token_id=nobody", "No token has this name or id."),
        ("chart=pie", "“Chart” must be one of the choices"),
        ("project_id=x", "“Project” must be one of the choices"),
    ):
        page = browser.open(f"/reports?{query}")
        assert (page.status, message in page.text) == (400, True), query
        assert page.form("Show")
        assert message in browser.open(f"/reports.csv?{query}").text
    assert browser.open("/reports.csv?format=pdf").status == 400


def test_tokens_of_one_name_are_offered(browser: Browser, store: Store, token: TokenRecord) -> None:
    other = make_token(store, name="Ann's laptop")
    page = browser.open("/reports?by=day&token_id=Ann%27s laptop")
    assert "2 tokens have this name. Choose one of them:" in page.text
    assert {token.id, other.id} <= page.links.keys()
    assert browser.follow(page, other.id).status == 200


def test_a_file_is_that_of_the_api(browser: Browser, store: Store, token: TokenRecord) -> None:
    settle_request(store, project_id=token.project_id, token_id=token.id, **USED)
    by = [Dimension.DAY, Dimension.TOKEN]
    report = UsageReports(store).report(by, UsageFilter())
    page = browser.open("/reports?by=day&by=token")
    for link, form in (("CSV", "csv"), ("CSV for Excel", "csv-excel")):
        file = browser.follow(page, link)
        assert file.answer.get_data() == export.usage_as_csv(report, by, form)
        assert file.answer.headers["Content-Disposition"] == 'attachment; filename="usage.csv"'


def test_nothing_that_others_fill_in_is_markup_or_a_formula(browser: Browser, store: Store) -> None:
    for text in (EVIL, FORMULA):
        token = make_token(store, name=text)
        with store.database.write():
            store.database.run("UPDATE project SET name = ? WHERE id = ?", [text, token.project_id])
        mine = {"project_id": token.project_id, "token_id": token.id}
        settle_request(store, **mine, **{**USED, "model": text}, endpoint=text)
    every = "&".join(f"by={dimension}" for dimension in Dimension)
    for first in ("project", "token", "model", "endpoint"):
        page = browser.open(f"/reports?by=day&by={first}")
        assert "<script>alert" not in page.html
        assert any(f"$0.25 {EVIL}" in title for title in titles(page))
    for query in (every, *(f"{name}=%22%3E%3Cscript%3Ealert(1)" for name in (*pages.PARAMETERS, "by"))):
        page = browser.open(f"/reports?{query}")
        assert "<script>alert" not in page.html
        assert "alert(1)" in page.html or query.startswith(("chart", "by=%22"))
    rows = [*csv.DictReader(io.StringIO(browser.open(f"/reports.csv?{every}").html, newline=""))]
    row = next(row for row in rows if FORMULA in row["model"])
    for name in ("project_name", "token_name", "model", "endpoint"):
        assert row[name] == f"'{FORMULA}"


def test_deleted_projects_and_tokens_have_their_last_names(browser: Browser, store: Store, token: TokenRecord) -> None:
    settle_request(store, project_id=token.project_id, token_id=token.id, **USED)
    Projects(store).delete(token.project_id)
    page = browser.open("/reports?by=token")
    assert "Ann's laptop deleted Tests deleted" in page.text
    assert f"/tokens/{token.id}" not in page.html


def test_a_viewer_reads_them_and_a_stranger_does_not(viewer: Browser, stranger: Browser) -> None:
    for path in ("/reports?by=day", "/reports.csv?by=day"):
        page = viewer.open(path)
        assert page.status == 200
        assert [form.buttons for form in page.forms if form.method == "post"] in ([["Log out"]], [])
        assert stranger.open(path).path == "/login"
