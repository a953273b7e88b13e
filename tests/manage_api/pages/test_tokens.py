"""Tokens: listed, made, changed, replaced and revoked by a person."""

import logging
import re
import uuid
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient
from support.clients.page_client import Browser, Page
from support.stores.ledger import open_request, settle_request
from support.stores.stores import UNKNOWN_TOKEN, audited, make_many_tokens, make_token, rows, set_columns

from manage_api.pages.presets import PRESETS
from store import clock
from store.clock import DAY, HOUR, SECOND
from store.ledger.usage import Source
from store.management.admins import Admins, Role
from store.management.projects import Projects
from store.management.tokens import TokenRecord, Tokens
from store.reports.token_list import PAGE_SIZE
from store.store import Store

HOSTILE = """<script>alert("x")</script>'"&{{ 7 + 7 }}"""
_VALUE = re.compile(r"<code data-copy>([0-9a-f-]{36})</code>")


@pytest.fixture
def project_id(store: Store) -> str:
    return Projects(store).create("Search", "sk-upstream-0123456789").id


@pytest.fixture
def token(store: Store, project_id: str) -> TokenRecord:
    return make_token(store, project_id=project_id, name="app")


@pytest.fixture
def tokens(store: Store) -> Tokens:
    return Tokens(store)


def value_on(page: Page) -> str:
    """Return the value that a page shows."""
    (value,) = _VALUE.findall(page.html)
    return str(value)


def changes(store: Store) -> list[tuple[str, str, str | None]]:
    """Return who did what to which object, in the order of the changes; without logins."""
    return [
        (row["actor"], row["action"], row["object_id"]) for row in audited(store) if row["action"] != "admin.log_in"
    ]


def last_audited(store: Store) -> tuple[str, str, str | None]:
    return changes(store)[-1]


# The list.


@pytest.mark.usefixtures("project_id")
def test_a_list_without_tokens_tells_what_to_do_first(browser: Browser) -> None:
    page = browser.open("/tokens")
    assert "There is no token yet." in page.text
    assert "New token" in browser.follow(page, "Make the first one").text


def test_a_list_without_projects_leads_to_the_start(browser: Browser) -> None:
    page = browser.follow(browser.open("/tokens"), "Make a project and a token")
    assert page.path == "/start"


def test_a_list_shows_tokens_without_their_values(browser: Browser, token: TokenRecord) -> None:
    page = browser.open("/tokens")
    assert page.status == 200
    assert "app Search working" in page.text
    assert token.value not in page.html


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=APP", ["app"]),
        ("q=other", ["another"]),
        ("q=nothing", []),
        ("state=revoked", ["another"]),
        ("state=working", ["app"]),
        ("state=expired", []),
        ("sort=name&order=asc", ["another", "app"]),
        ("sort=name&order=desc", ["app", "another"]),
        ("project_id=", ["another", "app"]),
        ("page=9", ["another", "app"]),
    ],
)
def test_filters_and_orders(browser: Browser, store: Store, token: TokenRecord, query: str, found: list[str]) -> None:
    other = make_token(store, project_id=token.project_id, name="another")
    Tokens(store).revoke(other.id)
    set_columns(store, "token", other.id, created_at=token.created_at + SECOND)
    page = browser.open(f"/tokens?{query}")
    assert page.status == 200
    assert [name for name in page.links if name in {"app", "another"}] == found


def test_a_project_and_its_tokens(browser: Browser, store: Store, token: TokenRecord) -> None:
    make_token(store, name="elsewhere")
    page = browser.open(f"/tokens?project_id={token.project_id}")
    assert ("app" in page.links, "elsewhere" in page.links) == (True, False)


@pytest.mark.parametrize("query", ["state=broken", "sort=value", "page=0", "page=x", "project_id=x", f"q={'x' * 3000}"])
def test_bad_filters_are_told(browser: Browser, query: str) -> None:
    page = browser.open(f"/tokens?{query}")
    assert page.status == 400
    assert "This did not work" in page.text


