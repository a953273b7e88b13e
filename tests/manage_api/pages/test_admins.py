import logging
import re

import flask
import pytest
from support.clients.page_client import Browser, Page
from support.stores.stores import administrator, rows

from store.management.admins import ROOT_ID, AdminRecord, Admins, Role
from store.store import Store

TOKEN = re.compile(r"llmp_admin_[0-9a-f]{48}")


@pytest.fixture
def admins(store: Store) -> Admins:
    return Admins(store)


@pytest.fixture
def ops(admins: Admins) -> AdminRecord:
    return admins.create("ops", Role.ADMIN)[0]


def page_of(browser: Browser, admin: AdminRecord) -> Page:
    return browser.open(f"/admins/{admin.id}")


def audited(store: Store, action: str) -> list[tuple[object, ...]]:
    found = [row for row in rows(store, "audit") if row["action"] == action]
    return [(row["actor"], row["object_name"], row["address"]) for row in found]


def created(browser: Browser, name: str, role: str = "viewer") -> Page:
    return browser.send(browser.open("/admins/new"), "Create", name=name, role=role)


def test_a_new_store_has_root_and_says_how_to_hand_over(browser: Browser) -> None:
    page = browser.open("/admins")
    assert "root you admin enabled with the gateway 1" in page.text
    assert "To hand over" in page.text
    assert browser.follow(page, "root").status == 200


