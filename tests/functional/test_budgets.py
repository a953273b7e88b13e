"""Budgets and windows of tokens as clients meet them, before an upstream that tells the usage which a test wants."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from support.gateway.gateway import Gateway, bearer, on_each_store
from support.gateway.processes import wait_until
from support.gateway.relay import Relay
from support.upstreams.upstreams import Conversation, json_response
from websockets.sync.client import connect

MINI = "gpt-4o-mini"
CHAT = "/v1/chat/completions"
INPUT, OUTPUT = Decimal("0.00000015"), Decimal("0.0000006")
"""US dollars for a token of gpt-4o-mini."""


def used(tokens_in: int, tokens_out: int) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    message = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    return {"object": "chat.completion", "model": MINI, "choices": [message], "usage": usage}


def answer(body: object, status: str = "200 OK") -> Callable[[Conversation], None]:
    """Answer each request, once it has come whole."""

    def answer_each(conversation: Conversation) -> None:
        while True:
            conversation.read_message()
            conversation.send(json_response(body, status=status))

    return answer_each


def dollars(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def chat(gateway: Gateway, token: dict[str, Any], **fields: object) -> httpx.Response:
    body = {"model": MINI, "messages": [{"role": "user", "content": "Hello!"}], **fields}
    return httpx.post(f"{gateway.url}{CHAT}", headers=bearer(token), json=body, timeout=30)


def answered(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code") if response.is_error else None


def limits(gateway: Gateway, token: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what is used and reserved of each limit of a token, by its kind."""
    return {each["kind"]: (each["used"], each["reserved"]) for each in gateway.token(token["id"])["limits"]}


def settled(gateway: Gateway, token: dict[str, Any]) -> dict[str, Any]:
    """Return what is used of each limit, once nothing is reserved any more."""
    wait_until(lambda: all(reserved in {0, "0"} for _, reserved in limits(gateway, token).values()))
    return {kind: used for kind, (used, _) in limits(gateway, token).items()}


