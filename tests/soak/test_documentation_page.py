"""`/docs` in Chromium: it names the server at which it was reached, and tries out requests at both ports."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.installation import Installation, started
from support.gateway.processes import DEADLINE, free_port, wait_until
from websockets.sync.client import connect
from websockets.sync.connection import Connection

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.soak("addon/cross_origin.py", "manage_api/resources", "openapi.yaml"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

TRY_OUT = """(async (given) => {
  const until = async (find) => {
    for (const end = Date.now() + 15000; Date.now() < end; await new Promise((go) => setTimeout(go, 20))) {
      const found = find()
      if (found) return found
    }
    throw new Error(`${find} found nothing in: ${document.body.innerText}`)
  }
  const set = (field, value) => {
    const kind = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(field, value)
    field.dispatchEvent(new Event("input", { bubbles: true }))
    field.dispatchEvent(new FocusEvent("focusout", { bubbles: true }))
  }
  await until(() => document.querySelector(".opblock"))
  for (const [name, value] of Object.entries(given.tokens)) ui.preauthorizeApiKey(name, value)
  const block = await until(() => document.querySelector(`[id$="-${given.operation}"]`))
  if (!block.classList.contains("is-open")) block.querySelector("button.opblock-summary-control").click()
  const button = await until(() => block.querySelector(".try-out__btn"))
  if (!block.querySelector(".execute")) button.click()
  await until(() => block.querySelector(".execute"))
  if (given.path) set(block.querySelector(".parameters input"), given.path)
  if (given.body) set(block.querySelector("textarea.body-param__text"), given.body)
  const servers = [...block.querySelectorAll(".servers option")].map((option) => option.textContent)
  block.querySelector(".execute").click()
  const status = await until(() => block.querySelector(".live-responses-table .response .response-col_status"))
  const shown = block.querySelector(".live-responses-table").innerText
  const url = block.querySelector(".request-url pre").innerText.trim()
  return { status: status.innerText.trim(), servers, url, shown }
})"""


NOTE_VIOLATIONS = """
  window.violations = []
  document.addEventListener("securitypolicyviolation", (one) => violations.push(one.violatedDirective + one.blockedURI))
"""


class Page:
    """A page in Chromium, which runs what a test tells it over the DevTools protocol."""

    def __init__(self, socket: Connection) -> None:
        self._socket = socket
        self._number = 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (told := json.loads(self._socket.recv(3 * DEADLINE))).get("id") != self._number:
            pass
        assert "exceptionDetails" not in told.get("result", {"exceptionDetails": told}), told
        result: dict[str, Any] = told["result"]
        return result

    def run(self, script: str) -> Any:
        """Run JavaScript, await its promise, and return its value."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return result["result"].get("value")

    def try_out(self, operation: str, tokens: dict[str, str], path: str = "", body: str = "") -> dict[str, Any]:
        """Fill in an operation, execute it, and return what the page shows of the response."""
        given = {"operation": operation, "tokens": tokens, "path": path, "body": body}
        shown: dict[str, Any] = self.run(f"{TRY_OUT}({json.dumps(given)})")
        return shown


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[Installation, dict[str, str]]]:
    """A demo, and the tokens by the names of the contract."""
    installation = Installation(tmp_path)
    with started(installation, "demo", until="How often") as process:
        output = process.wait_for_output("/manage/tokens/")
        (token,) = re.findall(r'api_key="([0-9a-f-]+)"', output)
        (management,) = re.findall(r"/manage/tokens/.* Bearer ([\w-]+)", output)
        yield installation, {"TokenAuth": token, "ManagementToken": management}


@pytest.fixture
def page(tmp_path: Path, demo: tuple[Installation, dict[str, str]]) -> Iterator[Page]:
    """`/docs`, by the name localhost, in a browser that reaches this machine only."""
    assert CHROMIUM is not None
    port, url = free_port(), f"http://localhost:{demo[0].manage}/docs"
    quiet = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"]
    options = ["--headless=new", "--no-sandbox", f"--remote-debugging-port={port}", "--remote-allow-origins=*"]
    log = tmp_path / "chromium.log"
    with log.open("wb") as out:
        browser = subprocess.Popen(
            [CHROMIUM, *options, *quiet, f"--user-data-dir={tmp_path / 'profile'}", url], stdout=out, stderr=out
        )
    try:
        with connect(_page_socket(port, url), max_size=None, proxy=None) as socket:
            page = Page(socket)
            page.call("Page.enable")
            page.call("Page.addScriptToEvaluateOnNewDocument", source=NOTE_VIOLATIONS)
            page.call("Page.reload")
            wait_until(lambda: page.run("Boolean(window.ui && window.violations)"))
            yield page
    finally:
        browser.terminate()
        browser.wait(DEADLINE)


def _page_socket(port: int, url: str) -> str:
    """Wait until the browser shows the page, and return the address at which it is told what to do."""
    found: list[str] = []

    def is_shown() -> bool:
        try:
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
        except httpx.TransportError:
            return False
        found.extend(one["webSocketDebuggerUrl"] for one in pages if one["url"] == url)
        return bool(found)

    wait_until(is_shown)
    return found[0]


def test_requests_are_tried_out_at_both_ports(page: Page, demo: tuple[Installation, dict[str, str]]) -> None:
    installation, tokens = demo
    manage, proxy = (f"http://localhost:{port}" for port in (installation.manage, installation.proxy))

    listed = page.try_out("listProjects", tokens)
    assert (listed["status"], listed["url"]) == ("200", f"{manage}/manage/projects")
    assert listed["servers"] == [f"{manage} - This server: the management API's port"]

    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
    chatted = page.try_out("proxyOpenAIPost", tokens, "chat/completions", json.dumps(body))
    assert (chatted["status"], chatted["url"]) == ("200", f"{proxy}/v1/chat/completions")
    assert "You said: Hello!" in chatted["shown"]

    standing = page.try_out("showToken", tokens)
    assert (standing["status"], standing["url"]) == ("200", f"{proxy}/token")
    assert page.run("document.querySelector('.scheme-container .servers select').innerText").startswith("{address}")

    page.run("document.querySelector('button.authorize').click()")
    assert page.run("document.querySelectorAll('.dialog-ux form').length") > 0
    assert page.run("window.violations") == []
