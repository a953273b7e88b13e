import csv
import io
import itertools
import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.clients.page_client import Browser, Page
from support.stores.ledger import NOON, open_request, refuse_request, settle_request, settle_requests
from support.stores.stores import make_token

from manage_api import schemas
from manage_api.pages import downloads, explanations
from manage_api.pages import requests as pages
from manage_api.pages.gate import RELOADS
from store import clock
from store.clock import MINUTE
from store.database.models import AdminSession, Token
from store.errors import REQUEST_CODES
from store.ids import new_request_id
from store.ledger.usage import COST_UNIT, Source
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.reports.request_list import RequestFilter, RequestList
from store.store import Store

EVIL = "\"><script>alert(1)</script>'{{7*7}}"
FORMULA = "=cmd|' /C calc'!A0"
USED: Mapping[str, Any] = {
    "usage_source": Source.OBSERVED,
    "model_asked": "gpt-4o",
    "model": "gpt-4o-2024-08-06",
    "streamed": True,
    "duration_ms": 1200,
    "first_byte_ms": 300,
    "input_tokens": 1000,
    "cached_input_tokens": 400,
    "output_tokens": 50,
    "cost": 2_600_000_000,
    "price": json.dumps(
        {"gpt-4o": {"from": "a list", "input_mtok": "2.5", "cache_read_mtok": "1.25", "output_mtok": "12"}}
    ),
}


@pytest.fixture
def token(store: Store) -> TokenRecord:
    return make_token(store, name="Ann's laptop")


@pytest.fixture
def mine(token: TokenRecord) -> Mapping[str, str]:
    return {"project_id": token.project_id, "token_id": token.id}


def ids(page: Page) -> list[str]:
    return re.findall(r'<tr id="r-([0-9a-f-]{36})"', page.html)


def test_without_requests_the_page_says_what_to_do_first(browser: Browser) -> None:
    page = browser.open("/requests")
    assert page.status == 200
    assert "There is no request yet. Make a project and a token" in page.text


def test_the_list_shows_each_request_newest_first(browser: Browser, store: Store, mine: Mapping[str, str]) -> None:
    used = settle_request(store, **mine, **USED)
    refused = refuse_request(store, **mine, started_at=NOON + 1, repeats=12)
    cut = settle_request(store, **mine, started_at=NOON + 2, code="token_inactive", status=200)
    running = open_request(store, **mine, started_at=NOON + 3)
    failed = settle_request(store, **mine, started_at=NOON + 4, status=500)
    page = browser.open("/requests")
    assert ids(page) == [row["id"] for row in (failed, running, cut, refused, used)]
    rows = [re.sub(r"<[^>]+>|\s+", " ", row) for row in re.findall(r"<tr id.*?</tr>", page.html, re.DOTALL)]
    shown = [" ".join(row.split()) for row in rows]
    assert "500" in shown[0]
    assert "running" in shown[1]
    assert "200 ended token_inactive" in shown[2]
    assert "429 refused \N{MULTIPLICATION SIGN} 12 rate_limit_exceeded" in shown[3]
    assert shown[4] == (
        "2024-10-04 12:00:00 UTC Tests Ann&#39;s laptop gpt-4o-2024-08-06 /v1/chat/completions"
        " 200 1,000 50 $0.0026 1.2 s"
    )


def test_each_filter_selects(browser: Browser, store: Store, token: TokenRecord, mine: Mapping[str, str]) -> None:
    one = settle_request(store, **mine, **USED)
    settle_request(store, started_at=NOON + 10 * MINUTE, endpoint="/v1/files", status=404, model="other")
    late = clock.to_rfc3339(NOON + 5 * MINUTE)
    for query in (
        f"project_id={token.project_id}",
        f"token_id={token.id}",
        "token_id=Ann%27s laptop",
        "model=gpt-4o",
        "model=gpt-4o-2024-08-06",
        "endpoint=/v1/chat/completions",
        "status=200",
        "source=observed",
        f"to={late}",
        f"project_id={token.project_id}&status=200&model=&code=&from=2024-10-04 12:00",
    ):
        assert ids(browser.open(f"/requests?{query}")) == [one["id"]], query
    assert one["id"] not in ids(browser.open(f"/requests?from={late}"))
    assert ids(browser.open("/requests?from=1h")) == []


