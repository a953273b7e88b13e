"""Limits are exact under load, while an operator patches, over several proxies, on each store: the upstream saw as many
requests as were counted."""

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from support.clients.talk import Talk
from support.gateway.gateway import Gateway, Proxy, bearer, on_each_store
from support.upstreams.upstreams import DemoUpstream

pytestmark = on_each_store

CONNECTIONS = 20
REQUESTS = 200
LIMIT = 100


def send_all(proxies: Sequence[Proxy], token: dict[str, Any]) -> Counter[int]:
    """Send REQUESTS requests over CONNECTIONS kept-alive connections, shared among the proxies."""

    def send(number: int) -> list[int]:
        proxy = proxies[number % len(proxies)]
        with httpx.Client(base_url=proxy.url, headers=bearer(token), timeout=30) as client:
            return [client.get("/v1/models").status_code for _ in range(REQUESTS // CONNECTIONS)]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return Counter(status for statuses in pool.map(send, range(CONNECTIONS)) for status in statuses)


def check_exact(gateway: Gateway, upstream: DemoUpstream, token: dict[str, Any], statuses: Counter[int]) -> None:
    assert statuses == {200: LIMIT, 429: REQUESTS - LIMIT}
    assert upstream.count() == LIMIT
    assert gateway.token(token["id"])["request_count"] == LIMIT


def test_a_limit_is_exact_over_many_connections(gateway: Gateway, upstream: DemoUpstream) -> None:
    upstream.clear()
    token = gateway.make_token(max_requests=LIMIT)
    check_exact(gateway, upstream, token, send_all(gateway.proxies[:1], token))


def test_a_limit_is_exact_while_the_token_is_patched(gateway: Gateway, upstream: DemoUpstream) -> None:
    upstream.clear()
    token = gateway.make_token(max_requests=LIMIT)
    done = threading.Event()
    patches = []

    def patch() -> None:
        while not done.is_set():
            change = {"is_active": True, "max_requests": LIMIT}
            patches.append(gateway.manage("PATCH", f"/manage/tokens/{token['id']}", change).status_code)

    operator = threading.Thread(target=patch)
    operator.start()
    try:
        statuses = send_all(gateway.proxies[:1], token)
    finally:
        done.set()
        operator.join()
    check_exact(gateway, upstream, token, statuses)
    assert set(patches) == {200}


def test_a_limit_is_exact_over_several_proxies(gateway: Gateway, upstream: DemoUpstream) -> None:
    upstream.clear()
    token = gateway.make_token(max_requests=LIMIT)
    check_exact(gateway, upstream, token, send_all(gateway.proxies, token))


def test_a_limit_is_exact_over_open_websockets(gateway: Gateway) -> None:
    token = gateway.make_token(max_requests=LIMIT)

    def talk(number: int) -> list[int]:
        with Talk(gateway.proxies[number % len(gateway.proxies)].url) as client:
            return [client.respond(token["token"]) for _ in range(REQUESTS // CONNECTIONS)]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        statuses = Counter(status for statuses in pool.map(talk, range(CONNECTIONS)) for status in statuses)
    assert statuses == {200: LIMIT, 429: REQUESTS - LIMIT}
    assert gateway.token(token["id"])["request_count"] == LIMIT


def test_unlimited_tokens_are_counted_exactly(gateway: Gateway, upstream: DemoUpstream) -> None:
    upstream.clear()
    token = gateway.make_token()
    assert send_all(gateway.proxies, token) == {200: REQUESTS}
    assert upstream.count() == REQUESTS
    assert gateway.token(token["id"])["request_count"] == REQUESTS