def rows(gateway: Gateway, token: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.manage("GET", f"/manage/requests?tokenId={token['id']}").json()["data"]
    return found


def test_a_request_reserves_the_most_and_counts_what_it_cost(relay: Relay) -> None:
    seen = []

    def look(conversation: Conversation) -> None:
        conversation.read_message()
        seen.append(limits(relay.gateway, token))
        conversation.send(json_response(used(20, 30)))

    relay.expect(look)
    token = relay.gateway.make_token(
        budgets=[{"usd": "1", "per": "day"}], rate_limits=[{"tokens": 1000, "per": "minute"}]
    )
    response = chat(relay.gateway, token, max_tokens=100)
    assert response.status_code == 200
    cost = 20 * INPUT + 30 * OUTPUT
    assert settled(relay.gateway, token) == {"usd": dollars(cost), "tokens": 50}
    (reserved,) = seen
    assert reserved["usd"][0] == "0"
    assert 100 * OUTPUT < Decimal(reserved["usd"][1]) < 100 * OUTPUT + 40 * INPUT
    assert 102 <= reserved["tokens"][1] <= 140
    assert response.headers["x-ratelimit-limit-tokens"] == "1000"
    assert int(response.headers["x-ratelimit-remaining-tokens"]) == 1000 - reserved["tokens"][1]
    (row,) = rows(relay.gateway, token)
    assert row["budget_usd"] == row["cost_usd"] == dollars(cost)
    told = httpx.get(f"{relay.gateway.url}/token", headers=bearer(token)).json()["limits"]
    assert [(each["kind"], each["used"]) for each in told] == [("usd", dollars(cost)), ("tokens", 50)]


def test_a_spent_budget_stops_and_tells_when_it_begins_again(relay: Relay) -> None:
    relay.expect(answer(used(1000, 1000)))
    token = relay.gateway.make_token(budgets=[{"usd": "0.001", "per": "day"}, {"usd": "5", "per": "total"}])
    assert answered(chat(relay.gateway, token, max_tokens=1000)) == (200, None)
    assert settled(relay.gateway, token)["usd"] == "0.00075"
    refused = chat(relay.gateway, token, max_tokens=1000)
    assert answered(refused) == (429, "insufficient_quota")
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert "The token may spend $0.001 a day: $0.00075 are spent" in refused.json()["message"]
    assert answered(chat(relay.gateway, token, max_tokens=300)) == (200, None)
    with openai.OpenAI(base_url=f"{relay.gateway.url}/v1", api_key=token["token"]) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(model=MINI, messages=[{"role": "user", "content": "Hi"}], max_tokens=1000)
        assert raised.value.code == "insufficient_quota"


def test_one_after_the_other_gets_all_of_a_budget(relay: Relay) -> None:
    """A client that asks again at once is not refused for what its ended requests have reserved."""
    relay.expect(answer(used(10, 10)))
    cost, reserved = 10 * INPUT + 10 * OUTPUT, 100 * OUTPUT
    token = relay.gateway.make_token(
        budgets=[{"usd": dollars(9 * cost + 2 * reserved), "per": "total"}],
        rate_limits=[{"tokens": 400, "per": "minute"}],
    )
    with httpx.Client(base_url=relay.gateway.url, headers=bearer(token), timeout=30) as client:
        body = {"model": MINI, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 100}
        assert [client.post(CHAT, json=body).status_code for _ in range(10)] == [200] * 10


def test_of_fifty_at_once_ten_are_admitted_by_a_budget_for_ten(relay: Relay) -> None:
    may_end = threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.read_message()
        assert may_end.wait(60)
        conversation.send(json_response(used(10, 10)))

    relay.expect(wait)
    token = relay.gateway.make_token(budgets=[{"usd": "0.0061", "per": "total"}])  # ten times 1,000 tokens of output
    refused: list[int] = []

    def ask(_: int) -> tuple[int, str | None]:
        found = answered(chat(relay.gateway, token, max_tokens=1000))
        if found[0] != 200:
            refused.append(found[0])
            if len(refused) == 40:
                may_end.set()
        return found

    with ThreadPoolExecutor(50) as pool:
        outcomes = Counter(pool.map(ask, range(50)))
    assert outcomes == {(200, None): 10, (429, "rate_limit_exceeded"): 40}
    assert settled(relay.gateway, token)["usd"] == dollars(10 * (10 * INPUT + 10 * OUTPUT))


@on_each_store
def test_a_budget_is_never_exceeded_through_several_proxies(gateway: Gateway) -> None:
    token = gateway.make_token(budgets=[{"usd": "0.0001", "per": "total"}])

    def ask(number: int) -> tuple[int, str | None]:
        proxy = gateway.proxies[number % len(gateway.proxies)]
        body = {"model": MINI, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 20}
        return answered(httpx.post(f"{proxy.url}{CHAT}", headers=bearer(token), json=body, timeout=60))

    with ThreadPoolExecutor(16) as pool:
        outcomes = Counter(pool.map(ask, range(60)))
    assert set(outcomes) <= {(200, None), (429, "rate_limit_exceeded"), (429, "insufficient_quota")}
    while settled(gateway, token) and ask(0) == (200, None):  # until nothing fits any more
        pass
    spent = Decimal(settled(gateway, token)["usd"])
    assert spent == sum(Decimal(row["budget_usd"]) for row in rows(gateway, token) if row["budget_usd"])
    assert Decimal("0.00008") < spent <= Decimal("0.0001")  # a request reserves up to $0.000015


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "500 Fault"])
def test_what_fails_without_a_usage_costs_nothing(relay: Relay, status: str) -> None:
    relay.expect(answer({"error": {"message": "no", "code": "no"}}, status))
    token = relay.gateway.make_token(
        budgets=[{"usd": "1", "per": "month"}], rate_limits=[{"tokens": 10_000, "per": "hour"}]
    )
    assert chat(relay.gateway, token).is_error
    assert settled(relay.gateway, token) == {"usd": "0", "tokens": 0}
    (row,) = rows(relay.gateway, token)
    assert (row["cost_usd"], row["budget_usd"]) == (None, "0")