def test_a_form_keeps_what_was_asked_for(browser: Browser, store: Store, token: TokenRecord) -> None:
    settle_request(store)
    page = browser.send(
        browser.open("/requests"), "Show", project_id=token.project_id, token_id="Ann's laptop", status="429"
    )
    assert "No request matches these filters." in page.text
    fields = page.form("Show").fields
    assert (fields["project_id"], fields["token_id"], fields["status"]) == (token.project_id, "Ann's laptop", "429")
    assert "status=429" in page.links["Last hour"]
    assert "from=1h" in page.links["Last hour"]


def test_each_code_is_a_filter(browser: Browser, store: Store) -> None:
    rows = {code: settle_request(store, code=code)["id"] for code in REQUEST_CODES}
    for code, row_id in rows.items():
        assert ids(browser.open(f"/requests?code={code}")) == [row_id]


def test_a_bad_filter_is_explained_beside_the_form(browser: Browser) -> None:
    for query, message in (
        ("status=99", "“Status” must be a whole number from 100 to 599."),
        ("status=\uff1200", "“Status” must be a whole number"),
        ("code=none", "“Code” must be one of the choices"),
        ("source=none", "“Usage” must be one of the choices"),
        ("from=soon", "“From” must be a time ago such as"),
        ("to=2026-13-01", "“Before” must be a time ago such as"),
        ("project_id=Search", "“Project” must be one of the choices"),
        ("token_id=nobody", "No token has this name or id."),
        ("cursor=x", "The cursor is invalid"),
        (f"model={'x' * 2049}", "a filter has up to 2,048 characters"),
    ):
        page = browser.open(f"/requests?{query}")
        assert (page.status, "Show" in page.form("Show").buttons) == (400, True), query
        assert message in page.text
        if not query.startswith("cursor"):  # a file begins with the newest
            for path in ("/requests.csv", "/requests.jsonl"):
                assert message in browser.open(f"{path}?{query}").text


def test_tokens_of_one_name_are_offered(browser: Browser, store: Store, token: TokenRecord) -> None:
    other = make_token(store, name="Ann's laptop")
    row = settle_request(store, project_id=other.project_id, token_id=other.id)
    page = browser.open("/requests?token_id=Ann%27s laptop&status=200")
    assert "2 tokens have this name. Choose one of them:" in page.text
    assert token.id in page.links
    assert ids(browser.follow(page, other.id)) == [row["id"]]


def test_a_deleted_token_and_project_are_found_and_have_no_link(
    browser: Browser, store: Store, token: TokenRecord, mine: Mapping[str, str]
) -> None:
    row = settle_request(store, **mine)
    Projects(store).delete(token.project_id)
    for query in ("token_id=Ann%27s laptop", f"token_id={token.id}", f"project_id={token.project_id}"):
        page = browser.open(f"/requests?{query}")
        assert ids(page) == [row["id"]]
        assert "Tests deleted Ann's laptop deleted" in page.text
        assert f"/tokens/{token.id}" not in page.html
    assert "Tests (deleted)" in page.text


def test_the_value_of_a_token_does_not_stay_in_the_address(
    browser: Browser, store: Store, token: TokenRecord, mine: Mapping[str, str]
) -> None:
    row = settle_request(store, **mine)
    page = browser.open(f"/requests?token_id={token.value}&status=200")
    assert ids(page) == [row["id"]]
    assert token.value not in page.html
    assert page.answer.request.query_string.decode() == f"token_id={token.id}&status=200"


@pytest.mark.parametrize("upper", [False, True])
def test_an_id_leads_to_its_request(browser: Browser, store: Store, upper: bool) -> None:
    row = settle_request(store, upstream_request_id="req_1")
    refused = refuse_request(store)
    for given, found in ((row["id"], row), ("req_1", row), (refused["id"], refused)):
        asked = given.upper() if upper and given != "req_1" else given
        assert browser.send(browser.open("/requests"), "Find", id=f" {asked} ").path == f"/requests/{found['id']}"
        assert browser.open(f"/requests/{asked}").path == f"/requests/{found['id']}"


