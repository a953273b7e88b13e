"""mitmweb shows conversations and comments to filter by, and keeps no more than its settings allow."""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import DemoUpstream
from websockets.sync.client import connect

from addon.inspector.operator_view import COLUMNS, STYLE
from addon.websocket_frames import MAX_FRAMES

PASSWORD = "web-password"
FLOWS = 10
COPY = 20_000
ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
STREAMED = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
CONVERSATION = """\
chat completion · gpt-4o-mini
{blank}
── assistant, finish: stop ──
This is the demo upstream, no model was asked. You said: Hello!
{blank}
── usage ──
2 in, 12 out
""".format(blank=" ")


class Web:
    """A gateway in mitmweb, with a project of its own, and mitmweb's own API."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.token = gateway.make_token(gateway.make_project("My Search")["id"])
        self.client = httpx.Client(base_url=gateway.url, headers=bearer(self.token))
        self._web = httpx.Client(base_url=gateway.proxies[0].web_url, headers={"Authorization": f"Bearer {PASSWORD}"})

    def get(self, path: str) -> Any:
        return self._web.get(path).raise_for_status().json()

    def page(self) -> str:
        return self._web.get("/").raise_for_status().text

    def flows(self) -> list[dict[str, Any]]:
        flows: list[dict[str, Any]] = self.get("/flows")
        return flows

    @contextlib.contextmanager
    def updates(self) -> Iterator[Iterator[dict[str, Any]]]:
        """Listen to the updates that mitmweb sends to its page about flows that have changed."""
        url = self.gateway.proxies[0].web_url.replace("http:", "ws:")
        headers = {"Authorization": f"Bearer {PASSWORD}"}
        with connect(f"{url}/updates", additional_headers=headers, max_size=None, proxy=None) as websocket:
            updates = (json.loads(websocket.recv(DEADLINE)) for _ in itertools.count())
            yield (update["payload"]["flow"] for update in updates if update["type"] == "flows/update")

    def last(self, condition: Callable[[dict[str, Any]], object] = lambda flow: flow.get("response")) -> dict[str, Any]:
        """Poll the newest flow until it meets `condition`."""
        deadline = time.monotonic() + DEADLINE
        while not condition(flow := self.flows()[-1]):
            assert time.monotonic() < deadline, flow
        return flow

    def shown(self, flow: dict[str, Any], side: str) -> dict[str, str]:
        shown: dict[str, str] = self.get(f"/flows/{flow['id']}/{side}/content/auto")
        return shown

    def comment(self, spent: str, more: str = "") -> str:
        return f'{spent} project="My Search"{more} token={self.token["id"]}'


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, path: str) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("web")
    with Gateway.start(
        folder, upstream.url, way="mitmweb", WEB_FLOWS=str(FLOWS), WEB_BODY_COPY=str(COPY), PLAIN_PATH=path
    ) as gateway:
        web = Web(gateway)
        yield web
        web.client.close()
        web._web.close()  # noqa: SLF001


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "streamed"])
def test_a_response_is_shown_as_a_conversation(web: Web, body: dict[str, Any]) -> None:
    assert web.client.post("/v1/chat/completions", json=body).status_code == 200
    flow = web.last(lambda flow: "usage" in flow["comment"])
    shown = web.shown(flow, "response")
    assert (shown["view_name"], shown["text"]) == ("Conversation", CONVERSATION)
    assert web.shown(flow, "request")["text"].endswith("── user ──\nHello!\n")
    assert flow["comment"] == web.comment("model=gpt-4o-mini usage=in:2,out:12")


def test_comments_name_the_project_and_mark_a_cut_response(web: Web) -> None:
    with web.client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=slowly()) as response:
        lines = response.iter_lines()
        next(line for line in lines if "This" in line)
        flow = web.last()
        assert flow["comment"] == web.comment("model=gpt-4o-mini")
        assert flow["response"]["contentLength"] is None
    flow = web.last(lambda flow: "usage" in flow["comment"])
    assert re.sub(r"out:\d+", "out:N", flow["comment"]) == web.comment(
        "model=gpt-4o-mini usage=~in:9,out:N", " truncated=response"
    )
    shown = web.shown(flow, "response")
    assert shown["text"].startswith("[Broke off after ")
    assert "── assistant ──\nThis" in shown["text"]


def test_an_estimated_usage_is_shown_after_the_response(web: Web) -> None:
    with web.updates() as updates:
        assert web.client.post("/v1/chat/completions", json={**ASKED, "stream": True}).is_success
        shown = [next(updates)]
        while "usage" not in shown[-1]["comment"]:
            shown.append(next(updates))
    assert shown[-1]["comment"] == web.comment("model=gpt-4o-mini usage=~in:9,out:16")
    before = shown[-2]
    assert before["response"]["timestamp_end"] is not None
    assert before["comment"] == web.comment("model=gpt-4o-mini")


def slowly() -> dict[str, str]:
    return {"X-Demo-Words": "10000", "X-Demo-Chunk-Delay": "0.01"}


def test_a_long_response_passes_whole_and_is_kept_in_part(web: Web) -> None:
    answer = web.client.post("/v1/chat/completions", json=STREAMED, headers={"X-Demo-Words": "1000"})
    assert answer.text.endswith("data: [DONE]\n\n")
    flow = web.last(lambda flow: "truncated" in flow["comment"])
    assert flow["response"]["contentLength"] == COPY
    assert web.shown(flow, "response")["text"].startswith("[Only the first 20 KB of ")


def test_a_long_upload_passes_whole_and_is_kept_in_part(web: Web) -> None:
    answer = web.client.post("/v1/embeddings", json={"input": "x" * 1_500_000, "model": "m"})
    assert answer.json()["usage"]["prompt_tokens"] == 1_500_000 // 4  # it was a JSON document, with its end
    flow = web.last(lambda flow: "usage" in flow["comment"])
    assert flow["request"]["contentLength"] == COPY
    assert web.shown(flow, "request")["text"].startswith("[Only the first 20 KB of 1.5 MB were kept: WEB_BODY_COPY]")


def test_websocket_frames_pass_and_the_oldest_are_dropped(web: Web) -> None:
    url = f"ws://127.0.0.1:{web.gateway.port}/v1/realtime?model=gpt-realtime"
    with connect(url, additional_headers=bearer(web.token), proxy=None) as websocket:
        websocket.recv()
        for number in range(MAX_FRAMES):
            websocket.send(f'{{"type": "unknown {number}"}}')
            assert f"'unknown {number}'" in str(websocket.recv())
        flow = web.last()
        assert flow["websocket"]["messages_meta"]["count"] == MAX_FRAMES
        assert flow["comment"] == web.comment("model=gpt-realtime")
    assert web.get(f"/flows/{flow['id']}/messages/content/auto")[-1]["text"]


def test_the_newest_flows_and_open_ones_are_kept(web: Web) -> None:
    with web.client.stream("POST", "/v1/chat/completions", json=STREAMED, headers=slowly()) as response:
        lines = response.iter_lines()
        next(lines)
        under_way = web.last()["id"]
        for _ in range(2 * FLOWS):
            web.client.get("/v1/models").raise_for_status()
        flows = web.flows()
        assert len(flows) == FLOWS
        assert flows[0]["id"] == under_way
        assert flows[0].get("error") is None
        assert next(lines) == ""


def test_a_refused_request_is_shown_with_its_error(web: Web) -> None:
    web.client.post("/v1/embeddings", json={}, headers={"Authorization": "Bearer none"})
    flow = web.last()
    assert flow["comment"] == ""
    assert web.shown(flow, "response")["text"].startswith("── error ──\nThe token is missing")


def test_the_page_has_the_style_of_the_comment(web: Web) -> None:
    assert STYLE.read_text() in web.page()


def test_the_badge_shows_the_proxys_address(web: Web) -> None:
    options = web.get("/options")
    assert (options["listen_host"]["value"], options["listen_port"]["value"]) == ("127.0.0.1", web.gateway.port)


def test_the_columns_show_the_comment(web: Web) -> None:
    assert web.get("/options")["web_columns"]["value"] == COLUMNS


def test_the_columns_of_config_yaml_are_obeyed(tmp_path: Path, upstream: DemoUpstream) -> None:
    gateway = Gateway(tmp_path, upstream.url)
    (gateway.data / "mitmproxy" / "config.yaml").write_text(f"web_columns: [path]\nweb_password: {PASSWORD}\n")
    try:
        web_url = gateway.start_proxy("launcher --web").web_url
        assert f"mitmweb: {web_url}/\n" in gateway.logs()
        headers = {"Authorization": f"Bearer {PASSWORD}"}
        assert httpx.get(f"{web_url}/options", headers=headers).json()["web_columns"]["value"] == ["path"]
        assert "conversation" in httpx.get(f"{web_url}/state", headers=headers).json()["contentViews"]
    finally:
        gateway.stop()
