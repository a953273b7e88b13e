"""The pages in a real browser, before texts that would run and before pages of others that would use the session."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import pytest
from selenium.webdriver.common.by import By
from support.clients.chromium import Chromium, needs_chromium
from support.clients.page_crawler import Crawler
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway, bearer
from support.gateway.processes import wait_until
from support.upstreams.upstreams import Conversation, RawUpstream, json_response

pytestmark = [pytest.mark.soak("manage_api/pages"), needs_chromium]

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])

ATTACK = '"><img src=x onerror=alert()><script>alert()</script></textarea><svg onload=alert()>{{91~91}}'
LINK = "javascript:alert()"
COMPUTED = ">9191"

_HOSTILE = """
const own = (script) => script.src.startsWith(location.origin + "/static/") && !script.textContent
const other = (meta) => !meta.content.startsWith("5; url=/requests?") // the list that opens itself again
const leads = ["href", "action", "formaction", "src"]
return [...document.querySelectorAll("*")].filter((element) =>
  element.matches("img, iframe, object, embed, base") || (element.matches("script") && !own(element))
  || (element.matches("meta[http-equiv]") && other(element))
  || [...element.attributes].some(({ name, value }) =>
    name.startsWith("on") || name === "style" || (leads.includes(name) && /^\\s*javascript:/i.test(value)))
).map((element) => element.outerHTML.slice(0, 200))
"""
"""Elements that run something, or come from elsewhere."""

_SHOWN = "return [document.body.innerText, ...[...document.querySelectorAll('[value], textarea')].map((e) => e.value)]"
"""All texts of a page, also those of fields."""


def answer(conversation: Conversation) -> None:
    """Answer each request as an upstream does that is hostile."""
    while True:
        conversation.read_message()
        body = {
            "id": f"id {ATTACK}",
            "object": "chat.completion",
            "model": f"told {ATTACK}",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ATTACK}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        }
        conversation.send(json_response(body, headers=f"x-request-id: upstream {ATTACK}\r\n"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with RawUpstream(answer) as upstream, Gateway.start(tmp_path_factory.mktemp("desk"), upstream.url) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def hostile(site: Gateway) -> None:
    """Every field that users, models or upstreams fill, filled with an attack that begins with the field's name.

    The ledger keeps no id of an upstream that has other characters than ids have.
    """
    for text in (LINK, ATTACK):  # the crawler opens the newest requests
        project = site.make_project(f"project {text}")
        token = site.make_token(project["id"], name=f"token {text}")
        site.manage("PUT", "/manage/prices", {"model": f"priced {text}", "rates": {"input": 1}}).raise_for_status()
        chat = {"model": f"asked {text}", "messages": [{"role": "user", "content": text}]}
        with httpx.Client(base_url=site.url, headers=bearer(token), timeout=20) as client:
            client.post("/v1/chat/completions", json=chat).raise_for_status()
            assert post(site, '/v1/path"><img/src=x/onerror=alert()>', token, chat) == 200
            policy = '* /v1/policy"><img/src=x/onerror=alert()>'
            rules = {"allowed_models": [f"allowed {text}"], "allowed_endpoints": [policy]}
            for path in (f"/manage/projects/{project['id']}", f"/manage/tokens/{token['id']}"):
                site.manage("PATCH", path, rules).raise_for_status()
            assert client.post(f"/v1/{quote(f'refused {text}')}", json=chat).status_code == 403
    deleted = site.make_project(f"deleted {ATTACK}")
    site.make_token(deleted["id"], name=f"gone {ATTACK}")
    site.manage("DELETE", f"/manage/projects/{deleted['id']}").raise_for_status()


def post(site: Gateway, target: str, token: dict[str, Any], body: object) -> int:
    """Send a request whose target is not escaped; return its status."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)) as connection:
        headers = {**bearer(token), "Content-Type": "application/json"}
        connection.request("POST", target, json.dumps(body), headers)
        return connection.getresponse().status


def check(browser: Chromium) -> list[str]:
    """Return what runs on a page or would, and what a template has computed."""
    found = [*browser.run(_HOSTILE), *(fault for fault in browser.faults() if "status of 4" not in fault)]
    texts = browser.run(_SHOWN)
    found += [text for text in texts if COMPUTED in text]
    return [f"{browser.path}: {each}" for each in found]


FIELDS = ("project ", "token ", "allowed ", "priced ", "asked ", "told ", "path", "deleted ", "policy")


@SCRIPTS
@pytest.mark.usefixtures("hostile")
def test_no_text_of_others_runs(site: Gateway, *, scripts: bool) -> None:
    with Crawler.log_in(site.manage_url, MANAGEMENT_TOKEN) as crawler:
        pages = [page.address for page in crawler.open_all() if page.is_page]
    found, texts = list[str](), list[str]()
    with Chromium.start(scripts=scripts) as browser:
        browser.log_in(site.manage_url, MANAGEMENT_TOKEN)
        for page in pages:
            browser.open(page)
            found += check(browser)
            texts += browser.run(_SHOWN)
            if _search(browser):
                found += check(browser)
    assert found == []
    assert [name for name in FIELDS if not any(f'{name}"><img' in text for text in texts)] == []


def _search(browser: Chromium) -> bool:
    """Fill the fields of the page's filters with an attack, and send them; tell whether there are any."""
    filters = browser.find_all("main form:not([method=post])")
    if not filters:
        return False
    for field in filters[0].find_elements(By.CSS_SELECTOR, "input:not([type]), input[type=text], input[type=search]"):
        field.send_keys(ATTACK)
    filters[0].find_element(By.CSS_SELECTOR, "button").click()
    return True


PARAMETERS = (
    *(
        "action",
        "actor",
        "by",
        "chart",
        "code",
        "cursor",
        "done",
        "endpoint",
        "from",
        "id",
        "live",
        "model",
        "object_id",
    ),
    *("order", "page", "preset", "project_id", "q", "sort", "source", "state", "status", "timezone", "to", "token_id"),
)


@SCRIPTS
def test_no_parameter_runs(site: Gateway, *, scripts: bool) -> None:
    """The login leads nowhere else, and no parameter is shown as markup."""
    with Chromium.start(scripts=scripts) as browser:
        for target in (LINK, "//evil.example/", ATTACK, "/\\evil.example", "https://evil.example/"):
            browser.open(f"{site.manage_url}/login?{urlencode({'next': target})}")
            browser.fill(token=ATTACK)
            browser.press("Log in")
            assert check(browser) == []
            browser.fill(token=MANAGEMENT_TOKEN)
            browser.press("Log in")
            assert browser.path == "/"
            browser.press("Log out")
        browser.log_in(site.manage_url, MANAGEMENT_TOKEN)
        for part in [link.get_attribute("href") for link in browser.find_all("nav a")]:
            for name in PARAMETERS:
                browser.open(f"{part}?{urlencode({name: ATTACK})}")
                assert check(browser) == []


class Elsewhere(NamedTuple):
    """A site of another origin on this machine, under both names of it; it serves whatever page it is told to."""

    port: int
    pages: dict[str, str]

    def url(self, host: str, path: str) -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    pages: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path, "").encode()
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Elsewhere(server.server_port, pages)
    server.shutdown()
    server.server_close()


HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
"""Of the attacker: another port of the same host is another origin, but the same site, and gets the cookie."""


@HOSTS
@SCRIPTS
def test_no_page_of_others_shows_ours(site: Gateway, elsewhere: Elsewhere, host: str, *, scripts: bool) -> None:
    elsewhere.pages["/"] = f"<iframe src='{site.manage_url}/projects' width=900 height=600></iframe>"
    with Chromium.start(scripts=scripts) as browser:
        browser.log_in(site.manage_url, MANAGEMENT_TOKEN)
        browser.open(elsewhere.url(host, "/"))
        wait_until(lambda: any("frame-ancestors" in fault for fault in browser.faults()))
        browser.driver.switch_to.frame(0)
        assert browser.run("return location.href") == "chrome-error://chromewebdata/"


def form(url: str, fields: Mapping[str, str], encoding: str = "application/x-www-form-urlencoded") -> str:
    """Return a page with a form that sends itself, or that a person is led to press."""
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    sends = "<script>document.forms[0].submit()</script>"
    return f'<form method=post action="{url}" enctype="{encoding}">{inputs}<button>Win!</button></form>{sends}'


def fetches(requests: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Return a page that sends requests with the session's cookie, and writes what it could read."""
    return f"""<title>…</title><script type=module>
    const told = []
    for (const [url, fields] of {json.dumps(requests)})
      for (const mode of ["cors", "no-cors"]) {{
        const options = {{ mode, credentials: "include", method: "POST", body: new URLSearchParams(fields) }}
        for (const each of [options, {{ mode, credentials: "include" }}])
          told.push(await fetch(url, each).then((answer) => answer.text()).catch(() => ""))
      }}
    document.title = "told: " + told.join("")
    </script>"""


@contextlib.contextmanager
def unchanged(site: Gateway) -> Iterator[None]:
    """Check that a block changes nothing that is recorded."""

    def audit() -> object:
        return site.manage("GET", "/manage/audit").raise_for_status().json()["data"]

    before = audit()
    yield
    assert audit() == before


@HOSTS
def test_no_page_of_others_changes_anything(site: Gateway, elsewhere: Elsewhere, host: str) -> None:
    """Not even with a mark that was made for this session: the browser tells where a form comes from."""
    token = site.make_token()
    project = f"/projects/{token['project_id']}"
    with Chromium.start() as browser:
        browser.log_in(site.manage_url, MANAGEMENT_TOKEN)
        browser.open(f"{site.manage_url}/projects/new")
        mark = browser.find("form.card input[name=form]").get_attribute("value") or ""
        fields = {"form": mark, "name": "Planted", "api_key": "sk-planted-0123456789"}
        posts = [
            ("/projects/new", fields),
            (f"{project}/edit", {"form": mark, "name": "Planted", "was-name": "Tests"}),
            (f"{project}/revoke", {"form": mark}),
            (f"{project}/delete", {"form": mark}),
            ("/logout", {"form": mark}),
            ("/login", {"token": MANAGEMENT_TOKEN}),
        ]
        with unchanged(site):
            for path, each in posts:
                for encoding in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
                    elsewhere.pages["/"] = form(f"{site.manage_url}{path}", each, encoding)
                    browser.open(elsewhere.url(host, "/"))
                    wait_until(lambda: browser.driver.current_url.startswith(site.manage_url))
                    wait_until(lambda: "LLM Proxy" in browser.driver.title)
                    assert "This did not work" in browser.text, browser.path
            elsewhere.pages["/fetch"] = fetches([(f"{site.manage_url}{path}", each) for path, each in posts])
            browser.open(elsewhere.url(host, "/fetch"))
            wait_until(lambda: browser.driver.title.startswith("told:"))
            assert browser.driver.title == "told:"
        browser.open(f"{site.manage_url}/projects")
        assert "Planted" not in browser.text
        assert "Tests" in browser.text  # the session is still there, and so is the project