def test_the_links_of_columns_sort_and_turn_round(browser: Browser, store: Store, token: TokenRecord) -> None:
    make_token(store, project_id=token.project_id, name="b")

    def order(page: Page) -> list[str]:
        return [name for name in page.links if name in {"app", "b"}]

    up = browser.follow(browser.open("/tokens"), "Name")
    down = browser.follow(up, "Name")
    assert (order(up), order(down)) == (["app", "b"], ["b", "app"])
    assert 'aria-sort="descending"' in down.html


def test_pages_are_turned(browser: Browser, store: Store, project_id: str) -> None:
    make_many_tokens(store, project_id, 2 * PAGE_SIZE + 1)
    page = browser.open("/tokens")
    assert "1 to 50 of 101" in page.text
    assert "51 to 100 of 101" in browser.follow(page, "Next").text
    last = browser.follow(page, "Last")
    assert "101 to 101 of 101" in last.text
    assert "51 to 100 of 101" in browser.follow(last, "Back").text
    assert "1 to 50 of 101" in browser.follow(last, "First").text


# A leaked token.


def test_the_first_two_minutes_of_a_leaked_token(browser: Browser, store: Store, token: TokenRecord) -> None:
    open_request(store, project_id=token.project_id, token_id=token.id)
    page = browser.open("/tokens")
    page = browser.send(page, "Find the token", value=f"OPENAI_API_KEY='{token.value.upper()}' # pasted")
    assert page.path == f"/tokens/{token.id}"
    assert "This is the token with that value." in page.text
    page = browser.follow(page, "Revoke …")
    assert "app Search working never 0 1" in page.text
    page = browser.send(page, "Revoke the token")
    assert page.path == f"/tokens/{token.id}"
    assert "Revoked: requests are refused from now on" in page.text
    assert not Tokens(store).get(token.id).is_active
    assert last_audited(store) == ("root", "token.revoke", token.id)


def test_a_leaked_token_is_replaced_at_once(browser: Browser, token: TokenRecord, tokens: Tokens) -> None:
    page = browser.follow(browser.open(f"/tokens/{token.id}"), "New value …")
    page = browser.send(page, "Make a new value", grace_seconds="0")
    assert "The value before is refused from now on." in page.text
    assert tokens.get(value_on(page)).id == token.id
    assert tokens.public_id(token.value) == token.value
    assert token.value not in page.html


def test_a_previous_value_finds_its_token_while_it_works(browser: Browser, token: TokenRecord, tokens: Tokens) -> None:
    tokens.rotate(token.id, 3600)
    page = browser.send(browser.open("/tokens"), "Find the token", value=token.value)
    assert page.path == f"/tokens/{token.id}"
    assert "works until" in page.text


@pytest.mark.parametrize("value", [UNKNOWN_TOKEN, "no value", "", "<script>", "\0"])
@pytest.mark.usefixtures("token")
def test_an_unknown_value_is_told_and_not_repeated(browser: Browser, value: str) -> None:
    page = browser.send(browser.open("/tokens"), "Find the token", value=value)
    assert page.status == 404
    assert "No token has this value" in page.text
    assert not value or value not in page.html.replace("<script type", "")


def test_a_value_stays_in_no_address_log_or_page(
    browser: Browser, token: TokenRecord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = browser.send(browser.open("/tokens"), "Find the token", value=token.value)
    searched = browser.open(f"/tokens?q={token.value}")
    assert searched.path == found.path == f"/tokens/{token.id}"
    unknown = [browser.open(path) for path in (f"/tokens/{token.value}", f"/tokens/{token.value}/edit")]
    unknown.append(browser.open(f"/tokens/revoke?id={token.value}"))
    assert [page.status for page in unknown] == [404, 404, 200]
    assert not [page.path for page in (found, searched, *unknown) if token.value in page.html]
    lines = [vars(record) for record in caplog.records]
    assert not [line for line in lines if token.value in repr(line)]


@pytest.mark.parametrize("action", ["edit", "extend", "restore", "rotate"])
def test_a_value_changes_nothing_as_an_id(browser: Browser, token: TokenRecord, action: str, store: Store) -> None:
    page = browser.open(f"/tokens/{token.id}/edit")
    before = changes(store)
    assert browser.post(f"/tokens/{token.value}/{action}", page.form("Save").fields).status == 404
    browser.post("/tokens/revoke", {**browser.open("/tokens").form("Find the token").fields, "id": token.value})
    assert Tokens(store).get(token.id) == token
    assert changes(store) == before


# Bulk revoke.


def test_selected_tokens_are_revoked_after_a_confirmation(browser: Browser, store: Store, token: TokenRecord) -> None:
    other = make_token(store, name=HOSTILE.replace("sk-", ""))
    kept = make_token(store, name="kept")
    page = browser.open(f"/tokens/revoke?id={token.id}&id={other.id}&id=unknown")
    assert "Revoke 2 tokens?" in page.text
    assert "kept" not in page.text
    assert "<script>alert" not in page.html
    form = page.form("Revoke 2 tokens")
    done = browser.post("/tokens/revoke", {**form.fields, "id": [token.id, other.id]})
    assert "Revoked: requests are refused from now on" in done.text
    assert [Tokens(store).get(each.id).is_active for each in (token, other, kept)] == [False, False, True]
    assert changes(store)[-2:] == [("root", "token.revoke", token.id), ("root", "token.revoke", other.id)]


def test_the_line_of_a_bulk_revoke_names_its_tokens(
    browser: Browser, store: Store, token: TokenRecord, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_token(store, project_id=token.project_id)
    fields = browser.open("/tokens").form("Find the token").fields
    caplog.set_level(logging.INFO)
    browser.post("/tokens/revoke", {**fields, "id": [token.id, other.id]})
    (line,) = (vars(record) for record in caplog.records if vars(record).get("path") == "/tokens/revoke")
    assert line["token_ids"] == f"{token.id},{other.id}"


def test_what_is_revoked_already_is_not_revoked_again(browser: Browser, store: Store, token: TokenRecord) -> None:
    Tokens(store).revoke(token.id)
    page = browser.open(f"/tokens/revoke?id={token.id}")
    assert "What you selected is revoked already." in page.text


@pytest.mark.parametrize("ids", [[], ["x"], [UNKNOWN_TOKEN]])
def test_a_selection_of_nothing_is_told(browser: Browser, ids: list[str]) -> None:
    page = browser.open("/tokens/revoke?" + "&".join(f"id={each}" for each in ids))
    assert (page.status, "No token is selected" in page.text) == (200, True)


def test_more_than_a_page_is_not_selected(browser: Browser) -> None:
    page = browser.open("/tokens/revoke?" + "&".join(["id=x"] * (PAGE_SIZE + 1)))
    assert (page.status, "Select 50 tokens at most." in page.text) == (400, True)


# Create.


def new(browser: Browser, query: str = "") -> Page:
    return browser.open(f"/tokens/new{query}")


def test_a_token_is_made_with_limits_in_words_and_shown_once(
    browser: Browser, store: Store, tokens: Tokens, project_id: str
) -> None:
    page = browser.send(
        new(browser),
        "Create",
        project_id=project_id,
        name="backend",
        expires_at="90 days",
        max_requests="1,000",
        rate_limits="60 requests a minute\r\n100,000 tokens an hour\r\n",
        budgets="$100 a month",
        max_parallel_requests="8",
        allowed_models="gpt-4o",
        allowed_ips="10.0.0.0/8",
    )
    assert page.status == 200
    made = tokens.get(value_on(page))
    assert (made.name, made.project_id, made.max_requests) == ("backend", project_id, 1000)
    assert made.rate_limits == [{"requests": 60, "per": "minute"}, {"tokens": 100_000, "per": "hour"}]
    assert made.budgets == [{"usd": "100", "per": "month"}]
    assert (made.max_parallel_requests, made.policies["allowed_models"]) == (8, ["gpt-4o"])
    assert abs(made.expires_at - clock.now() - 90 * DAY) < HOUR
    assert last_audited(store) == ("root", "token.create", made.id)
    again = browser.open(f"/tokens/{made.id}")
    assert made.value not in again.html
    for limit in ("requests a minute", "tokens an hour", "USD a month", "requests at once"):
        assert limit in again.text


def test_the_value_stands_in_what_clients_need(browser: Browser, project_id: str) -> None:
    page = browser.send(new(browser), "Create", project_id=project_id)
    value = value_on(page)
    assert page.html.count(value) == 5
    assert "http://localhost:8080/v1/chat/completions" in page.html
    assert "The proxy&#39;s address is assumed" in page.html or "The proxy's address is assumed" in page.html


def test_a_form_that_is_sent_again_makes_no_second_token(browser: Browser, store: Store, project_id: str) -> None:
    fields = {**new(browser).form("Create").fields, "project_id": project_id}
    assert browser.post("/tokens/new", fields).status == 200
    page = browser.post("/tokens/new", fields)
    assert page.status == 409
    assert "was sent already" in page.text
    assert len(rows(store, "token")) == 1


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("expires_at", "", "“Expires” must be a time from now"),
        ("expires_at", "soon", "“Expires” must be a time from now"),
        ("expires_at", "2020-01-01", "must be in the future"),
        ("max_requests", "many", "“Requests in all” must be a whole number"),
        ("max_requests", "9" * 30, "“Requests in all” must be a whole number"),
        ("rate_limits", "60 requests a minute\nfast", "“Limits” (line 2) must be requests or tokens"),
        ("rate_limits", "60 requests a year", "“Limits” (line 1)"),
        ("budgets", "$0 a month", "“Budgets” (line 1)"),
        ("max_parallel_requests", "0", "“Requests at once”"),
        ("allowed_ips", "10.0.0.0/99", "“Addresses” (line 1)"),
        ("allowed_endpoints", "/v1", "“Endpoints” (line 1)"),
        ("name", "a 8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1", "“Name”"),
        ("name", HOSTILE + "\0", "“Name”"),
        ("project_id", "", "Choose a project."),
        ("project_id", "x", "“Project”"),
        ("project_id", UNKNOWN_TOKEN, "There is no such project."),
    ],
)
def test_bad_input_is_told_in_the_words_of_the_form_and_kept(
    browser: Browser, store: Store, project_id: str, field: str, text: str, message: str
) -> None:
    values = {"project_id": project_id, "name": "kept as it was", field: text}
    fields = {**new(browser).form("Create").fields, **values}
    page = browser.post("/tokens/new", fields)
    assert page.status in {400, 404}
    assert message in page.text
    assert rows(store, "token") == []
    assert "<script>alert" not in page.html
    if field != "name":
        assert page.form("Create").fields["name"] == "kept as it was"


