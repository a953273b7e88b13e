"""A viewer reads the pages, and can send none of their forms."""

import flask
import pytest
from flask.testing import FlaskClient
from support.clients.page_client import ORIGIN, Browser
from werkzeug.routing import Rule

from store.management.admins import ROOT_ID, Admins, Role
from store.store import Store

SOMETHING = "00000000-0000-4000-8000-000000000009"
NO_SESSION = {"pages.static", "pages.login.form", "pages.login.log_in"}
LOG_OUT = "pages.login.log_out"


@pytest.fixture
def ids(store: Store, client: FlaskClient, token: dict[str, object]) -> dict[str, str]:
    """One object of each kind, by the names of the variables of routes."""
    ops, _ = Admins(store).create("ops", Role.ADMIN)
    price = client.put("/manage/prices", json={"model": "m", "rates": {"input": "1"}}).get_json()
    return {
        "project_id": str(token["project_id"]),
        "token_id": str(token["id"]),
        "admin_id": ops.id,
        "price_id": price["id"],
    }


def rules(app: flask.Flask, method: str) -> list[Rule]:
    found = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("pages.")]
    return [rule for rule in found if method in (rule.methods or ()) and rule.endpoint not in NO_SESSION]


def path_of(rule: Rule, ids: dict[str, str]) -> str:
    _, path = rule.build({name: ids.get(name, SOMETHING) for name in rule.arguments}) or ("", "")
    return path


def test_a_viewer_can_send_no_form_but_the_logout(app: flask.Flask, viewer: Browser, ids: dict[str, str]) -> None:
    writing = [rule for rule in rules(app, "POST") if rule.endpoint != LOG_OUT]
    assert len(writing) >= 8
    mark = viewer.open("/").forms[0].fields
    for rule in writing:
        for fields in ({}, mark):
            page = viewer.post(path_of(rule, ids), fields)
            assert (page.status, "role_not_allowed" in page.text) == (403, True), rule
            assert "Set-Cookie" not in page.answer.headers


def test_no_other_method_than_post_writes(app: flask.Flask, viewer: Browser, ids: dict[str, str]) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("pages."):
            assert (rule.methods or set()) <= {"GET", "HEAD", "POST"}
    for rule in rules(app, "GET"):
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
            answer = viewer.client.open(path_of(rule, ids), method=method, headers={"Origin": ORIGIN})
            assert answer.status_code == 405, (method, rule)


def test_a_viewer_sees_no_form_that_would_fail(app: flask.Flask, viewer: Browser, ids: dict[str, str]) -> None:
    forms = {rule.rule for rule in rules(app, "POST")}
    pages = [rule for rule in rules(app, "GET") if rule.rule not in forms]
    assert len(pages) >= 3
    for rule in pages:
        page = viewer.open(path_of(rule, ids))
        if page.answer.mimetype != "text/html":
            continue
        assert page.status in {200, 404}, (rule, page.text)
        assert [form.action for form in page.forms if form.method == "post"] == ["/logout"], rule
        for link, target in page.links.items():
            if target.startswith("/") and link != "API":
                with viewer.client.get(target) as answer:
                    assert answer.status_code in {200, 303}, (rule, link, target)
    for rule in rules(app, "GET"):
        if rule.rule in forms:
            page = viewer.open(path_of(rule, ids))
            assert (page.status, "role_not_allowed" in page.text) == (403, True), rule


def test_an_admin_opens_every_page(app: flask.Flask, browser: Browser, ids: dict[str, str]) -> None:
    for rule in rules(app, "GET"):
        answer = browser.client.get(path_of(rule, ids), follow_redirects=True)
        is_unknown = SOMETHING in path_of(rule, ids)
        assert answer.status_code in ({200, 404} if is_unknown else {200}), (rule, answer.text)


def test_no_page_shows_a_value_of_a_token(
    app: flask.Flask, browser: Browser, viewer: Browser, ids: dict[str, str], token: dict[str, object]
) -> None:
    for rule in rules(app, "GET"):
        for each in (browser, viewer):
            answer = each.client.get(path_of(rule, ids))
            assert str(token["token"]) not in answer.text, rule


def test_the_role_counts_that_the_administrator_has_now(browser: Browser, store: Store) -> None:
    page = browser.open("/admins/new")
    Admins(store).create("ops", Role.ADMIN)
    Admins(store).disable(ROOT_ID)
    assert browser.send(page, "Create", name="late", role="admin").path == "/login"
    assert "late" not in [each.name for each in Admins(store).list()]