def test_what_succeeds_without_a_usage_counts_what_it_reserved(relay: Relay) -> None:
    relay.expect(answer({"object": "list", "data": [], "model": "text-embedding-3-small"}))
    token = relay.gateway.make_token(budgets=[{"usd": "1", "per": "week"}])
    body = {"model": "text-embedding-3-small", "input": "one two three four"}
    assert httpx.post(f"{relay.gateway.url}/v1/embeddings", headers=bearer(token), json=body).status_code == 200
    spent = settled(relay.gateway, token)["usd"]
    assert 4 * Decimal("0.00000002") <= Decimal(spent) <= 20 * Decimal("0.00000002")
    (row,) = rows(relay.gateway, token)
    assert (row["cost_usd"], row["budget_usd"], row["usage_source"]) == (None, spent, "unknown")


def test_what_has_no_price_or_no_bound_is_refused_with_what_to_do(relay: Relay) -> None:
    relay.expect(answer(used(10, 10)))
    token = relay.gateway.make_token(budgets=[{"usd": "1", "per": "day"}])
    unpriced = chat(relay.gateway, token, model="a-model-of-our-own")
    assert answered(unpriced) == (403, "model_not_priced")
    assert "PUT /manage/prices" in unpriced.json()["message"]
    price = {"model": "a-model-of-our-own", "rates": {"input": "1", "output": "2"}}
    relay.gateway.manage("PUT", "/manage/prices", price).raise_for_status()
    assert answered(chat(relay.gateway, token, model="a-model-of-our-own")) == (200, None)
    twice = httpx.post(
        f"{relay.gateway.url}{CHAT}",
        headers={**bearer(token), "Content-Type": "application/json"},
        content=b'{"model": "gpt-4o-mini", "model": "gpt-4o"}',
    )
    assert answered(twice) == (403, "model_not_priced")
    for target, body in (
        ("/v1/batches", {}),
        ("/v1/responses", {"model": MINI, "input": "a", "background": True}),
        ("/v1/responses", {"model": MINI, "input": "a", "tools": [{"type": "web_search"}]}),
    ):
        refused = httpx.post(f"{relay.gateway.url}{target}", headers=bearer(token), json=body)
        assert answered(refused) == (403, "cost_not_bounded")
        assert "'allowed_endpoints'" in refused.json()["message"]
    opened = {"allowed_endpoints": ["POST /v1/chat*", "POST /v1/batches", "* /v1/responses*"]}
    relay.gateway.manage("PATCH", f"/manage/tokens/{token['id']}", opened).raise_for_status()
    for target, body in (("/v1/batches", {}), ("/v1/responses", {"model": MINI, "input": "a", "background": True})):
        assert httpx.post(f"{relay.gateway.url}{target}", headers=bearer(token), json=body).status_code == 200