def test_a_project_that_is_off_gets_no_token(browser: Browser, store: Store, project_id: str) -> None:
    Projects(store).update(project_id, {"is_active": False})
    page = browser.send(new(browser), "Create", project_id=project_id)
    assert (page.status, "is inactive" in page.text) == (403, True)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fill_in_the_form_and_make_tokens(browser: Browser, project_id: str, preset: str) -> None:
    title, texts = PRESETS[preset]
    page = browser.follow(new(browser, f"?project_id={project_id}"), title)
    form = page.form("Create").fields
    assert {name: form[name] for name in texts} == texts
    assert form["project_id"] == project_id
    assert browser.send(page, "Create").status == 200


def test_an_unknown_preset_is_an_ordinary_form(browser: Browser, project_id: str) -> None:
    page = new(browser, f"?preset=<script>&project_id={project_id}")
    assert "<script>" not in page.html
    form = page.form("Create").fields
    assert (form["expires_at"], form["rate_limits"]) == ("30 days", "")


def test_projects_of_one_name_are_told_apart(browser: Browser, store: Store, project_id: str) -> None:
    twin = Projects(store).create("Search", "sk-upstream-0123456789").id
    page = new(browser)
    assert f"Search ({project_id[:8]})" in page.text
    assert f"Search ({twin[:8]})" in page.text


