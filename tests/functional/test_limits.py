"""Limits as clients meet them: the headers of a window, requests at once, and how a token stands (`GET /token`)."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.clients.http2 import Http2Client
from support.clients.talk import Talk
from support.clients.web_client import WebClient
from support.gateway.gateway import PATHS, WAYS, Gateway, Way, bearer, on_each_store
from support.gateway.processes import wait_until
from support.gateway.relay import Relay
from support.upstreams.upstreams import OK, DemoUpstream
from websockets.sync.client import connect

OF_THE_UPSTREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n"
    b"x-ratelimit-reset-requests: 8.64s\r\n"
    b"x-ratelimit-limit-tokens: 200000\r\nx-ratelimit-remaining-tokens: 199000\r\nx-ratelimit-reset-tokens: 6m0s\r\n"
    b"\r\n{}"
)
OF_TOKENS = {
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-tokens": "199000",
    "x-ratelimit-reset-tokens": "6m0s",
}
ABOUT_A_MINUTE = re.compile(r"1m\d(?:\.\d+)?s|5\d(?:\.\d+)?s")
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
A_MINUTE = 60

in_each_way = pytest.mark.parametrize(
    ("way", "path"), [(way, path) for way in WAYS for path in PATHS], indirect=True, scope="session"
)


def per(period: str, requests: int) -> dict[str, object]:
    return {"rate_limits": [{"requests": requests, "per": period}]}


def limit(gateway: Gateway, token: dict[str, Any], **limits: object) -> None:
    gateway.manage("PATCH", f"/manage/tokens/{token['id']}", limits).raise_for_status()


def limit_project(gateway: Gateway, token: dict[str, Any], **limits: object) -> None:
    gateway.manage("PATCH", f"/manage/projects/{token['project_id']}", limits).raise_for_status()


def limited(gateway: Gateway, **limits: object) -> dict[str, Any]:
    """Make a token, in a project of its own, with limits."""
    token = gateway.make_token()
    limit(gateway, token, **limits)
    return token


def ask(gateway: Gateway, token: dict[str, Any], method: str = "GET", path: str = "/v1/models") -> httpx.Response:
    return httpx.request(method, f"{gateway.url}{path}", headers=bearer(token), timeout=30)


def standing(gateway: Gateway, token: dict[str, Any]) -> Any:
    return ask(gateway, token, path="/token").raise_for_status().json()


def told(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("x-ratelimit-")}


def code(response: httpx.Response) -> str:
    found: str = response.json()["code"]
    return found


# How a token stands.


@pytest.fixture(scope="session")
def way(request: pytest.FixtureRequest) -> Way:
    """The launcher, unless a test is for each way."""
    way: Way = getattr(request, "param", "launcher")
    return way


@in_each_way
def test_a_token_is_told_how_it_stands_in_each_way(relay: Relay) -> None:
    relay.expect()
    gateway = relay.gateway
    token = gateway.make_token(name="Ann's laptop", max_requests=1, expires_in_days=0)
    assert ask(gateway, token).status_code == 200
    body: dict[str, object] = {
        "name": "Ann's laptop",
        "expires_at": None,
        "max_requests": 1,
        "request_count": 1,
        "limits": [],
    }
    answer = ask(gateway, token, path="/token")
    assert (answer.status_code, answer.json()) == (200, body)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-llm-proxy-request-id"] == answer.headers["x-request-id"]
    assert ask(gateway, token).status_code == 429
    head = ask(gateway, token, "HEAD", "/token")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(answer.content)))
    refused = ask(gateway, token, "POST", "/token")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert relay.upstream.received().count(b"HTTP/1.1\r\n") == 1
    found = gateway.manage("GET", f"/manage/requests?tokenId={token['id']}").json()["data"]
    assert [row["path"] for row in found if row["code"] is None] == ["/v1/models"]
    assert not [row for row in found if row["path"] == "/token"]
    assert gateway.token(token["id"])["request_count"] == 1


def test_a_token_is_told_its_expiry(gateway: Gateway) -> None:
    token = gateway.make_token(expires_in_days=1)
    found = standing(gateway, token)
    assert found == {
        "name": None,
        "expires_at": token["expires_at"],
        "max_requests": 0,
        "request_count": 0,
        "limits": [],
    }


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key"])
def test_it_may_be_asked_with_every_header_that_takes_a_token(gateway: Gateway, header: str) -> None:
    token = gateway.make_token()
    answer = httpx.get(f"{gateway.url}/token", headers={header: f"sk-{token['token']}"})
    assert (answer.status_code, answer.json()["request_count"]) == (200, 0)


def test_a_token_that_may_make_no_request_gets_the_refusals_of_v1(gateway: Gateway) -> None:
    token = gateway.make_token()
    refused = httpx.get(f"{gateway.url}/token")
    assert (refused.status_code, code(refused)) == (401, "invalid_token")
    assert refused.headers["www-authenticate"] == "Bearer"
    twice = httpx.get(f"{gateway.url}/token", headers=[*bearer(token).items()] * 2)
    assert (twice.status_code, code(twice)) == (400, "invalid_request")
    project, path = f"/manage/projects/{token['project_id']}", f"/manage/tokens/{token['id']}"
    gateway.manage("PATCH", project, {"is_active": False}).raise_for_status()
    assert (ask(gateway, token, path="/token").json()) == ask(gateway, token).json()
    assert code(ask(gateway, token, path="/token")) == "project_inactive"
    gateway.manage("PATCH", path, {"expires_at": "2026-01-01T00:00:00Z"}).raise_for_status()
    assert code(ask(gateway, token, path="/token")) == "token_expired"
    gateway.manage("DELETE", path).raise_for_status()
    assert code(ask(gateway, token, path="/token")) == "token_inactive"
    gateway.manage("DELETE", project).raise_for_status()
    assert code(ask(gateway, token, path="/token")) == "invalid_token"


@on_each_store
def test_a_token_is_told_its_limits_and_those_of_its_project(gateway: Gateway) -> None:
    token = gateway.make_token()
    windows = [{"requests": 5, "per": "second"}, {"requests": 1000, "per": "day"}]
    limit(gateway, token, rate_limits=windows, max_parallel_requests=3)
    limit_project(gateway, token, rate_limits=[{"requests": 60, "per": "minute"}], max_parallel_requests=10)
    assert ask(gateway, token).status_code == 200
    limits = standing(gateway, token)["limits"]
    assert [(found["of"], found["kind"], found["per"], found["limit"]) for found in limits] == [
        ("token", "requests", "day", 1000),
        ("project", "requests", "minute", 60),
        ("token", "requests", "second", 5),
        ("token", "parallel", None, 3),
        ("project", "parallel", None, 10),
    ]
    of_day, of_minute, *_, parallel, _ = limits
    assert (of_day["used"], of_day["reserved"], of_day["remaining"]) == (1, 0, 999)
    assert (of_minute["used"], of_minute["remaining"]) == (1, 59)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00\.000000Z", of_day["resets_at"])
    assert parallel["resets_at"] is None
    wait_until(lambda: standing(gateway, token)["limits"][3]["used"] == 0)


# The headers of a window.


@in_each_way
def test_a_window_is_told_in_each_way(relay: Relay) -> None:
    token = limited(relay.gateway, **per("minute", 2))
    relay.expect(OF_THE_UPSTREAM)
    for remaining in (1, 0):
        answer = ask(relay.gateway, token)
        assert answer.status_code == 200
        assert ABOUT_A_MINUTE.fullmatch(answer.headers["x-ratelimit-reset-requests"])
        assert told(answer) == {
            **OF_TOKENS,
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": answer.headers["x-ratelimit-reset-requests"],
        }
    refused = ask(relay.gateway, token)
    assert (refused.status_code, code(refused)) == (429, "rate_limit_exceeded")
    assert (refused.headers["x-ratelimit-limit-requests"], refused.headers["x-ratelimit-remaining-requests"]) == (
        "2",
        "0",
    )
    assert ABOUT_A_MINUTE.fullmatch(refused.headers["x-ratelimit-reset-requests"])
    assert A_MINUTE - 5 <= int(refused.headers["retry-after"]) <= A_MINUTE + 1
    assert int(refused.headers["retry-after-ms"]) <= 1000 * int(refused.headers["retry-after"])
    assert "x-should-retry" not in refused.headers
    assert relay.upstream.received().count(b"HTTP/1.1\r\n") == 2


def test_the_window_with_the_fewest_left_is_told_the_projects_too(gateway: Gateway) -> None:
    token = limited(gateway, **per("hour", 100))
    limit_project(gateway, token, **per("minute", 5))
    assert told(ask(gateway, token))["x-ratelimit-limit-requests"] == "5"
    limit(gateway, token, **per("hour", 3))
    answer = ask(gateway, token)
    assert told(answer)["x-ratelimit-limit-requests"] == "3"
    assert re.fullmatch(r"1h\d+m\d+(?:\.\d+)?s|59m\d+(?:\.\d+)?s", told(answer)["x-ratelimit-reset-requests"])


def test_without_a_window_the_upstreams_headers_pass(relay: Relay) -> None:
    token = limited(relay.gateway, max_parallel_requests=5)
    relay.expect(OF_THE_UPSTREAM)
    assert told(ask(relay.gateway, token))["x-ratelimit-remaining-requests"] == "9999"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (OF_THE_UPSTREAM.replace(b"200 OK", b"429 Slowly"), 429),
        (OF_THE_UPSTREAM.replace(b"200 OK", b"401 No"), 503),
        (b"nonsense\r\n\r\n", 503),
    ],
    ids=["the upstream's error", "a rejected key", "nonsense"],
)
def test_errors_after_the_admission_tell_the_window(relay: Relay, answer: bytes, status: int) -> None:
    token = limited(relay.gateway, **per("minute", 7))
    relay.expect(answer)
    failed = ask(relay.gateway, token)
    assert (failed.status_code, failed.headers["x-ratelimit-remaining-requests"]) == (status, "6")


def test_streams_and_head_tell_the_window(gateway: Gateway) -> None:
    token = limited(gateway, **per("minute", 7))
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json={**HELLO, "stream": True}, headers=bearer(token)) as stream:
        assert stream.headers["x-ratelimit-remaining-requests"] == "6"
        assert "data: [DONE]" in list(stream.iter_lines())
    assert ask(gateway, token, "HEAD").headers["x-ratelimit-remaining-requests"] == "5"


def test_streams_of_http2_tell_the_window(gateway: Gateway) -> None:
    token = limited(gateway, **per("minute", 1))

    async def main() -> None:
        async with Http2Client.connect(gateway.port) as client:
            first, second = (client.get("/v1/models", token["token"]) for _ in range(2))
            answers = [await client.answer(stream) or {} for stream in (first, second)]
            assert sorted(answer[":status"] for answer in answers) == ["200", "429"]
            assert {answer["x-ratelimit-remaining-requests"] for answer in answers} == {"0"}
            told = client.get("/token", token["token"])
            assert await client.status(told) == 200
            assert json.loads(client.body(told))["limits"][0]["used"] == 1

    asyncio.run(main())


def test_a_websocket_tells_the_window_and_its_responses_are_in_it(gateway: Gateway) -> None:
    token = limited(gateway, **per("minute", 2))
    url = f"{gateway.url.replace('http:', 'ws:')}/v1/realtime?model=gpt-realtime"
    with connect(url, additional_headers=bearer(token), proxy=None) as socket:
        assert socket.response is not None
        assert socket.response.headers["x-ratelimit-remaining-requests"] == "1"
        outcomes = [respond(socket) for _ in range(3)]
    assert [event["type"] for event in outcomes] == ["response.done", "response.done", "error"]
    assert (outcomes[2]["status"], outcomes[2]["error"]["code"]) == (429, "rate_limit_exceeded")


def respond(socket: Any) -> dict[str, Any]:
    """Ask for a response, and return the event that ends it, or refuses it."""
    socket.send(json.dumps({"type": "response.create", "event_id": "mine"}))
    while True:
        event: dict[str, Any] = json.loads(socket.recv(30))
        if event["type"] in {"response.done", "error"}:
            return event


def test_an_sdk_waits_for_the_window_and_goes_on(gateway: Gateway) -> None:
    token = limited(gateway, **per("second", 1))
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token["token"], max_retries=3) as client:
        began = time.monotonic()
        for _ in range(3):
            client.models.list()
        assert 1.9 < time.monotonic() - began < 10
        raw = client.models.with_raw_response.list()
        assert raw.headers["x-ratelimit-limit-requests"] == "1"
    assert gateway.token(token["id"])["request_count"] == 4


# Requests at once.


@contextlib.contextmanager
def under_way(gateway: Gateway, token: dict[str, Any], words: int = 200) -> Iterator[httpx.Response]:
    """Keep a stream under way until the block ends; then hang up."""
    headers = {**bearer(token), "X-Demo-Words": str(words), "X-Demo-Chunk-Delay": "0.05"}
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json={**HELLO, "stream": True}, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        yield response


def used(gateway: Gateway, token: dict[str, Any]) -> int:
    """Return how many slots of the token are taken."""
    (found,) = [found for found in standing(gateway, token)["limits"] if found["kind"] == "parallel"]
    count: int = found["used"]
    return count


@on_each_store
def test_a_stream_holds_a_slot_until_its_client_hangs_up(gateway: Gateway) -> None:
    """Its usage is counted after that, and its slot is free by then."""
    token = limited(gateway, max_parallel_requests=1)
    with under_way(gateway, token):
        assert used(gateway, token) == 1
        refused = ask(gateway, token)
        assert (refused.status_code, code(refused)) == (429, "too_many_parallel_requests")
        assert refused.headers["retry-after"] == "1"
        assert told(refused) == {}
    wait_until(lambda: used(gateway, token) == 0)
    assert ask(gateway, token).status_code == 200


def test_requests_one_after_another_need_one_slot(gateway: Gateway) -> None:
    token = limited(gateway, max_parallel_requests=1)
    with httpx.Client(base_url=gateway.url, headers=bearer(token), timeout=30) as client:
        assert {client.get("/v1/models").status_code for _ in range(50)} == {200}


def test_a_websocket_holds_one_slot_from_its_opening_to_its_end(gateway: Gateway) -> None:
    token = limited(gateway, max_parallel_requests=1)
    with Talk(gateway.url) as talk:
        assert [talk.respond(token["token"]) for _ in range(3)] == [200, 200, 200]
        assert used(gateway, token) == 1
        assert code(ask(gateway, token)) == "too_many_parallel_requests"
        with Talk(gateway.url) as other:
            assert other.respond(token["token"]) == 429
    wait_until(lambda: used(gateway, token) == 0)
    assert ask(gateway, token).status_code == 200


def test_a_replay_holds_a_slot(tmp_path: Path, upstream: DemoUpstream) -> None:
    with Gateway.start(tmp_path, upstream.url, way="mitmweb") as gateway:
        token = limited(gateway, max_parallel_requests=1, **per("minute", 10))
        assert ask(gateway, token).status_code == 200
        wait_until(lambda: used(gateway, token) == 0)
        with WebClient(gateway.proxies[0].web_url) as web:
            flow = web.flow("/v1/models", lambda flow: flow.get("response"))
            with under_way(gateway, token):
                web.post(f"/flows/{flow['id']}/replay").raise_for_status()
                again = web.flow("/v1/models", lambda flow: flow.get("is_replay") and flow.get("response"))
                assert again["response"]["status_code"] == 429
            wait_until(lambda: used(gateway, token) == 0)
            web.post(f"/flows/{flow['id']}/replay").raise_for_status()
            again = web.flow("/v1/models", lambda flow: flow.get("response", {}).get("status_code") == 200)
            headers = {name.lower(): value for name, value in again["response"]["headers"]}
            assert headers["x-ratelimit-remaining-requests"] == "7"


def test_a_request_without_an_answer_gives_its_slot_back(relay: Relay) -> None:
    token = limited(relay.gateway, max_parallel_requests=1)
    relay.expect(lambda conversation: conversation.sock.close())
    assert ask(relay.gateway, token).status_code == 503
    relay.expect(OK)
    assert ask(relay.gateway, token).status_code == 200
