"""People at the pages in a real browser: the first ten minutes of a newcomer, and the first two with a leaked token."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.clients.chromium import Chromium, needs_chromium
from support.gateway.gateway import Gateway, bearer
from support.gateway.installation import Installation
from support.gateway.processes import DEADLINE, running, tool, wait_until
from support.stores import desk
from support.stores.desk import Desk
from support.upstreams.upstreams import KEY, DemoUpstream

pytestmark = [pytest.mark.soak("manage_api/pages", "manage_api/cli/supervision"), needs_chromium]

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])

HELLO: list[Any] = [{"role": "user", "content": "Hello!"}]
LATEST = 2.0
"""Seconds until the end of what ran for a token that has ended, on a busy machine."""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUpstream]:
    with DemoUpstream.start(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


@SCRIPTS
def test_a_newcomer_makes_a_first_request(tmp_path: Path, upstream: DemoUpstream, *, scripts: bool) -> None:
    """From a first start to a request that is seen, with what the pages say alone."""
    installation = Installation(tmp_path, UPSTREAM_URL=upstream.url)
    site = f"http://127.0.0.1:{installation.manage}"
    with (
        running(installation.start([tool("llm-proxy"), "start"])) as process,
        Chromium.start(scripts=scripts) as browser,
    ):
        process.wait_for_output("is up")
        browser.open(site)
        browser.fill(token=(installation.data / "management_token").read_text().strip())
        browser.press("Log in")
        browser.follow("Make the first project and token")
        browser.fill(name="My first project", api_key=KEY)
        browser.press("Make the project and the token")
        found = browser.defects()
        value = copied(browser, site) if scripts else browser.find(".copied code").text
        base_url = setting(browser, "OPENAI_BASE_URL")
        assert setting(browser, "OPENAI_API_KEY") == value
        with openai.OpenAI(base_url=base_url, api_key=value) as client:
            client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        if scripts:
            browser.wait_for("It works")
        else:
            browser.open(browser.control("a", "Look again").get_attribute("href") or "")
            wait_until(lambda: has_arrived(browser))
        browser.follow("All about this request")
        assert "/v1/chat/completions" in browser.text
        found += browser.defects()
        browser.follow("Requests")
        assert "My first project" in browser.find("tbody").text
        assert "gpt-4o-mini" in browser.find("tbody").text
        browser.follow("Overview")
        assert "My first project" in browser.text
        assert "gpt-4o-mini" in browser.text
        found += browser.defects()
        browser.follow("Tokens")
        assert value not in browser.driver.page_source
        browser.press("Log out")
        assert browser.path == "/login"
        assert found + browser.faults() == []


def has_arrived(browser: Chromium) -> bool:
    """Open the page again, and tell whether it says that all is well: the end of a request is noted a moment later."""
    browser.driver.refresh()
    return "It works: the answer of gpt-4o-mini is 200." in browser.text


def copied(browser: Chromium, site: str) -> str:
    """Press the first button to copy, and return what is in the clipboard then."""
    allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    browser.command("Browser.grantPermissions", origin=site, permissions=allowed)
    browser.command("Emulation.setFocusEmulationEnabled", enabled=True)
    browser.control("button", "Copy").click()
    browser.wait_for("Copied")
    read = "navigator.clipboard.readText().then(arguments[0])"
    return str(browser.driver.execute_async_script(read))


def setting(browser: Chromium, name: str) -> str:
    """Return the value of a variable that the page says to export."""
    lines = [line for text in browser.find_all("pre") for line in text.text.splitlines()]
    (value,) = [line.partition("=")[2].strip('"') for line in lines if line.startswith(f"export {name}=")]
    return str(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream) -> Iterator[Gateway]:
    with Gateway.start(tmp_path_factory.mktemp("desk"), upstream.url) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def filled(site: Gateway) -> Desk:
    with site.store() as store:
        return desk.fill(store, KEY)


def stream(url: str, token: dict[str, Any], has_begun: threading.Event) -> tuple[str, float]:
    """Stream a long answer; return the code of the error that ended it (empty: none did), and the time of its end."""
    body = {"model": "gpt-4o-mini", "messages": HELLO, "stream": True}
    headers = {**bearer(token), "X-Demo-Words": "3000", "X-Demo-Chunk-Delay": "0.02"}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=DEADLINE) as response:
        code = ""
        for line in response.iter_lines():
            has_begun.set()
            if line.startswith("data: {") and "error" in (event := json.loads(line[6:])):
                code = event["error"]["code"]
    return code, time.monotonic()


def revoke(browser: Chromium) -> None:
    browser.follow("Revoke …")
    assert "Running now" in browser.text
    browser.press("Revoke the token")
    assert "revoked" in browser.find("main .head").text


def replace(browser: Chromium) -> None:
    browser.follow("New value …")
    browser.fill(grace_seconds="at once")
    browser.press("Make a new value")
    assert "The value before is refused from now on." in browser.text


@SCRIPTS
@pytest.mark.parametrize(
    ("end", "action", "code"), [(revoke, "token.revoke", "token_inactive"), (replace, "token.rotate", "invalid_token")]
)
def test_a_leaked_token_is_found_and_ended(
    site: Gateway, filled: Desk, end: Callable[[Chromium], None], action: str, code: str, *, scripts: bool
) -> None:
    """By its value alone, which no address has: where it was used, what stops with it, and who ended it."""
    name = f"Leaked {action} {scripts}"
    token = site.make_token(filled.projects["Search"], name=name)
    httpx.get(f"{site.url}/v1/models", headers=bearer(token)).raise_for_status()
    has_begun = threading.Event()
    with Chromium.start(scripts=scripts) as browser, ThreadPoolExecutor(1) as pool:
        browser.log_in(site.manage_url, filled.admin_token)
        streamed: Future[tuple[str, float]] = pool.submit(stream, site.url, token, has_begun)
        assert has_begun.wait(DEADLINE)
        browser.follow("Tokens")
        browser.find("details.find summary").click()
        browser.fill(value=f'export OPENAI_API_KEY="{token["token"]}"')
        browser.press("Find the token")
        assert (token["id"] in browser.path, token["token"] in browser.driver.current_url) == (True, False)
        assert name in browser.text
        browser.follow("the latest")
        assert "running" in browser.find("tbody").text
        browser.find("tbody a").click()
        browser.wait_for("Client 127.0.0.1")
        browser.follow(name)
        began = time.monotonic()
        end(browser)
        ended_with, ended_at = streamed.result(DEADLINE)
        assert ended_with == code
        assert ended_at - began < LATEST
        refused = httpx.get(f"{site.url}/v1/models", headers=bearer(token))
        assert refused.status_code == 401
        assert token["token"] not in browser.driver.page_source
        browser.follow("Audit")
        row = browser.find("tbody tr").text
        assert (action in row, "ada" in row, name in row) == (True, True, True)
        assert browser.faults() == []


@SCRIPTS
def test_a_keyboard_is_enough_to_revoke_a_token(site: Gateway, filled: Desk, *, scripts: bool) -> None:
    name = f"To be revoked, {scripts}"
    token = site.make_token(filled.projects["Search"], name=name)
    with Chromium.start(scripts=scripts) as browser:
        browser.open(f"{site.manage_url}/login")
        browser.type(filled.admin_token)
        for words in ("Tokens", name, "Revoke …", "Revoke the token"):
            browser.enter()
            browser.tab_to(words)
        browser.enter()
        assert "revoked" in browser.find("main .head").text
        assert not site.token(token["id"])["is_active"]
        assert browser.faults() == []
