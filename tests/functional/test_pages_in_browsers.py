"""Pages in browsers, as their browsers ask: on the plain path and through the layers.

soak/test_pages_in_browsers.py has a real browser.
"""

from collections.abc import Iterator

import httpx
import pytest
from support.gateway.gateway import PATHS, Gateway, bearer
from support.stores.stores import UNKNOWN_TOKEN
from support.upstreams.upstreams import DemoUpstream

PAGE = "https://app.example"
OTHER = "https://evil.example"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}

pytestmark = pytest.mark.parametrize("path", PATHS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def open_to_pages(tmp_path_factory: pytest.TempPathFactory, upstream: DemoUpstream, path: str) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("pages")
    origins = f"http://localhost:3000, {PAGE}"
    with Gateway.start(folder, upstream.url, PLAIN_PATH=path, CORS_ORIGINS=origins, MAX_BODY="1000") as gateway:
        yield gateway


def may_read(response: httpx.Response, origin: str = PAGE) -> bool:
    """Tell whether a browser lets a page read a response, as the Fetch Standard has it."""
    told = response.headers.get_list("access-control-allow-origin")
    assert "origin" in response.headers["vary"].lower()
    return told == [origin] and response.headers.get_list("access-control-expose-headers") == ["*"]


def test_a_page_asks_first_and_then_chats_and_streams(open_to_pages: Gateway, upstream: DemoUpstream) -> None:
    token = open_to_pages.make_token()
    upstream.clear()
    with httpx.Client(base_url=open_to_pages.url, headers={"Origin": PAGE}) as client:  # one connection
        allowed = client.options("/v1/chat/completions", headers=ASKS)
        assert (allowed.status_code, allowed.content, may_read(allowed)) == (204, b"", True)
        assert allowed.headers["access-control-allow-headers"] == ASKS["Access-Control-Request-Headers"]
        assert "POST" in allowed.headers["access-control-allow-methods"].split(", ")
        for stream in (False, True):
            chatted = client.post("/v1/chat/completions", json={**CHAT, "stream": stream}, headers=bearer(token))
            assert (chatted.status_code, may_read(chatted)) == (200, True)
            assert "You" in chatted.text
    assert upstream.count() == open_to_pages.token(token["id"])["request_count"] == 2


def test_a_page_reads_the_errors_of_the_gateway(open_to_pages: Gateway) -> None:
    token = open_to_pages.make_token(max_requests=1)
    used = bearer(token)
    with httpx.Client(base_url=open_to_pages.url, headers={"Origin": PAGE}) as client:
        answers = [
            client.get("/v1/models", headers=used),
            client.get("/v1/models", headers=used),
            client.get("/v1/models", headers=bearer({"token": UNKNOWN_TOKEN})),
            client.get("/nowhere", headers=used),
            client.post("/v1/files", content=bytes(1001), headers=used),
            client.get("/token", headers=used),
            client.get("/ready"),
        ]
    assert [answer.status_code for answer in answers] == [200, 429, 401, 404, 413, 200, 200]
    assert all(map(may_read, answers))


def test_a_page_of_another_origin_reads_nothing(open_to_pages: Gateway) -> None:
    token = open_to_pages.make_token()
    with httpx.Client(base_url=open_to_pages.url, headers={"Origin": OTHER}) as client:
        answers = [
            client.options("/v1/chat/completions", headers=ASKS),
            client.get("/v1/models", headers=bearer(token)),
            client.get("/health"),
            client.get("/nowhere"),
        ]
    assert [answer.status_code for answer in answers] == [204, 200, 200, 404]
    for answer in answers:
        assert not may_read(answer, OTHER)
        assert [name for name in answer.headers if name.startswith("access-control-")] == []


def test_the_documentation_tries_out_requests_to_the_proxy(gateway: Gateway) -> None:
    token = gateway.make_token()
    origin = f"http://localhost:{gateway.manage_port}"
    with httpx.Client(base_url=gateway.url, headers={"Origin": origin}) as client:
        asked = client.options("/v1/chat/completions", headers=ASKS)
        chatted = client.post("/v1/chat/completions", json=CHAT, headers=bearer(token))
        standing = client.get("/token", headers=bearer(token))
        assert [asked.status_code, chatted.status_code, standing.status_code] == [204, 200, 200]
        assert all(may_read(answer, origin) for answer in (asked, chatted, standing))


def test_without_the_setting_a_preflight_is_refused(gateway: Gateway) -> None:
    answer = httpx.options(f"{gateway.url}/v1/chat/completions", headers={"Origin": PAGE, **ASKS})
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers
