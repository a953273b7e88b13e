"""The five promises, in each way to start the proxy, on the plain path and through the layers.

All else is tested with the launcher, on the plain path; a soak run has every way, and both paths.
"""

import gzip
import json
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support.gateway.gateway import PATHS, WAYS, Way, bearer
from support.gateway.processes import wait_until
from support.gateway.relay import Relay
from support.upstreams.upstreams import KEY, OK, Conversation, json_response

LIMIT = 5
REQUESTS = 12


pytestmark = pytest.mark.parametrize("path", PATHS, indirect=True, scope="session")


@pytest.fixture(scope="session", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to start the proxy."""
    way: Way = request.param
    return way


def test_the_key_is_sent_upstream_and_appears_nowhere_else(relay: Relay) -> None:
    sent = relay.send("POST", "/v1/chat/completions", content=b"{}")
    assert f"\r\nauthorization: Bearer {KEY}\r\n".encode() in sent.received
    assert relay.token["token"].encode() not in sent.received
    kept = b"".join(file.read_bytes() for file in relay.gateway.folder.rglob("*") if file.is_file())
    assert [secret for secret in (KEY, relay.token["token"]) if secret.encode() in kept] == []
    assert KEY not in f"{sent.response.headers}" + sent.body.decode()


def test_a_limit_is_exact_and_a_revoked_token_is_refused_at_once(relay: Relay) -> None:
    relay.expect()
    token = relay.gateway.make_token(max_requests=LIMIT)
    with ThreadPoolExecutor(REQUESTS) as pool:
        statuses = Counter(pool.map(lambda _: ask(relay, token).status_code, range(REQUESTS)))
    assert statuses == {200: LIMIT, 429: REQUESTS - LIMIT}
    assert relay.gateway.token(token["id"])["request_count"] == LIMIT
    assert relay.upstream.received().count(b"GET ") == LIMIT
    revoked = relay.gateway.make_token()
    assert ask(relay, revoked).status_code == 200
    relay.gateway.manage("DELETE", f"/manage/tokens/{revoked['id']}").raise_for_status()
    assert ask(relay, revoked).status_code == 401


def test_an_unknown_endpoint_passes_byte_for_byte_both_ways(relay: Relay) -> None:
    body = gzip.compress(b"not JSON, and not for the gateway")
    answer = (
        b"HTTP/1.1 418 Own words\r\nX-Own: \xe4 b  c\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    headers = {"X-Mine": "a,  b", "Content-Encoding": "gzip"}

    def respond(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read_body(len(body))
        conversation.send(answer + body)

    sent = relay.send("PUT", "/v1/un%2Fknown?a=%20b&a", headers=headers, content=body, answer=respond)
    head, _, received = sent.received.partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /v1/un%2Fknown?a=%20b&a HTTP/1.1\r\n")
    assert b"\r\nX-Mine: a,  b" in head
    assert (sent.response.status_code, sent.response.reason_phrase, sent.body) == (418, "Own words", body)
    assert received == body


def test_a_key_that_cannot_be_read_refuses_its_requests(relay: Relay) -> None:
    relay.expect()
    token = relay.gateway.make_token()
    with sqlite3.connect(relay.gateway.data / "llm-proxy.db") as store:
        store.execute("UPDATE project SET sealed_api_key = zeroblob(60) WHERE id = ?", (token["project_id"],))
    store.close()
    refused = ask(relay, token)
    assert (refused.status_code, refused.json()["code"]) == (500, "internal_error")
    assert relay.upstream.conversations == []


def test_each_request_has_its_row_in_the_ledger(relay: Relay) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    relay.expect(json_response({"model": "gpt-4o-mini", "choices": [], "usage": usage}))
    ids = {"observed": relay.gateway.make_token(), "unknown": relay.gateway.make_token()}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
    url = f"{relay.gateway.url}/v1/chat/completions"
    with_usage = httpx.post(url, json=body, headers=bearer(ids["observed"])).raise_for_status()
    relay.expect(OK)
    without = httpx.post(url, json=body, headers=bearer(ids["unknown"])).raise_for_status()
    row, other = (settled(relay, answer) for answer in (with_usage, without))
    assert (row["token_id"], row["input_tokens"], row["output_tokens"]) == (ids["observed"]["id"], 3, 4)
    assert (row["usage_source"], row["status"]) == ("observed", 200)
    assert other["usage_source"] in {"estimated", "unknown"}


def ask(relay: Relay, token: dict[str, Any]) -> httpx.Response:
    return httpx.get(f"{relay.gateway.url}/v1/models", headers=bearer(token), timeout=30)


def settled(relay: Relay, answer: httpx.Response) -> dict[str, Any]:
    """Return the row of a request, once it is settled."""
    path = f"/manage/requests/{answer.headers['x-llm-proxy-request-id']}"
    wait_until(lambda: json.loads(relay.gateway.manage("GET", path).content).get("usage_source") is not None)
    row: dict[str, Any] = relay.gateway.manage("GET", path).json()
    return row