def test_a_request_larger_than_its_window_is_not_to_be_retried(relay: Relay) -> None:
    relay.expect(answer(used(10, 10)))
    token = relay.gateway.make_token(rate_limits=[{"tokens": 500, "per": "minute"}])
    refused = chat(relay.gateway, token, max_tokens=1000)
    assert answered(refused) == (429, "rate_limit_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    assert "max_tokens" in refused.json()["message"]
    assert answered(chat(relay.gateway, token)) == (200, None)  # it reserves what is left


def test_a_full_window_of_tokens_tells_when_there_is_room(relay: Relay) -> None:
    relay.expect(answer(used(100, 300)))
    token = relay.gateway.make_token(rate_limits=[{"tokens": 500, "per": "minute"}])
    assert answered(chat(relay.gateway, token, max_tokens=300)) == (200, None)
    assert settled(relay.gateway, token) == {"tokens": 400}
    refused = chat(relay.gateway, token, max_tokens=300)
    assert answered(refused) == (429, "rate_limit_exceeded")
    assert 50_000 < int(refused.headers["retry-after-ms"]) <= 61_000
    assert refused.headers["x-ratelimit-remaining-tokens"] == "100"


def test_a_budget_set_in_mid_period_begins_with_what_was_spent(relay: Relay) -> None:
    relay.expect(answer(used(1000, 1000)))
    token = relay.gateway.make_token()
    assert answered(chat(relay.gateway, token)) == (200, None)
    wait_until(lambda: rows(relay.gateway, token)[0]["cost_usd"] is not None)
    budgets = {"budgets": [{"usd": "0.001", "per": per} for per in ("day", "week", "month", "total")]}
    for folder, owner in (("tokens", token["id"]), ("projects", token["project_id"])):
        shown = relay.gateway.manage("PATCH", f"/manage/{folder}/{owner}", budgets).raise_for_status().json()["limits"]
        assert [(each["per"], each["used"]) for each in shown] == [
            (per, "0.00075") for per in ("total", "month", "week", "day")
        ]
    assert answered(chat(relay.gateway, token, max_tokens=1000)) == (429, "insufficient_quota")


def test_a_request_that_runs_when_a_budget_is_set_counts_in_it(relay: Relay) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(conversation: Conversation) -> None:
        conversation.read_message()
        has_begun.set()
        assert may_end.wait(30)
        conversation.send(json_response(used(1000, 1000)))

    relay.expect(wait)
    token = relay.gateway.make_token()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(chat, relay.gateway, token)
        assert has_begun.wait(30)
        body = {"budgets": [{"usd": "1", "per": "day"}], "rate_limits": [{"tokens": 10_000, "per": "minute"}]}
        relay.gateway.manage("PATCH", f"/manage/tokens/{token['id']}", body).raise_for_status()
        assert limits(relay.gateway, token) == {"usd": ("0", "0"), "tokens": (0, 0)}
        may_end.set()
        assert running.result().status_code == 200
    wait_until(lambda: limits(relay.gateway, token)["usd"][0] == "0.00075")
    assert settled(relay.gateway, token) == {"usd": "0.00075", "tokens": 2000}


def test_a_stream_that_outgrows_its_reservation_takes_what_is_left_and_is_cut(relay: Relay) -> None:
    chunk = {"object": "chat.completion.chunk", "model": MINI, "choices": [{"index": 0, "delta": {"content": ""}}]}
    chunk["choices"][0]["delta"]["content"] = "Some words of the answer. " * 20  # type: ignore[index]
    is_full, sent = threading.Event(), []

    def stream(conversation: Conversation) -> None:
        conversation.read_message()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        while True:
            conversation.send(b"data: %b\n\n" % json.dumps(chunk).encode())
            sent.append(120)
            if limits(relay.gateway, token)["tokens"] == (0, 6000) and not is_full.is_set():
                refused.append(answered(chat(relay.gateway, token, max_tokens=1)))
                is_full.set()

    refused: list[object] = []
    relay.expect(stream)
    token = relay.gateway.make_token(rate_limits=[{"tokens": 6000, "per": "day"}])
    response = chat(relay.gateway, token, stream=True)
    assert is_full.is_set()
    assert refused == [(429, "rate_limit_exceeded")]
    error = json.loads(response.text.split("\n\n")[-2].removeprefix("data: "))["error"]
    assert (response.status_code, error["code"]) == (200, "insufficient_quota")
    counted = settled(relay.gateway, token)["tokens"]
    assert 0.5 * 6000 < counted <= 6000 + 120  # what is shown counts by an upper bound, and there is one event more
    assert [row["code"] for row in rows(relay.gateway, token)] == ["rate_limit_exceeded", "insufficient_quota"]


def test_each_response_over_a_websocket_reserves(gateway: Gateway) -> None:
    token = gateway.make_token(budgets=[{"usd": "5", "per": "day"}])

    def respond() -> dict[str, Any]:
        socket.send(json.dumps({"type": "response.create", "response": {"max_output_tokens": 100}}))
        while True:
            event: dict[str, Any] = json.loads(socket.recv(30))
            if event["type"] in {"response.done", "error"}:
                return event

    url = f"{gateway.url.replace('http:', 'ws:')}/v1/realtime?model=gpt-realtime"
    with connect(url, additional_headers=bearer(token), proxy=None) as socket:
        assert limits(gateway, token)["usd"] == ("0", "0")
        assert respond()["type"] == "response.done"
        first = Decimal(limits(gateway, token)["usd"][1])
        assert first > 0
        assert respond()["type"] == "response.done"
        assert len(rows(gateway, token)) == 2
        gateway.manage(
            "PATCH", f"/manage/tokens/{token['id']}", {"budgets": [{"usd": "0.01", "per": "day"}]}
        ).raise_for_status()
        refused = respond()
        assert (refused["status"], refused["error"]["code"]) == (429, "insufficient_quota")
    spent = settled(gateway, token)["usd"]
    assert Decimal(spent) == sum(Decimal(row["budget_usd"]) for row in rows(gateway, token) if row["budget_usd"])
