"""The first minutes of a new gateway: a project, a token, a first request."""

import re

import pytest
from support.clients.page_client import Browser, Page
from support.stores.ledger import open_request, refuse_request, settle_request
from support.stores.stores import audited, make_token, rows

from manage_api.pages.presets import PRESETS
from store import clock
from store.ledger.usage import Source
from store.management.tokens import TokenRecord, Tokens
from store.store import Store

BUTTON = "Make the project and the token"
HOSTILE = "<script>alert(1)</script>'\""
KEY = "sk-upstream-0123456789"


def value_on(page: Page) -> str:
    (value,) = re.findall(r"<code data-copy>([0-9a-f-]{36})</code>", page.html)
    return str(value)


def test_the_first_ten_minutes_of_a_newcomer(browser: Browser, store: Store) -> None:
    page = browser.open("/projects")
    page = browser.follow(page, "Make the first one, with a token")
    page = browser.send(page, BUTTON, name="Search", api_key=KEY)
    assert page.status == 200
    assert "Search is ready" in page.text
    assert f"Authorization: Bearer {value_on(page)}" in page.text
    assert KEY not in page.html
    token = Tokens(store).get(value_on(page))
    assert (token.name, token.project_name, token.max_requests) == ("First token", "Search", 1000)
    assert [(row["actor"], row["action"]) for row in audited(store)] == [
        ("root", "admin.log_in"),
        ("root", "project.create"),
        ("root", "token.create"),
    ]
    page = browser.follow(page, "Look again")
    assert "No request with this token has arrived yet." in page.text
    asked = {"project_id": token.project_id, "token_id": token.id, "started_at": clock.now()}
    settle_request(store, **asked, usage_source=Source.OBSERVED, model="gpt-4o-mini", input_tokens=8, output_tokens=12)
    page = browser.follow(page, "Look again")
    assert "It works: the answer of gpt-4o-mini is 200." in page.text
    assert browser.follow(page, "All about this request").status == 200
    page = browser.follow(page, "To the token")
    assert "gpt-4o-mini 1 0 8 12" in page.text
    page = browser.follow(page, "Search")
    assert "First token" in page.text


@pytest.mark.parametrize("preset", ["", "unknown", *PRESETS])
def test_every_preset_makes_a_token(browser: Browser, store: Store, preset: str) -> None:
    page = browser.send(browser.open("/start"), BUTTON, name="One", api_key=KEY, preset=preset)
    assert Tokens(store).get(value_on(page)).project_name == "One"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "“Name”"),
        ({"name": " "}, "“Name”"),
        ({"api_key": ""}, "“Upstream key”"),
        ({"api_key": "sk-admin-0123456789"}, "“Upstream key” begins with sk-admin-"),
        ({"name": HOSTILE + "\0"}, "“Name”"),
    ],
)
def test_bad_input_is_told_and_makes_nothing(
    browser: Browser, store: Store, fields: dict[str, str], message: str
) -> None:
    values = {"name": "One", "api_key": KEY, "preset": "batch", **fields}
    page = browser.send(browser.open("/start"), BUTTON, **values)
    assert page.status == 400
    assert message in page.text
    assert "<script>alert" not in page.html
    assert KEY not in page.html
    assert page.form(BUTTON).fields["preset"] == "batch"
    assert rows(store, "project") == rows(store, "token") == []


def test_a_second_click_makes_nothing(browser: Browser, store: Store) -> None:
    fields = {**browser.open("/start").form(BUTTON).fields, "name": "One", "api_key": KEY}
    assert [browser.post("/start", fields).status for _ in range(2)] == [200, 409]
    assert len(rows(store, "project")) == len(rows(store, "token")) == 1


def test_a_name_is_text(browser: Browser) -> None:
    page = browser.send(browser.open("/start"), BUTTON, name=HOSTILE, api_key=KEY)
    assert "<script>alert" not in page.html


def looked(browser: Browser, token: TokenRecord) -> str:
    return browser.open(f"/start/{token.id}").text


def test_what_became_of_the_first_request(browser: Browser, store: Store) -> None:
    token = make_token(store)
    asked = {"project_id": token.project_id, "token_id": token.id}
    refuse_request(store, **asked, started_at=clock.now() - 4, status=403, code="model_not_allowed")
    assert "A request arrived, and was refused: 403 model_not_allowed" in looked(browser, token)
    settle_request(store, **asked, started_at=clock.now() - 3, status=404)
    assert "the answer is 404." in looked(browser, token)
    settle_request(store, **asked, started_at=clock.now() - 2, status=None, code="service_unavailable")
    assert "has no answer: service_unavailable" in looked(browser, token)
    settle_request(store, **asked, started_at=clock.now() - 1, model=HOSTILE)
    assert "<script>alert" not in browser.open(f"/start/{token.id}").html
    open_request(store, **asked, started_at=clock.now())
    assert "A request is running." in looked(browser, token)


def test_a_page_that_looks_again_stops_once_there_is_something(browser: Browser, store: Store) -> None:
    token = make_token(store)
    assert f'data-again="/start/{token.id}"' in browser.open(f"/start/{token.id}").html
    settle_request(store, project_id=token.project_id, token_id=token.id, started_at=clock.now())
    assert 'data-again=""' in browser.open(f"/start/{token.id}").html


def test_the_value_of_a_token_is_no_id(browser: Browser, store: Store) -> None:
    assert browser.open(f"/start/{make_token(store).value}").status == 404


def test_a_viewer_gets_no_form_that_fails(viewer: Browser, store: Store) -> None:
    assert viewer.open("/start").status == 403
    assert viewer.post("/start", {"name": "One", "api_key": KEY}).status == 403
    assert rows(store, "project") == []
    assert "Make the first one" not in viewer.open("/projects").text


def test_a_stranger_is_led_to_the_login(stranger: Browser) -> None:
    assert stranger.open("/start").path == "/login"


def test_behind_tls_the_address_is_that_of_the_balancer(behind_tls: object, store: Store) -> None:
    browser: Browser = behind_tls()  # type: ignore[operator]
    browser.log_in("management-token-of-the-tests")
    assert browser.open("/start").status == 200
    assert rows(store, "project") == []