def test_an_unknown_id_is_told(browser: Browser) -> None:
    page = browser.send(browser.open("/requests"), "Find", id=EVIL)
    assert page.status == 404
    assert "There is no such request: it may be older than LEDGER_DAYS" in page.text
    assert "<script>alert" not in page.html
    assert browser.open(f"/requests/{uuid.UUID(int=7)}").status == 404


def test_pages_join_without_gaps(browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SHOWN", 3)
    rows = [settle_request(store, started_at=NOON + number // 3) for number in range(8)]
    expected = [row["id"] for row in sorted(rows, key=lambda row: (row["started_at"], row["id"]), reverse=True)]
    page = browser.open("/requests?status=200")
    found = ids(page)
    while "Older" in page.links:
        settle_request(store, started_at=NOON + 100)
        page = browser.follow(page, "Older")
        found += ids(page)
    assert found == expected
    assert len(ids(browser.follow(page, "Newest"))) == 3


def test_a_filter_that_selects_few_is_searched_part_by_part(
    browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SEARCHED", 10)
    rows = [
        settle_request(store, started_at=NOON + number // 2, status=404 if number in {3, 4, 20} else 200)
        for number in range(30)
    ]
    page = browser.open("/requests?status=404")
    found = [ids(page)]
    assert "10 requests were searched, back to 2024-10-04 12:00:00 UTC" in page.text
    while "Search further back" in page.links:
        page = browser.follow(page, "Search further back")
        found.append(ids(page))
    assert [each for each in found if each] == [[rows[20]["id"]], [rows[4]["id"], rows[3]["id"]]]
    assert "No request matches so far." in browser.open("/requests?status=418").text
    assert "Search further back" not in browser.open("/requests").links
    assert len(ids(browser.open("/requests?status=200&from=2024-10-04"))) == 11


def test_live_reloads_without_javascript_too_and_is_no_use_of_the_session(browser: Browser, store: Store) -> None:
    row = settle_request(store)
    page = browser.follow(browser.open("/requests?status=200"), "Live: off")
    assert "<table data-live>" in page.html
    (target,) = re.findall(r'<noscript><meta http-equiv="refresh" content="5; url=([^"]+)">', page.html)
    before = clock.now() - 10 * MINUTE
    for path, headers, is_use in (
        (target.replace("&amp;", "&"), {}, False),
        ("/requests?live=1", {RELOADS: "1"}, False),
        ("/requests?live=1", {}, True),
    ):
        with store.database.write():
            AdminSession.update(used_at=before).execute()
        assert ids(browser.open(path, **headers)) == [row["id"]]
        with store.database.read():
            assert (AdminSession.select().get().used_at > before) is is_use
    assert f'"{RELOADS}"' in Path(pages.__file__).with_name("static").joinpath("pages.js").read_text()
    assert "data-live" not in browser.follow(page, "Live: on").html
    assert "<table data-live>" in browser.open("/requests?live=1&status=418").html
    assert "refresh" not in browser.open("/requests").html


def rows_of(page: Page) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(page.html, newline=""))]


def test_files_have_the_fields_of_the_api(browser: Browser, store: Store, mine: Mapping[str, str]) -> None:
    row = settle_request(store, **mine, **USED)
    refuse_request(store, **mine, started_at=NOON + 1, code="model_not_allowed")
    settle_request(store, status=404, started_at=NOON + 2)
    query = f"project_id={mine['project_id']}"
    listed = RequestList(store).page(RequestFilter(project_id=mine["project_id"])).records
    page = browser.open(f"/requests.csv?{query}")
    assert page.answer.headers["Content-Disposition"] == 'attachment; filename="requests.csv"'
    assert page.answer.mimetype == "text/csv"
    assert page.answer.headers["X-Content-Type-Options"] == "nosniff"
    found = rows_of(page)
    assert [each["id"] for each in found] == [record.id for record in listed]
    assert list(found[1]) == list(schemas.ledger_row(listed[1])) == list(pages.FIELDS)
    assert json.loads(found[1]["price"]) == json.loads(row["price"])
    assert (found[1]["cost_usd"], found[1]["token_name"]) == ("0.0026", "Ann's laptop")
    lines = browser.open(f"/requests.jsonl?{query}")
    assert lines.answer.mimetype == "application/jsonl"
    assert [json.loads(line) for line in lines.html.splitlines()] == [*map(schemas.ledger_row, listed)]


def test_a_file_without_rows_has_a_header(browser: Browser) -> None:
    assert browser.open("/requests.csv").html == ",".join(pages.FIELDS) + "\r\n"
    assert browser.open("/requests.jsonl").html == ""


def test_a_file_is_read_page_by_page_up_to_its_limit(
    browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_LIMIT", 4)
    monkeypatch.setattr(downloads, "MAX_ROWS", 10)
    rows = settle_requests(store, [{"started_at": NOON + number} for number in range(15)])
    expected = [row["id"] for row in reversed(rows)]
    assert [each["id"] for each in rows_of(browser.open("/requests.csv"))] == expected[:10]
    assert len(browser.open("/requests.jsonl").html.splitlines()) == 10
    monkeypatch.setattr(downloads, "MAX_ROWS", 100)
    assert [each["id"] for each in rows_of(browser.open("/requests.csv"))] == expected


def test_nothing_that_others_fill_in_is_markup_or_a_formula(browser: Browser, store: Store) -> None:
    token = make_token(store, name=EVIL)
    mine = {"project_id": token.project_id, "token_id": token.id}
    texts = dict.fromkeys(
        ("method", "path", "endpoint", "client", "model", "model_asked", "upstream_request_id", "code"), EVIL
    )
    price = json.dumps({EVIL: {"from": EVIL, "input_mtok": "1"}, "b": {"from": EVIL, EVIL: "1"}})
    row = settle_request(store, **mine, **{**USED, **texts, "price": price})
    single = settle_request(store, **mine, **{**USED, **texts, "price": json.dumps({EVIL: {"from": EVIL}})})
    with store.database.write():
        store.database.run("UPDATE project SET name = ?", [EVIL])
    for path in (
        "/requests",
        f"/requests?{'&'.join(f'{name}=%22%3E%3Cscript%3Ealert(1)' for name in pages.PARAMETERS)}",
        "/requests?live=1&model=%22%3E%3Cscript%3Ealert(1)",
        f"/requests/{row['id']}",
        f"/requests/{single['id']}",
    ):
        page = browser.open(path)
        assert "<script>alert" not in page.html
        assert "alert(1)" in page.html
        assert "{{7*7}}" in page.text or "?" in path
        assert not re.search(r"<[^>]+ on\w+=", page.html)
    formulas = dict.fromkeys(texts, FORMULA)
    named = make_token(store, name=FORMULA)
    settle_request(store, project_id=named.project_id, token_id=named.id, **{**USED, **formulas})
    cells = next(each for each in rows_of(browser.open("/requests.csv")) if each["token_id"] == named.id)
    for name in (*texts, "token_name"):
        assert cells[name] == f"'{FORMULA}", name


def test_a_request_is_shown_with_its_facts(browser: Browser, store: Store, mine: Mapping[str, str]) -> None:
    opening = settle_request(store, **mine)
    row = settle_request(
        store,
        **mine,
        **USED,
        client="203.0.113.7",
        upstream_request_id="req_1",
        session_id=opening["id"],
        request_bytes=2048,
        response_bytes=4096,
        reasoning_tokens=20,
        input_audio_tokens=7,
        output_audio_tokens=8,
        told_cost=COST_UNIT // 100,
    )
    page = browser.open(f"/requests/{row['id']}")
    for text in (
        *(row["id"], "req_1", "203.0.113.7", "POST /v1/chat/completions", "gpt-4o-2024-08-06"),
        *("2,048 and 4,096 bytes", "Until the first byte of the answer 300 ms Until its end 900 ms In all 1.2 s"),
        *("The upstream told it.", "Input tokens 1,000 of them cached 400 of them audio 7"),
        "Output tokens 50 of them reasoning 20 of them audio 8",
        *("The upstream told a cost of $0.01", "$0.0026 count against the budgets of the token and its project."),
    ):
        assert text in page.text, text
    assert page.links["this request"] == f"/requests/{opening['id']}"
    assert page.links["Ann's laptop"] == f"/tokens/{mine['token_id']}"
    assert page.links["Tests"] == f"/projects/{mine['project_id']}"
    assert 'aria-label="25.0 % until the first byte"' in page.html


def test_the_price_adds_up_to_the_cost_line_by_line(browser: Browser, store: Store) -> None:
    row = settle_request(store, **USED)
    page = browser.open(f"/requests/{row['id']}")
    assert (
        "Cached input tokens 400 $1.25 per million $0.0005"
        " Input tokens 600 $2.5 per million $0.0015"
        " Output tokens 50 $12 per million $0.0006 Cost $0.0026"
    ) in page.text
    assert "a list" in page.text


def test_what_is_not_known_is_explained(browser: Browser, store: Store) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"cost": 2_600_000_000 + 5}, "tokens written to a cache, or a fee for a request $0.000000000005"),
        ({"cost_is_minimum": True}, "It cost at least this much"),
        (
            {"price": json.dumps({"a": {"from": "x", "input_mtok": "1"}, "b": {"from": "own price"}})},
            "Several models answered",
        ),
        ({"price": json.dumps({"a": {"from": "told by the upstream"}})}, "told by the upstream"),
        ({"cost": None, "price": None}, "There is no price for this model or this usage: set one."),
        ({"usage_source": Source.ESTIMATED}, "The gateway counted it from what passed by"),
        (
            {"usage_source": Source.UNKNOWN, "cost": None, "price": None, "budget_beyond": COST_UNIT},
            "$1 count against the budgets of the token and its project: $1 more than its known cost",
        ),
        ({"first_byte_ms": None}, "Until the first byte of the answer \N{EN DASH} In all 1.2 s"),
        ({"duration_ms": None}, "The upstream told it."),
        ({"price": json.dumps({"input": "2.5"})}, "Cost $0.0026"),
    ]
    for columns, text in cases:
        row = settle_request(store, **{**USED, **columns})
        page = browser.open(f"/requests/{row['id']}")
        assert page.status == 200
        assert text in page.text


def test_a_running_request_says_so(browser: Browser, store: Store) -> None:
    row = open_request(store)
    assert "The request is still running" in browser.open(f"/requests/{row['id']}").text


def test_each_end_is_explained_with_its_code(browser: Browser, store: Store) -> None:
    for code in REQUEST_CODES:
        refused = refuse_request(store, code=code, repeats=3)
        text = browser.open(f"/requests/{refused['id']}").text
        assert f"Refused ({code}). {explanations.OF_CODES[code].why}" in text
        assert "3 requests of this token were refused for this within the same minute; this is the first one." in text
        cut = settle_request(store, **USED, code=code)
        assert f"Ended by the gateway ({code})." in browser.open(f"/requests/{cut['id']}").text


def test_a_viewer_sees_the_same_and_no_button_that_writes(
    viewer: Browser, store: Store, mine: Mapping[str, str]
) -> None:
    row = settle_request(store, **mine, **USED)
    for path in ("/requests", f"/requests/{row['id']}", "/requests.csv", "/requests.jsonl"):
        page = viewer.open(path)
        assert page.status == 200
        assert [form.buttons for form in page.forms if form.method == "post"] in ([["Log out"]], [])


def test_a_stranger_is_led_to_the_login(stranger: Browser) -> None:
    for path in ("/requests", "/requests.csv", "/requests.jsonl", f"/requests/{new_request_id()}"):
        assert stranger.open(path).path == "/login"


def test_no_page_shows_the_value_of_a_token(
    browser: Browser, store: Store, token: TokenRecord, mine: Mapping[str, str]
) -> None:
    row = settle_request(store, **mine, **USED)
    for path in ("/requests", "/requests.csv", "/requests.jsonl", f"/requests/{row['id']}"):
        assert token.value not in browser.open(path).html
    with store.database.read():
        assert Token.get_by_id(token.id).is_active
    assert Tokens(store).get(token.id).request_count == 0


def test_a_longer_list_takes_no_more_statements(
    browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = type(store.database)
    execute, number = engine.execute, itertools.count()
    monkeypatch.setattr(engine, "execute", lambda *given: [next(number), execute(*given)][1])

    def statements(requests: int) -> int:
        for _ in range(requests):
            token = make_token(store, name="Ann")
            settle_request(store, project_id=token.project_id, token_id=token.id)
        before = next(number)
        assert len(ids(browser.open("/requests"))) >= requests
        return next(number) - before

    assert statements(2) == statements(20) > 3
