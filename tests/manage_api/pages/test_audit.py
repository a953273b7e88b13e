import csv
import io
import json
import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from support.clients.page_client import Browser, Page
from support.stores.stores import make_many_tokens, make_token

from manage_api import schemas
from manage_api.pages import audit as pages
from manage_api.pages import downloads
from store.management import audit
from store.management.admins import Admins, Role
from store.management.audit import ACTIONS, Origin, Subject, Versions
from store.management.prices import OwnPrices
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.reports.audit_log import AuditFilter, AuditLog
from store.store import Store

EVIL = '"><script>alert(1)</script>'
FORMULA = "=cmd|' /C calc'!A0"


@pytest.fixture
def token(store: Store) -> TokenRecord:
    audit.begin(Origin("maria", "203.0.113.7"))
    token = make_token(store, name="Ann's laptop")
    audit.begin(audit.UNKNOWN)
    return token


def rows(page: Page) -> list[str]:
    """Return the text of each row."""
    found = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", page.html, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found]


def record(store: Store, name: str | None, after: dict[str, object], ids: list[str] | None = None) -> None:
    with store.database.write():
        subject = Subject(str(uuid.UUID(int=9)), name, str(uuid.UUID(int=8)))
        audit.record(store.database, "token.update", subject, Versions({}, after), ids or ())


def test_a_change_is_shown_with_its_fields_before_and_after(browser: Browser, store: Store, token: TokenRecord) -> None:
    audit.begin(Origin("cli:ops"))
    windows: Any = [{"requests": 60, "per": "minute"}, {"tokens": 100_000, "per": "hour"}]
    Tokens(store).update(token.id, {"rate_limits": windows, "name": "Ann"})
    Tokens(store).update(
        token.id, {"rate_limits": None, "budgets": [{"usd": "100", "per": "month"}], "allowed_models": ["a", "b"]}
    )
    Tokens(store).revoke(token.id)
    audit.begin(audit.UNKNOWN)
    revoked, second, first, *_ = [row for row in rows(browser.open("/audit")) if "admin." not in row]
    assert "cli:ops token.revoke Ann" in revoked
    assert "is active yes → no" in revoked
    assert "budgets $100 a month allowed models a, b" in second
    assert "rate limits 60 requests a minute, 100,000 tokens an hour → none" in second
    assert "name Ann&#39;s laptop → Ann" in first
    assert "rate limits 60 requests a minute, 100,000 tokens an hour" in first
    created = rows(browser.open("/audit?action=token.create"))
    assert len(created) == 1
    assert "maria 203.0.113.7 token.create Ann&#39;s laptop" in created[0]
    assert "name Ann&#39;s laptop" in created[0]
    assert "token set" in created[0]


def test_each_filter_selects(browser: Browser, store: Store, token: TokenRecord) -> None:
    price = OwnPrices(store).set({"input": Decimal(1)}, model="gpt-4o")
    for query, actions in (
        ("actor=maria", ["token.create", "project.create"]),
        ("action=price.set", ["price.set"]),
        (f"object_id={token.id}", ["token.create"]),
        (f"object_id={token.id.upper()}", ["token.create"]),
        ("object_id=Ann%27s laptop", ["token.create"]),
        (f"object_id={price.id}", ["price.set"]),
        (f"project_id={token.project_id}", ["token.create", "project.create"]),
        ("actor=maria&from=today&action=&to=", ["token.create", "project.create"]),
        ("from=2999-01-01", []),
        ("to=2020-01-01", []),
        ("object_id=%25", []),
    ):
        shown = rows(browser.open(f"/audit?{query}"))
        assert [re.findall(r"\w+\.\w+", row.replace("203.0.113.7", ""))[0] for row in shown] == actions, query


def test_a_form_keeps_what_was_asked_for(browser: Browser, token: TokenRecord) -> None:
    page = browser.send(browser.open("/audit"), "Show", actor="nobody", project_id=token.project_id)
    assert "No change matches these filters." in page.text
    fields = page.form("Show").fields
    assert (fields["actor"], fields["project_id"]) == ("nobody", token.project_id)
    assert "actor=nobody" in page.links["7 days"]


def test_a_bad_filter_is_explained_beside_the_form(browser: Browser) -> None:
    for query, message in (
        ("action=none", "“Action” must be one of the choices"),
        ("project_id=x", "“Project” must be one of the choices"),
        ("from=soon", "“From” must be a time ago"),
        ("cursor=x", "The cursor is invalid"),
    ):
        page = browser.open(f"/audit?{query}")
        assert page.status == 400
        assert message in page.text
        assert page.form("Show")
        if not query.startswith("cursor"):
            assert message in browser.open(f"/audit.csv?{query}").text


def test_each_action_is_a_filter(browser: Browser) -> None:
    page = browser.open("/audit")
    assert set(re.findall(r'<option value="(\w+\.[\w.]+)"', page.html)) == {*ACTIONS}


def test_objects_that_are_still_there_have_links(browser: Browser, store: Store, token: TokenRecord) -> None:
    price = OwnPrices(store).set({"input": Decimal(1)}, model="gpt-4o")
    gone = OwnPrices(store).set({"input": Decimal(1)}, model="gpt-3")
    OwnPrices(store).delete(gone.id)
    admin, _ = Admins(store).create("reader", Role.VIEWER)
    links = browser.open("/audit").links
    assert links["Ann's laptop"] == f"/tokens/{token.id}"
    assert links["Tests"] == f"/projects/{token.project_id}"
    assert links["gpt-4o"] == "/prices"
    assert links["reader"] == "/admins"
    assert "gpt-3" not in links
    assert browser.follow(browser.open("/audit"), f"{admin.id[:8]}…").status == 200
    Projects(store).delete(token.project_id)
    page = browser.open(f"/audit?project_id={token.project_id}")
    assert "Ann's laptop" not in page.links
    assert "Tests" not in page.links
    assert "Tests (deleted)" in page.text
    assert "price.delete" in browser.open(f"/audit?object_id={price.id}").text  # among the choices


def test_a_change_of_several_names_them(browser: Browser, store: Store, token: TokenRecord) -> None:
    ids = {token_id for token_id, _ in make_many_tokens(store, token.project_id, 60)}
    Tokens(store).revoke_all(token.project_id)
    page = browser.open("/audit?action=project.tokens.revoke")
    shown = ids & page.links.keys()
    assert len(shown | ({token.id} & page.links.keys())) == pages.MOST_IDS
    assert "61 ids" in page.text
    assert "and 11 more" in page.text


def test_pages_join_without_gaps(browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SHOWN", 2)
    token = make_token(store)
    for number in range(1, 6):
        Tokens(store).update(token.id, {"max_requests": number})
    page = browser.open("/audit?action=token.update")
    found = rows(page)
    while "Older" in page.links:
        page = browser.follow(page, "Older")
        found += rows(page)
    assert [re.findall(r"(\d) → (\d)", row)[0] for row in found] == [(str(n - 1), str(n)) for n in range(5, 0, -1)]
    assert len(rows(browser.follow(page, "Newest"))) == 2


def cells(page: Page) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(page.html, newline=""))]


def test_files_have_the_fields_of_the_api(browser: Browser, store: Store, token: TokenRecord) -> None:
    listed = AuditLog(store).page(AuditFilter(project_id=token.project_id)).records
    page = browser.open(f"/audit.csv?project_id={token.project_id}")
    assert page.answer.headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    found = cells(page)
    assert list(found[0]) == list(schemas.audit_row(listed[0])) == list(pages.FIELDS)
    assert [each["id"] for each in found] == [each.id for each in listed]
    assert [json.loads(each["changes"]) for each in found] == [each.changes for each in listed]
    lines = browser.open(f"/audit.jsonl?project_id={token.project_id}").html.splitlines()
    assert [json.loads(line) for line in lines] == [*map(schemas.audit_row, listed)]


def test_a_file_ends_at_its_limit(browser: Browser, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_ROWS", 3)
    monkeypatch.setattr(pages, "MAX_LIMIT", 2)
    for _ in range(3):
        make_token(store)
    assert len(cells(browser.open("/audit.csv"))) == 3
    assert len(browser.open("/audit.jsonl").html.splitlines()) == 3


def test_nothing_that_others_fill_in_is_markup_or_a_formula(browser: Browser, store: Store) -> None:
    audit.begin(Origin(EVIL, EVIL, EVIL))
    record(
        store, EVIL, {EVIL: EVIL, "allowed_models": [EVIL], "rates": {EVIL: EVIL}, "budgets": [{"per": EVIL}]}, [EVIL]
    )
    audit.begin(Origin(FORMULA, FORMULA))
    record(store, FORMULA, {"name": FORMULA})
    audit.begin(audit.UNKNOWN)
    for query in ("", *(f"?{name}=%22%3E%3Cscript%3Ealert(1)" for name in pages.PARAMETERS)):
        page = browser.open(f"/audit{query}")
        assert page.status in {200, 400}
        assert "<script>alert" not in page.html
        assert "alert(1)" in page.html or query.startswith(("?action", "?project_id"))
    row = next(each for each in cells(browser.open("/audit.csv")) if FORMULA in each["actor"])
    assert row["actor"] == row["object_name"] == row["address"] == f"'{FORMULA}"


def test_values_of_any_kind_are_shown(browser: Browser, store: Store) -> None:
    values: dict[str, object] = {
        "rate_limits": ["damaged"],
        "budgets": [{"usd": "1", "per": "total"}],
        "allowed_ips": [],
        "rates": {"input": "2.5", "output": "10"},
        "role": "viewer",
        "max_requests": 0,
    }
    record(store, "x", values)
    (row,) = rows(browser.open("/audit?object_id=x"))
    assert "rate limits damaged budgets $1 in total rates input 2.5, output 10 role viewer max requests 0" in row
    assert "allowed ips" not in row


def test_a_viewer_reads_it_and_a_stranger_does_not(viewer: Browser, stranger: Browser, token: TokenRecord) -> None:
    for path in ("/audit", "/audit.csv", "/audit.jsonl"):
        page = viewer.open(path)
        assert page.status == 200
        assert token.value not in page.html
        assert [form.buttons for form in page.forms if form.method == "post"] in ([["Log out"]], [])
        assert stranger.open(path).path == "/login"


def test_logins_are_in_it(browser: Browser) -> None:
    (row,) = rows(browser.open("/audit?action=admin.log_in"))
    assert "admin.log_in root" in row