# One token.


def test_a_page_shows_the_usage_of_30_days(browser: Browser, store: Store, token: TokenRecord) -> None:
    mine = {"project_id": token.project_id, "token_id": token.id, "usage_source": Source.OBSERVED}
    settle_request(store, **mine, started_at=clock.now(), model=HOSTILE, input_tokens=12_345, cost=2 * 10**12)
    settle_request(store, **mine, started_at=clock.now() - 2 * DAY, model="gpt-4o", input_tokens=1)
    settle_request(store, **mine, started_at=clock.now() - 31 * DAY, model="forgotten", input_tokens=1)
    settle_request(store, started_at=clock.now(), model="of another", usage_source=Source.OBSERVED)
    page = browser.open(f"/tokens/{token.id}")
    assert "<script>alert" not in page.html
    assert "12,346" in page.text
    assert "gpt-4o 1 0 1" in page.text
    assert "forgotten" not in page.text
    assert "of another" not in page.text
    assert page.html.count('class="place"') == 60  # two charts of 30 days
    assert browser.follow(page, "the latest").status == 200


def test_names_are_text(browser: Browser, store: Store) -> None:
    project_id = Projects(store).create(HOSTILE, "sk-upstream-0123456789").id
    token = make_token(store, project_id=project_id, name=HOSTILE, allowed_models=[HOSTILE.replace(" ", "")])
    paths = ["/tokens", "/tokens/new", f"/tokens?q={HOSTILE}", f"/tokens?project_id={project_id}"]
    paths += [f"/tokens/{token.id}{part}" for part in ("", "/edit", "/rotate")]
    for path in [*paths, f"/tokens/revoke?id={token.id}"]:
        page = browser.open(path)
        assert page.status == 200
        assert "<script>alert" not in page.html
        assert "onerror" not in page.html
    rotated = browser.send(browser.open(f"/tokens/{token.id}/rotate"), "Make a new value")
    assert "<script>alert" not in rotated.html


def test_all_fields_are_changed(browser: Browser, store: Store, tokens: Tokens, token: TokenRecord) -> None:
    page = browser.follow(browser.open(f"/tokens/{token.id}"), "Change")
    page = browser.send(
        page, "Save", name="renamed", expires_at="never", max_requests="7", rate_limits="5 requests/day", budgets=""
    )
    assert "The changes are saved." in page.text
    changed = tokens.get(token.id)
    assert (changed.name, changed.expires_at, changed.max_requests) == ("renamed", clock.NEVER, 7)
    assert changed.rate_limits == [{"requests": 5, "per": "day"}]
    assert last_audited(store) == ("root", "token.update", token.id)


def test_a_form_that_was_open_for_long_undoes_no_other_change(
    browser: Browser, tokens: Tokens, token: TokenRecord
) -> None:
    page = browser.open(f"/tokens/{token.id}/edit")
    tokens.update(token.id, {"max_requests": 9, "expires_at": clock.NEVER, "allowed_models": []})
    browser.send(page, "Save", name="renamed")
    changed = tokens.get(token.id)
    assert (changed.name, changed.max_requests, changed.expires_at) == ("renamed", 9, clock.NEVER)
    assert changed.policies["allowed_models"] == []


def test_an_unchanged_form_changes_nothing(browser: Browser, store: Store, tokens: Tokens) -> None:
    token = make_token(
        store,
        name="app",
        expires_at=clock.now() + DAY,
        max_requests=5,
        budgets=[{"usd": "2.50", "per": "total"}],
        allowed_models=[],
        allowed_endpoints=["* /v1/files*"],
    )
    browser.send(browser.open(f"/tokens/{token.id}/edit"), "Save")
    assert tokens.get(token.id) == token
    assert last_audited(store)[1] == "token.create"


def test_a_bad_change_is_told_and_kept(browser: Browser, token: TokenRecord, tokens: Tokens) -> None:
    page = browser.send(browser.open(f"/tokens/{token.id}/edit"), "Save", name="new", rate_limits="fast")
    assert page.status == 400
    assert "“Limits” (line 1) must be" in page.text
    assert page.form("Save").fields["name"] == "new"
    assert tokens.get(token.id) == token
    assert "The changes are saved." in browser.send(page, "Save", rate_limits="").text
    assert tokens.get(token.id).name == "new"


