"""Pages in Chromium that use the gateway as OpenAI's SDK does, from an origin that is listed and from another one."""

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.clients.chromium import CHROMIUM, QUIET
from support.gateway.gateway import PATHS, Gateway
from support.gateway.processes import DEADLINE, free_port
from support.stores.stores import UNKNOWN_TOKEN
from support.upstreams.upstreams import DemoUpstream

pytestmark = [
    pytest.mark.soak("addon/cross_origin.py", "addon/layers", "addon/plain", "addon/responses.py"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.parametrize("path", PATHS),
]

SENTENCE = "This is the demo upstream, no model was asked. You said: Hello!"

PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
const given = new URLSearchParams(location.search), gateway = given.get("gateway"), told = {}
const names = ["x-request-id", "x-llm-proxy-request-id", "x-llm-proxy-remote-duration-ms"]
const sdk = { "Content-Type": "application/json", "X-Stainless-Lang": "js", "X-Stainless-Retry-Count": "0" }
const ask = (path, token, body) => fetch(gateway + path, {
  method: body ? "POST" : "GET",
  body: body && JSON.stringify(body),
  headers: { ...sdk, Authorization: `Bearer ${token}` },
})
const chat = (more) => ({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Hello!" }], ...more })
const steps = {
  async chat(token) {
    const response = await ask("/v1/chat/completions", token, chat())
    const headers = names.map((name) => response.headers.get(name))
    return [(await response.json()).choices[0].message.content, headers]
  },
  async stream(token) {
    const response = await ask("/v1/chat/completions", token, chat({ stream: true }))
    let text = "", pieces = 0
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) { text += piece; pieces += 1 }
    const data = text.split("\\n\\n").filter((event) => event.startsWith("data: {")).map((event) => event.slice(6))
    const events = data.map((one) => JSON.parse(one))
    return [events.map((event) => event.choices[0]?.delta.content ?? "").join(""), pieces > 3]
  },
  async models(token) { return (await (await ask("/v1/models", token)).json()).data.length > 0 },
  async unknown() {
    const response = await ask("/v1/models", given.get("unknown"))
    return [response.status, (await response.json()).code]
  },
  async nowhere(token) { return (await ask("/nowhere", token)).status },
  async health() { return (await (await fetch(gateway + "/health")).json()).status },
}
for (const [name, step] of Object.entries(steps))
  told[name] = await step(given.get("token")).catch((error) => error.name)
await fetch("/told", { method: "POST", body: JSON.stringify(told) })
</script>"""


class Site:
    """An origin on this machine that serves the page, and gets back what that was told."""

    def __init__(self, port: int) -> None:
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self.origin = f"http://127.0.0.1:{port}"
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, PAGE.encode())

            def do_POST(self) -> None:
                told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(200, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def visit(self, profile: Path, gateway: Gateway, token: str) -> dict[str, Any]:
        """Open the page, and return what it was told. The browser reaches this machine only."""
        assert CHROMIUM is not None
        url = f"{self.origin}/?{urlencode({'gateway': gateway.url, 'token': token, 'unknown': UNKNOWN_TOKEN})}"
        command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", url]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return self.told.get(timeout=3 * DEADLINE)
        finally:
            browser.terminate()
            browser.wait(DEADLINE)


@contextlib.contextmanager
def gateway_for(folder: Path, path: str, origins: str) -> Iterator[Gateway]:
    with (
        DemoUpstream.start(folder, chunk_delay=0.02) as upstream,
        Gateway.start(folder, upstream.url, PLAIN_PATH=path, CORS_ORIGINS=origins) as gateway,
    ):
        yield gateway


@pytest.fixture
def listed() -> Iterator[Site]:
    site = Site(free_port())
    yield site
    site.stop()


@pytest.fixture
def other() -> Iterator[Site]:
    site = Site(free_port())
    yield site
    site.stop()


def test_a_page_of_a_listed_origin_uses_the_gateway_and_no_other_page_does(
    tmp_path: Path, path: str, listed: Site, other: Site
) -> None:
    origins = f"https://app.example, {listed.origin}"
    with gateway_for(tmp_path, path, origins) as gateway:
        token = gateway.make_token()
        told = listed.visit(tmp_path / "profile", gateway, token["token"])
        text, headers = told.pop("chat")
        assert (text, [bool(value) for value in headers]) == (SENTENCE, [True] * 3)
        assert told == {
            "stream": [SENTENCE, True],
            "models": True,
            "unknown": [401, "invalid_token"],
            "nowhere": 404,
            "health": "ok",
        }
        assert gateway.token(token["id"])["request_count"] == 3
        refused = other.visit(tmp_path / "other profile", gateway, token["token"])
        assert refused == dict.fromkeys(["chat", "stream", "models", "unknown", "nowhere", "health"], "TypeError")
        assert gateway.token(token["id"])["request_count"] == 3


def test_with_an_asterisk_every_page_uses_the_gateway(tmp_path: Path, path: str, other: Site) -> None:
    with gateway_for(tmp_path, path, "*") as gateway:
        told = other.visit(tmp_path / "profile", gateway, gateway.make_token()["token"])
    assert (told["stream"], told["unknown"], told["health"]) == ([SENTENCE, True], [401, "invalid_token"], "ok")
