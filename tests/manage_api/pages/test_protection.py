"""Pages of others send no form here, and show none of ours."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import flask
import pytest
from flask.testing import FlaskClient
from support.clients.page_client import ORIGIN, Browser
from support.stores.stores import administrator
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response

from manage_api.app import create_app
from manage_api.contract import MAX_BODY
from manage_api.pages.protection import FIELD, MAX_LOGIN
from store.management.admins import Role
from store.management.projects import Projects
from store.network.client_address import parse_networks
from store.store import Store

SOMETHING = "00000000-0000-4000-8000-000000000009"
PROJECT = {"name": "One", "api_key": "sk-of-the-test-0123456789"}
STATIC = Path(__file__).parents[3] / "manage_api" / "pages"


def paths(app: flask.Flask, method: str) -> list[str]:
    """Return the path of every page with a method."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("pages.") and method in (rule.methods or ()) and rule.endpoint != "pages.static":
            _, path = rule.build(dict.fromkeys(rule.arguments, SOMETHING)) or ("", "")
            found.append(path)
    return found


def mark(browser: Browser) -> str:
    return browser.open("/").forms[0].fields[FIELD]


def refused(answer: TestResponse) -> bool:
    return answer.status_code == 403 and "form_refused" in answer.text


def create(browser: Browser, mark: str | None, **headers: str) -> TestResponse:
    fields = PROJECT if mark is None else {**PROJECT, FIELD: mark}
    return browser.client.post("/projects/new", data=fields, headers={"Origin": ORIGIN, **headers})


def test_every_form_is_refused_without_a_mark(app: flask.Flask, browser: Browser, store: Store) -> None:
    writing = [path for path in paths(app, "POST") if path != "/login"]
    assert len(writing) >= 9
    for path in writing:
        for fields in ({}, {FIELD: ""}, {FIELD: "."}, {FIELD: "x"}, {FIELD: "x.y"}, {FIELD: "\x00.\ud7ff"}):
            assert refused(browser.client.post(path, data=fields, headers={"Origin": ORIGIN})), (path, fields)
    assert Projects(store).list() == []
    assert browser.open("/").path == "/"  # also not logged out