@pytest.mark.parametrize("days", [30, 90])
def test_a_button_adds_days_to_the_expiry(
    browser: Browser, store: Store, tokens: Tokens, token: TokenRecord, days: int
) -> None:
    page = browser.send(browser.open(f"/tokens/{token.id}"), f"{days} days more")
    assert "The changes are saved." in page.text
    assert tokens.get(token.id).expires_at == token.expires_at + days * DAY
    assert last_audited(store) == ("root", "token.update", token.id)


def test_a_second_click_adds_no_days(browser: Browser, tokens: Tokens, token: TokenRecord) -> None:
    form = browser.open(f"/tokens/{token.id}").form("30 days more")
    pages = [browser.post(f"/tokens/{token.id}/extend", form.fields) for _ in range(2)]
    assert [page.status for page in pages] == [200, 409]
    assert tokens.get(token.id).expires_at == token.expires_at + 30 * DAY


def test_an_expired_token_is_extended_from_now(
    browser: Browser, store: Store, tokens: Tokens, token: TokenRecord
) -> None:
    set_columns(store, "token", token.id, expires_at=clock.now() - 100 * DAY)
    browser.send(browser.open(f"/tokens/{token.id}"), "30 days more")
    assert abs(tokens.get(token.id).expires_at - clock.now() - 30 * DAY) < HOUR


@pytest.mark.parametrize(
    ("text", "expires_at"), [("never", clock.NEVER), ("2099-12-31", clock.from_rfc3339("2099-12-31"))]
)
def test_an_expiry_is_set(browser: Browser, tokens: Tokens, token: TokenRecord, text: str, expires_at: int) -> None:
    browser.send(browser.open(f"/tokens/{token.id}"), "Set the expiry", expires_at=text)
    assert tokens.get(token.id).expires_at == expires_at


def test_a_token_that_never_expires_is_not_extended(browser: Browser, store: Store, project_id: str) -> None:
    token = make_token(store, project_id=project_id, expires_in_days=0)
    page = browser.open(f"/tokens/{token.id}")
    assert "days more" not in page.text
    assert "Set the expiry" in page.text


@pytest.mark.parametrize("fields", [{"days": "31"}, {"days": ""}, {"expires_at": "soon"}, {"expires_at": ""}, {}])
def test_a_bad_extension_is_told(browser: Browser, tokens: Tokens, token: TokenRecord, fields: dict[str, str]) -> None:
    mark = browser.open(f"/tokens/{token.id}").form("30 days more").fields["form"]
    page = browser.post(f"/tokens/{token.id}/extend", {"form": mark, **fields})
    assert page.status == 400
    assert "must be" in page.text
    assert tokens.get(token.id) == token


def test_a_token_is_restored(browser: Browser, store: Store, tokens: Tokens, token: TokenRecord) -> None:
    tokens.revoke(token.id)
    page = browser.send(browser.open(f"/tokens/{token.id}"), "Restore")
    assert "The token is restored." in page.text
    assert tokens.get(token.id).is_active
    assert last_audited(store) == ("root", "token.restore", token.id)


def test_a_value_is_replaced_with_a_grace(browser: Browser, store: Store, tokens: Tokens, token: TokenRecord) -> None:
    page = browser.send(browser.open(f"/tokens/{token.id}/rotate"), "Make a new value", grace_seconds="3600")
    assert "The value before works until" in page.text
    assert tokens.get(value_on(page)).id == tokens.get(token.value).id == token.id
    assert last_audited(store) == ("root", "token.rotate", token.id)
    assert "It ends now" in browser.open(f"/tokens/{token.id}/rotate").text