def test_the_token_of_a_new_administrator_is_shown_once(
    app: flask.Flask, browser: Browser, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    page = created(browser, "ann", "admin")
    (token,) = {*TOKEN.findall(page.html)}
    assert page.answer.headers["Cache-Control"] == "no-store"
    assert page.answer.history == ()  # the response of the form itself
    other = Browser(app.test_client())
    assert other.log_in(token).path == "/"
    assert audited(store, "admin.create") == [("root", "ann", "127.0.0.1")]
    said = str([vars(record) for record in caplog.records])
    assert token not in said
    assert str(administrator(store, "ann").id) in said
    for path in ("/admins", f"/admins/{administrator(store, 'ann').id}"):
        assert not TOKEN.search(browser.open(path).html)


def test_the_form_that_was_sent_twice_makes_one(browser: Browser, admins: Admins) -> None:
    form = browser.open("/admins/new").form("Create")
    fields = {**form.fields, "name": "ann"}
    assert browser.post("/admins/new", fields).status == 200
    again = browser.post("/admins/new", {**fields, "name": "bob"})
    assert (again.status, "was sent already" in again.text) == (409, True)
    assert [each.name for each in admins.list()] == ["root", "ann"]


@pytest.mark.parametrize(
    ("name", "role", "status", "words"),
    [
        ("", "viewer", 400, "“Name” must"),
        ("-x", "viewer", 400, "“Name” must begin with a letter"),
        ("a b", "viewer", 400, "“Name”"),
        ("<script>alert(1)</script>", "viewer", 400, "“Name”"),
        ("x" * 65, "viewer", 400, "“Name” must have at most 64 characters"),
        ("4e9e2930-8b67-4da4-8974-c4b7e842b758", "viewer", 400, "form of a token"),
        ("ann", "owner", 400, "“Role” must be"),
        ("root", "admin", 409, "There is an administrator of this name"),
    ],
)
def test_a_bad_name_or_role_is_told_beside_the_form(
    browser: Browser, admins: Admins, name: str, role: str, status: int, words: str
) -> None:
    page = created(browser, name, role)
    assert (page.status, words in page.text) == (status, True), page.text
    assert "<script>alert" not in page.html
    assert page.form("Create").fields["name"] == name
    assert len(admins.list()) == 1
    assert browser.send(page, "Create", name="good", role="viewer").status == 200


def test_an_administrator_is_deleted_after_a_confirmation(browser: Browser, store: Store, ops: AdminRecord) -> None:
    page = browser.follow(page_of(browser, ops), "Delete …")
    assert "The token of ops is refused from then on" in page.text
    page = browser.send(page, "Delete")
    assert (page.path, "It is deleted." in page.text, "ops" in page.links) == ("/admins", True, False)
    assert audited(store, "admin.delete") == [("root", "ops", "127.0.0.1")]
    assert page_of(browser, ops).status == 404
    assert browser.post(f"/admins/{ops.id}/delete", page.forms[0].fields).status == 404


def test_root_is_disabled_and_enabled_by_another(
    app: flask.Flask, browser: Browser, store: Store, admins: Admins
) -> None:
    _, token = admins.create("ops", Role.ADMIN)
    other = Browser(app.test_client())
    other.log_in(token)
    page = other.send(other.follow(other.open(f"/admins/{ROOT_ID}"), "Disable …"), "Disable")
    assert "refused from now on" in page.text
    assert browser.open("/admins").path == "/login"
    assert "Delete …" not in page.links
    page = other.send(page, "Enable")
    assert "The administrator is enabled." in page.text
    assert browser.open("/admins").path == "/admins"
    for action in ("admin.disable", "admin.enable"):
        assert audited(store, action) == [("ops", "root", "127.0.0.1")]


def test_the_last_that_can_manage_is_not_disabled(browser: Browser, admins: Admins, store: Store) -> None:
    page = browser.send(browser.open(f"/admins/{ROOT_ID}/disable"), "Disable")
    assert (page.status, "no other enabled administrator" in page.text) == (409, True)
    assert page.form("Log out")
    assert admins.root().is_active
    assert audited(store, "admin.disable") == []


def test_root_cannot_be_deleted(browser: Browser) -> None:
    page = browser.send(browser.open(f"/admins/{ROOT_ID}/delete"), "Delete")
    assert (page.status, "root cannot be deleted" in page.text) == (409, True)


def test_who_deletes_itself_is_told_and_logged_out(app: flask.Flask, admins: Admins) -> None:
    made, token = admins.create("ops", Role.ADMIN)
    own = Browser(app.test_client())
    own.log_in(token)
    page = own.open(f"/admins/{made.id}/delete")
    assert "you will be logged out" in page.text
    assert own.send(page, "Delete").path == "/login"


def test_sessions_are_listed_and_one_of_them_ended(
    app: flask.Flask, browser: Browser, store: Store, ops: AdminRecord, auth: dict[str, str]
) -> None:
    second = Browser(app.test_client())
    second.log_in(auth["Authorization"].removeprefix("Bearer "))
    page = browser.open(f"/admins/{ROOT_ID}")
    assert page.text.count("127.0.0.1") == 2
    assert page.text.count("this one") == 1
    assert "is not logged in" in page_of(browser, ops).text
    stolen = page.form("End").fields["session"]
    wrong = browser.post(f"/admins/{ops.id}/end-session", {**page.forms[0].fields, "session": stolen})
    assert (wrong.status, "This session has ended" in wrong.text) == (404, True)
    page = browser.send(page, "End")
    assert "The session is ended." in page.text
    assert second.open("/").path == "/login"
    assert browser.open("/").path == "/"
    assert audited(store, "admin.log_out") == [("root", "root", "127.0.0.1")]


def test_an_administrator_is_logged_out_everywhere(
    app: flask.Flask, browser: Browser, store: Store, admins: Admins
) -> None:
    made, token = admins.create("ops", Role.ADMIN)
    others = [Browser(app.test_client()) for _ in range(2)]
    for other in others:
        other.log_in(token)
    page = browser.send(page_of(browser, made), "Log out everywhere")
    assert "All sessions of the administrator are ended." in page.text
    assert [other.open("/").path for other in others] == ["/login"] * 2
    assert browser.open("/").path == "/"
    assert audited(store, "admin.log_out") == [("root", "ops", "127.0.0.1")]
    assert others[0].log_in(token).path == "/"


def test_a_viewer_sees_all_administrators_and_of_sessions_its_own(
    app: flask.Flask, viewer: Browser, browser: Browser, store: Store, auth: dict[str, str]
) -> None:
    elsewhere = app.test_client()
    elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.9"
    Browser(elsewhere).log_in(auth["Authorization"].removeprefix("Bearer "))
    assert "192.0.2.9" in browser.open(f"/admins/{ROOT_ID}").text
    assert "192.0.2.9" in browser.open("/admins").text
    page = viewer.open("/admins")
    assert {"root", "reader"} <= page.links.keys()
    for shown in (page, viewer.follow(page, "root"), viewer.open(f"/admins/{ROOT_ID}/delete")):
        assert "192.0.2.9" not in shown.html
    assert "127.0.0.1" in page_of(viewer, administrator(store, "reader")).text
    assert "New administrator" not in page.links


@pytest.mark.parametrize("path", ["", "/delete", "/disable"])
def test_an_unknown_administrator_is_not_found(browser: Browser, path: str) -> None:
    assert browser.open(f"/admins/4e9e2930-8b67-4da4-8974-c4b7e842b758{path}").status == 404
