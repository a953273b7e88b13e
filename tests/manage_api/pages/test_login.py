"""The login, the session's cookie, and the session's end."""

import itertools
import logging
from collections.abc import Callable

import flask
import pytest
from flask.testing import FlaskClient
from support.clients.page_client import ORIGIN, Browser
from support.stores.store_clock import StoreClock
from support.stores.stores import administrator, foreign_lock, rows
from werkzeug.test import TestResponse

from manage_api.app import create_app
from manage_api.pages.gate import RELOADS
from manage_api.wrong_tokens import BURST
from store.management.admin_sessions import IDLE, LONGEST, AdminSessions
from store.management.admins import ROOT_ID, Admins, Role
from store.network.client_address import parse_networks
from store.store import Store

OWN = {"Origin": ORIGIN}


@pytest.fixture
def root_token(auth: dict[str, str]) -> str:
    return auth["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoreClock:
    return StoreClock(monkeypatch)


def sent(client: FlaskClient, token: str, target: str = "/", **headers: str) -> TestResponse:
    return client.post("/login", data={"token": token, "next": target}, headers={**OWN, **headers})


def is_in(browser: Browser) -> bool:
    """Tell whether a browser sees pages, without using its session."""
    answer = browser.client.get("/projects", headers={**browser.headers, RELOADS: "1"})
    assert answer.status_code in {200, 303}
    return answer.status_code == 200


def test_a_stranger_is_led_to_the_login_and_then_where_it_wanted_to(stranger: Browser, root_token: str) -> None:
    page = stranger.open("/projects?q=one")
    assert (page.path, page.status, [*page.links]) == ("/login", 200, ["To the content", "API"])
    page = stranger.send(page, "Log in", token=f" {root_token}\n")
    assert (page.path, page.answer.request.query_string) == ("/projects", b"q=one")
    assert stranger.open("/login").path == "/"


@pytest.mark.parametrize("path", ["/", "/projects", "/projects/new"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_page_is_shown_without_a_session(anyone: FlaskClient, method: str, path: str) -> None:
    answer = anyone.open(path, method=method, headers=OWN)
    assert answer.status_code in ({303, 405} if method == "POST" else {303})
    anyone.set_cookie("llm-proxy-session", "x" * 43)
    assert anyone.open(path, method=method, headers=OWN).status_code == answer.status_code


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "evil.example",
        "",
        "\x00/",
    ],
)
def test_the_login_leads_to_no_other_server(anyone: FlaskClient, root_token: str, target: str) -> None:
    assert sent(anyone, root_token, target).headers["Location"] == "/"
    shown = anyone.get("/login", query_string={"next": target})
    assert shown.headers["Location"] == "/"


def test_wrong_tokens_are_slowed_down_together_with_those_of_the_api(anyone: FlaskClient, root_token: str) -> None:
    for _ in range(BURST - 1):
        assert anyone.get("/manage/projects", headers={"Authorization": "Bearer x"}).status_code == 401
    answer = sent(anyone, "wrong-token-0123456789")
    assert answer.status_code == 401
    assert "The management token is wrong" in answer.text
    answer = sent(anyone, "wrong-token-0123456789")
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (429, True)
    assert "wrong-token-0123456789" not in answer.text
    assert "WWW-Authenticate" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    assert anyone.get("/manage/projects", headers={"Authorization": "Bearer x"}).status_code == 429
    assert sent(anyone, root_token).status_code == 303


@pytest.mark.parametrize("token", ["", "t\u00f6ken", "x" * 10_000, "\x00", "<script>"])
def test_any_other_text_is_a_wrong_token(anyone: FlaskClient, token: str) -> None:
    answer = sent(anyone, token)
    assert answer.status_code == 401
    assert "<script>" not in answer.text


def test_a_form_without_its_fields_is_a_wrong_token(anyone: FlaskClient) -> None:
    assert anyone.post("/login", headers=OWN).status_code == 401
    assert anyone.post("/login", json={"token": "x"}, headers=OWN).status_code == 401


def test_nothing_of_the_login_is_logged(anyone: FlaskClient, root_token: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = sent(anyone, root_token, "/projects?q=secret")
    sent(anyone, "a-wrong-token")
    session_id = answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    said = str([vars(record) for record in caplog.records])
    assert "/login" in said
    assert not any(secret in said for secret in (root_token, session_id, "secret", "a-wrong-token"))


def test_the_cookie_is_for_this_server_alone(anyone: FlaskClient, root_token: str) -> None:
    cookie = sent(anyone, root_token).headers["Set-Cookie"]
    name, *flags = cookie.split("; ")
    assert name.startswith("llm-proxy-session=")
    assert {*flags[1:]} == {f"Max-Age={LONGEST // 1_000_000}", "HttpOnly", "Path=/", "SameSite=Strict"}
    assert flags[0].startswith("Expires=")


def test_behind_tls_the_cookie_is_sent_by_https_alone(
    behind_tls: Callable[[], Browser], store: Store, root_token: str
) -> None:
    browser = behind_tls()
    https = {**browser.headers, "Sec-Fetch-Site": "same-origin"}
    answer = sent(browser.client, root_token, **https)
    name, *flags = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-llm-proxy-session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= {*flags}
    assert not any(flag.startswith("Domain") for flag in flags)
    # Another service on the host cannot plant a session: it cannot set a cookie of that name.
    planted = AdminSessions(store, root_token).begin(Admins(store).root(), root_token, "192.0.2.1")
    stranger = behind_tls()
    stranger.client.set_cookie("llm-proxy-session", planted)
    assert not is_in(stranger)


def test_a_client_that_is_no_trusted_proxy_reports_no_https(app: flask.Flask, store: Store, root_token: str) -> None:
    for other in (app, create_app(store, root_token, parse_networks("10.0.0.0/8"))):
        answer = sent(other.test_client(), root_token, **{"X-Forwarded-Proto": "https"})
        assert "Secure" not in answer.headers["Set-Cookie"]
        assert answer.headers["Set-Cookie"].startswith("llm-proxy-session=")


def test_a_login_begins_a_new_session_and_ends_the_one_before(
    app: flask.Flask, browser: Browser, store: Store, root_token: str
) -> None:
    (before,) = browser.cookies()
    sent(browser.client, root_token)
    (after,) = browser.cookies()
    assert before != after
    thief = Browser(app.test_client())
    thief.client.set_cookie("llm-proxy-session", before)
    assert not is_in(thief)
    assert is_in(browser)
    assert len(rows(store, "admin_session")) == 1


def test_an_id_that_the_browser_brings_becomes_no_session(anyone: FlaskClient, root_token: str) -> None:
    anyone.set_cookie("llm-proxy-session", "chosen-by-another")
    sent(anyone, root_token)
    (after,) = Browser(anyone).cookies()
    assert after != "chosen-by-another"


def test_a_failed_login_leaves_the_session_alone(browser: Browser) -> None:
    assert sent(browser.client, "wrong").status_code == 401
    assert is_in(browser)


def test_the_logout_ends_the_session_by_a_form_alone(app: flask.Flask, browser: Browser) -> None:
    (session_id,) = browser.cookies()
    assert browser.client.get("/logout").status_code == 405
    page = browser.open("/")
    assert is_in(browser)
    assert browser.send(page, "Log out").path == "/login"
    assert [*browser.cookies()] == []
    thief = Browser(app.test_client())
    thief.client.set_cookie("llm-proxy-session", session_id)
    assert not is_in(thief)


def test_a_viewer_logs_out(viewer: Browser) -> None:
    assert viewer.send(viewer.open("/"), "Log out").path == "/login"
    assert not is_in(viewer)


def test_login_and_logout_have_their_rows_of_the_audit(viewer: Browser, store: Store) -> None:
    viewer.send(viewer.open("/"), "Log out")
    found = [row for row in rows(store, "audit") if row["action"] in {"admin.log_in", "admin.log_out"}]
    assert {(row["actor"], row["object_name"], row["address"]) for row in found} == {("reader", "reader", "127.0.0.1")}
    assert len(found) == 2
    assert all(row["request_id"] for row in found)


def test_a_session_that_is_not_used_ends(browser: Browser, clock: StoreClock) -> None:
    began = clock.now
    clock.set(began + IDLE // 2)
    assert is_in(browser)  # by a page that reloads itself, which defers nothing
    clock.set(began + IDLE + 1_000_000)
    assert not is_in(browser)


def test_a_session_that_is_used_ends_too(browser: Browser, clock: StoreClock) -> None:
    began = clock.now
    for step in itertools.count(1):
        clock.set(began + step * IDLE // 2)
        if clock.now >= began + LONGEST:
            break
        assert browser.open("/projects").path == "/projects"
    assert browser.open("/projects").path == "/login"


def test_a_session_ends_at_once_with_its_administrator(viewer: Browser, store: Store) -> None:
    admins = Admins(store)
    reader = administrator(store, "reader")
    admins.disable(reader.id)
    assert not is_in(viewer)
    admins.enable(reader.id)
    assert is_in(viewer)
    admins.delete(reader.id)
    assert not is_in(viewer)


def test_a_session_of_root_ends_at_once_where_root_is_disabled(browser: Browser, store: Store, root_token: str) -> None:
    admins = Admins(store)
    admins.create("ops", Role.ADMIN)
    admins.disable(ROOT_ID)
    assert not is_in(browser)
    page = browser.log_in(root_token)
    assert (page.status, page.path) == (401, "/login")
    assert "The administrator root is disabled" in page.text


def test_a_session_of_root_ends_with_its_token(browser: Browser, store: Store) -> None:
    (session_id,) = browser.cookies()
    other = Browser(create_app(store, "another-management-token").test_client())
    other.client.set_cookie("llm-proxy-session", session_id)
    assert not is_in(other)
    assert is_in(browser)


def test_without_the_store_the_login_is_a_page_that_says_so(stranger: Browser, store: Store, root_token: str) -> None:
    store.database.timeout = 0.2
    with foreign_lock(store):
        page = stranger.post("/login", {"token": root_token})
    assert (page.status, page.answer.mimetype) == (503, "text/html")
    assert [*stranger.cookies()] == []