def test_a_rotation_is_not_repeated_by_a_second_click(browser: Browser, tokens: Tokens, token: TokenRecord) -> None:
    fields = browser.open(f"/tokens/{token.id}/rotate").form("Make a new value").fields
    first, second = (browser.post(f"/tokens/{token.id}/rotate", fields) for _ in range(2))
    assert second.status == 409
    assert tokens.get(value_on(first)).id == token.id


def test_a_bad_grace_is_told(browser: Browser, tokens: Tokens, token: TokenRecord) -> None:
    fields = browser.open(f"/tokens/{token.id}/rotate").form("Make a new value").fields
    page = browser.post(f"/tokens/{token.id}/rotate", {**fields, "grace_seconds": "5"})
    assert page.status == 400
    assert tokens.get(token.value).id == token.id


def test_a_revoked_token_gets_no_new_value(browser: Browser, tokens: Tokens, token: TokenRecord) -> None:
    page = browser.open(f"/tokens/{token.id}/rotate")
    tokens.revoke(token.id)
    assert browser.send(page, "Make a new value").status == 400
    assert "New value …" not in browser.open(f"/tokens/{token.id}").text


@pytest.mark.parametrize("part", ["", "/edit", "/rotate"])
def test_an_unknown_token_is_told(browser: Browser, part: str) -> None:
    page = browser.open(f"/tokens/{uuid.uuid4()}{part}")
    assert (page.status, "There is no such token." in page.text) == (404, True)


# Roles.


def test_a_viewer_reads_everything_and_sees_no_button_that_fails(viewer: Browser, token: TokenRecord) -> None:
    for path in ("/tokens", f"/tokens/{token.id}"):
        page = viewer.open(path)
        assert page.status == 200
        assert token.value not in page.html
        assert "checkbox" not in page.html
        assert {button for form in page.forms for button in form.buttons} <= {"Log out", "Show"}
        assert not page.links.keys() & {"New token", "Change", "New value …", "Revoke …"}


@pytest.mark.parametrize("path", ["/tokens/new", "/tokens/revoke?id={}", "/tokens/{}/edit", "/tokens/{}/rotate"])
def test_a_viewer_gets_no_form_that_fails(viewer: Browser, token: TokenRecord, path: str) -> None:
    assert viewer.open(path.format(token.id)).status == 403


@pytest.mark.parametrize("action", ["new", "find", "revoke", "{}/edit", "{}/extend", "{}/restore", "{}/rotate"])
def test_a_viewer_changes_nothing(viewer: Browser, store: Store, token: TokenRecord, action: str) -> None:
    mark = viewer.open("/tokens").form("Log out").fields
    before = changes(store)
    page = viewer.post(
        f"/tokens/{action.format(token.id)}", {**mark, "id": token.id, "value": token.value, "days": "30"}
    )
    assert page.status == 403
    assert Tokens(store).get(token.id) == token
    assert changes(store) == before


@pytest.mark.parametrize("path", ["/tokens", "/tokens/new", "/tokens/{}", "/tokens/{}/edit"])
def test_a_stranger_is_led_to_the_login(stranger: Browser, token: TokenRecord, path: str) -> None:
    page = stranger.open(path.format(token.id))
    assert page.path == "/login"
    assert "app" not in page.links


def test_another_administrator_is_named_in_the_audit(app: flask.Flask, store: Store, token: TokenRecord) -> None:
    _, secret = Admins(store).create("ops", Role.ADMIN)
    browser = Browser(app.test_client())
    browser.log_in(secret)
    browser.send(browser.open(f"/tokens/{token.id}/edit"), "Save", name="by ops")
    assert last_audited(store) == ("ops", "token.update", token.id)


# Together with the API.


def test_the_api_and_the_pages_show_the_same_token(browser: Browser, client: FlaskClient, project_id: str) -> None:
    body: dict[str, Any] = {"project_id": project_id, "rate_limits": [{"requests": 3, "per": "minute"}]}
    made = client.post("/manage/tokens", json=body).get_json()
    form = browser.open(f"/tokens/{made['id']}/edit").form("Save").fields
    assert (form["rate_limits"], form["expires_at"]) == ("3 requests a minute", made["expires_at"])