def test_every_form_is_refused_from_elsewhere(app: flask.Flask, browser: Browser) -> None:
    good = mark(browser)
    for path in paths(app, "POST"):
        for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}):
            answer = browser.client.post(path, data={FIELD: good}, headers=headers)
            assert refused(answer), (path, headers)
    assert browser.open("/").path == "/"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ORIGIN}, 303),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "https://localhost"}, 303),  # a proxy that ends TLS, and does not say so
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "none"}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": ""}, 403),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin, cross-site"}, 403),
        ({}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Host": ""}, 403),
        ({"Origin": "null", "Host": "a b"}, 403),
        ({"Origin": "localhost"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example#localhost"}, 403),
        ({"Origin": "http://user@localhost"}, 403),
        ({"Origin": "ftp://localhost"}, 403),
        ({"Origin": "http://[localhost"}, 403),
        ({"Origin": "http://localhost:x"}, 403),
        ({"Referer": f"{ORIGIN}/projects/new"}, 403),
        ({"Origin": "http://evil.example", "Host": "localhost"}, 403),
        ({"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}, 403),
    ],
)
def test_a_browser_tells_where_a_form_comes_from(browser: Browser, headers: dict[str, str], status: int) -> None:
    good = mark(browser)
    answer = browser.client.post("/projects/new", data={**PROJECT, FIELD: good}, headers=headers)
    assert answer.status_code == status
    login = browser.client.post("/login", data={"token": "x"}, headers=headers)
    assert login.status_code == (401 if status == 303 else 403)


def test_behind_tls_a_page_without_it_sends_no_form(store: Store, auth: dict[str, str]) -> None:
    client = create_app(store, auth["Authorization"][7:], parse_networks("127.0.0.1")).test_client()
    for origin, status in (("https://localhost", 303), ("http://localhost", 403), ("https://localhost:80", 403)):
        headers = {"X-Forwarded-Proto": "https", "Origin": origin}
        answer = client.post("/login", data={"token": auth["Authorization"][7:]}, headers=headers)
        assert answer.status_code == status, origin


def test_a_mark_is_good_for_its_session_alone(app: flask.Flask, browser: Browser, auth: dict[str, str]) -> None:
    other = Browser(app.test_client())
    other.log_in(auth["Authorization"].removeprefix("Bearer "))
    assert refused(create(browser, mark(other)))
    good = mark(browser)
    random, _, proof = good.partition(".")
    for wrong in (f"{random}x.{proof}", f"{random}.{proof[:-1]}", f"{random}.{proof}0", random, f".{proof}", proof):
        assert refused(create(browser, wrong)), wrong
    # The same browser, with a new session.
    sent = browser.client.post("/login", data={"token": auth["Authorization"][7:]}, headers={"Origin": ORIGIN})
    assert sent.status_code == 303
    assert refused(create(browser, good))
    assert create(browser, mark(browser)).status_code == 303


def test_a_mark_in_the_address_is_none(browser: Browser) -> None:
    answer = browser.client.post(
        "/projects/new", query_string={FIELD: mark(browser)}, data=PROJECT, headers={"Origin": ORIGIN}
    )
    assert refused(answer)


def test_two_forms_of_a_page_have_marks_of_their_own(browser: Browser) -> None:
    fields = [form.fields[FIELD] for form in browser.open("/projects/new").forms if form.method == "post"]
    assert len({*fields}) == len(fields) >= 2


def test_a_form_that_is_sent_again_makes_nothing(browser: Browser, store: Store) -> None:
    good = mark(browser)
    assert create(browser, good).status_code == 303
    answer = create(browser, good)
    assert (answer.status_code, "form_repeated" in answer.text) == (409, True)
    assert len(Projects(store).list()) == 1


def test_the_api_takes_no_session(browser: Browser) -> None:
    for path in ("/manage/projects", "/metrics"):
        assert browser.client.get(path).status_code == 401
    answer = browser.client.post("/manage/projects", json=PROJECT, headers={"Origin": ORIGIN})
    assert answer.status_code == 401


def test_a_token_of_the_api_opens_no_page(client: FlaskClient) -> None:
    assert client.get("/projects").status_code == 303


HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def policy(answer: Response) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


def test_every_page_is_bound(app: flask.Flask, browser: Browser, anyone: FlaskClient) -> None:
    reading = [*paths(app, "GET"), "/nothing", "/projects/nothing", "/logout"]
    assert len(reading) >= 12
    for client in (browser.client, anyone):
        for method in ("GET", "HEAD"):
            for path in reading:
                answer = client.open(path, method=method, headers={"Accept": "text/html,*/*;q=0.8"})
                assert HEADERS.items() <= dict(answer.headers).items(), path
                found = policy(answer)
                assert found["default-src"] == "'none'"
                assert (found["frame-ancestors"], found["base-uri"]) == ("'none'", "'none'")
                assert {*found.values()} == {"'none'", "'self'"}, path
    for path in paths(app, "POST"):
        answer = anyone.post(path, headers={"Origin": "null"})
        assert HEADERS.items() <= dict(answer.headers).items(), path


class Inline(HTMLParser):
    """Finds what a policy without 'unsafe-inline' forbids, and addresses of others."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        names = dict(attrs)
        if tag in {"style", "iframe", "object", "embed", "base"} or (tag == "script" and "src" not in names):
            self.found.append(tag)
        for name, value in attrs:
            is_address = name in {"src", "href", "action", "formaction", "xlink:href"}
            if name.startswith("on") or name == "style" or (is_address and not re.match(r"[/#?]", value or "/")):
                self.found.append(f"{tag} {name}={value}")


def test_inline_code_is_found() -> None:
    html = "<p onclick=x style=y><script>z</script><a href='javascript:x'><a href='//x'><img src=http://x><a href=/x>"
    assert len(Inline(html).found) == 5


def test_no_page_has_inline_code(app: flask.Flask, browser: Browser, anyone: FlaskClient, project_id: str) -> None:
    for path in [*paths(app, "GET"), f"/projects/{project_id}", f"/projects/{project_id}/edit", "/login", "/nothing"]:
        for client in (browser.client, anyone):
            answer = client.get(path, headers={"Accept": "text/html"}, follow_redirects=True)
            assert Inline(answer.text).found == [], path


def test_static_files_are_bound_too(browser: Browser) -> None:
    for name in ("pages.css", "pages.js", "icon.svg"):
        with browser.client.get(f"/static/{name}") as answer:
            assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
            assert policy(answer)["default-src"] == "'none'"
            assert "no-store" not in answer.headers.get("Cache-Control", "")
    for path in ("/static/../gate.py", "/static/%2e%2e/gate.py", "/static/..%2fgate.py", "/static/", "/static/x"):
        assert browser.client.get(path).status_code == 404


def test_a_large_form_is_refused(browser: Browser, anyone: FlaskClient) -> None:
    own = {"Origin": ORIGIN}
    assert anyone.post("/login", data={"token": "x" * MAX_LOGIN}, headers=own).status_code == 413
    assert anyone.post("/login", data={"token": "x" * (MAX_LOGIN - 100)}, headers=own).status_code == 401
    good = mark(browser)
    answer = browser.client.post("/projects/new", data={FIELD: good, "name": "x" * MAX_BODY}, headers=own)
    assert (answer.status_code, "request_too_large" in answer.text) == (413, True)
    answer = browser.client.post("/projects/new", data={FIELD: good, "name": "x" * (MAX_BODY - 1000)}, headers=own)
    assert (answer.status_code, "“Name” must" in answer.text) == (400, True)


def test_a_form_of_many_parts_is_refused(browser: Browser) -> None:
    fields = {FIELD: mark(browser), **{f"x{number}": "1" for number in range(2000)}}
    answer = browser.client.post(
        "/projects/new", data=fields, content_type="multipart/form-data", headers={"Origin": ORIGIN}
    )
    assert (answer.status_code, answer.mimetype) == (413, "text/html")


def test_a_file_is_no_field(browser: Browser, store: Store) -> None:
    fields = {FIELD: mark(browser), "name": (io.BytesIO(b"One"), "name.txt"), "api_key": "sk-x"}
    answer = browser.client.post("/projects/new", data=fields, headers={"Origin": ORIGIN})
    assert answer.status_code == 400
    assert Projects(store).list() == []


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data", ""])
def test_a_form_of_another_type_has_no_mark(browser: Browser, content_type: str) -> None:
    answer = browser.client.post(
        "/projects/new", data=f"{FIELD}={mark(browser)}&name=x", content_type=content_type, headers={"Origin": ORIGIN}
    )
    assert refused(answer)


def test_a_host_that_is_made_up_leads_nowhere_else(browser: Browser, anyone: FlaskClient) -> None:
    answer = anyone.get("/projects", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert answer.headers["Location"] == "/login?next=/projects"
    page = browser.client.get("/projects", headers={"Host": "evil.example"})
    assert "evil.example" not in page.text


def test_the_role_is_looked_at_before_the_mark(viewer: Browser, store: Store) -> None:
    answer = create(viewer, mark(viewer))
    assert (answer.status_code, "role_not_allowed" in answer.text) == (403, True)
    assert Projects(store).list() == []
    assert administrator(store, "reader").role == Role.VIEWER


@pytest.mark.parametrize(
    "path", ["/nothing", "/favicon.ico", "/projects/", "/projects/x", "/admins/1/delete/2", "/%0a"]
)
def test_an_unknown_address_is_a_page_for_browsers_and_json_for_others(
    browser: Browser, anyone: FlaskClient, path: str
) -> None:
    for client in (browser.client, anyone):
        page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (page.status_code, page.mimetype, page.headers["Vary"]) == (404, "text/html", "Accept")
        assert "This did not work" in page.text
        for accept in ("*/*", "application/json", "application/json, text/html;q=0.5", ""):
            answer = client.get(path, headers={"Accept": accept})
            assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found"), accept
        assert client.get(path).get_json()["code"] == "not_found"


def test_an_unknown_method_is_a_page_for_browsers(browser: Browser) -> None:
    page = browser.client.get("/logout", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Allow"], page.mimetype) == (405, "POST", "text/html")
    assert browser.client.get("/logout").get_json()["code"] == "method_not_allowed"


def test_the_api_answers_browsers_in_json(client: FlaskClient, anyone: FlaskClient) -> None:
    assert anyone.get("/manage/nothing", headers={"Accept": "text/html"}).get_json()["code"] == "unauthorized"
    answer = client.get("/manage/nothing", headers={"Accept": "text/html"})
    assert answer.get_json()["code"] == "not_found"


def test_no_template_switches_escaping_off() -> None:
    templates = [*STATIC.rglob("*.html")]
    assert len(templates) > 10
    for path in templates:
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", path.read_text()), path
