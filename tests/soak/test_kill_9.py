"""`kill -9` in the middle of 1,000 requests, of the proxy, of the management process under PATCHes, of both; again and
again on the same store.

Every request that the upstream saw is counted. Those counted and never sent are at most those in flight at the kill.
`./run.sh soak -s tests/soak/test_kill_9.py` prints the table.
"""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.gateway.processes import Process
from support.upstreams.upstreams import DemoUpstream

pytestmark = pytest.mark.soak("store/admission", "store/database", "store/ledger")

ROUNDS = 20
CLIENTS = 20
REQUESTS = 1000
LIMITED, UNLIMITED = 150, 0
"""The limits of the tokens: one that is reached in the middle of a round, and none."""

type Target = Literal["proxy", "management", "both"]


class Load:
    """Clients that together send REQUESTS requests, each client with one token, until the proxy is gone."""

    def __init__(self, url: str, tokens: Sequence[dict[str, Any]]) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.reached = threading.Event()
        self._killed = threading.Event()
        self._lock = threading.Lock()
        self._threshold = random.randrange(REQUESTS // 20, REQUESTS * 19 // 20)  # noqa: S311 - no secret
        self._threads = [
            threading.Thread(target=self._use, args=(url, token))
            for token, _ in zip(itertools.cycle(tokens), range(CLIENTS), strict=False)
        ]
        for thread in self._threads:
            thread.start()

    def kill(self, victims: Sequence[Process]) -> None:
        """End `victims` at once when the load is under way, and wait until the clients have noticed."""
        assert self.reached.wait(60)
        for victim in victims:
            victim.kill()
        self._killed.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _use(self, url: str, token: dict[str, Any]) -> None:
        token_id = token["id"]
        with httpx.Client(base_url=url, headers=bearer(token), timeout=30) as client:
            for _ in range(REQUESTS // CLIENTS):
                if self._killed.is_set():
                    return
                with self._lock:
                    self.in_flight[token_id] += 1
                try:
                    # A bare UUIDv4 has a token's form, and is taken out of a query.
                    status = client.get("/v1/models", params={"of": f"token-{token_id}"}).status_code
                except httpx.TransportError:
                    return  # stays in flight
                with self._lock:
                    self.in_flight[token_id] -= 1
                    self.answers[token_id, status] += 1
                    if self.answers.total() == self._threshold:
                        self.reached.set()


class Operator:
    """PATCHes tokens without a pause, each with a higher limit, until the management process is gone."""

    def __init__(self, gateway: Gateway, tokens: Sequence[dict[str, Any]]) -> None:
        self.sent: dict[str, int] = {}
        self.answered: dict[str, int] = {}
        self._gateway = gateway
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._patch, args=(token["id"],)) for token in tokens]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _patch(self, token_id: str) -> None:
        for limit in itertools.count(REQUESTS):
            if self._done.is_set():
                return
            self.sent[token_id] = limit
            try:
                patched = self._gateway.manage("PATCH", f"/manage/tokens/{token_id}", {"max_requests": limit})
            except httpx.TransportError:
                return
            self.answered[token_id] = patched.raise_for_status().json()["max_requests"]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUpstream]:
    with DemoUpstream.start(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


def seen_by(upstream: DemoUpstream) -> Counter[str]:
    """Return how many requests of each token arrived since the record was cleared."""
    requests = upstream.requests()
    assert len(requests) == upstream.count()  # none has fallen out of the record
    return Counter(request["path"].partition("of=token-")[2] for request in requests)


@pytest.mark.parametrize("target", ["proxy", "management", "both"])
def test_counts_are_exact_after_kill_9(
    tmp_path: Path, upstream: DemoUpstream, target: Target, database_url: str
) -> None:
    with Gateway.start(tmp_path, upstream.url, database_url=database_url, LOG_LEVEL="warning") as gateway:
        project = gateway.make_project()["id"]
        for number in range(1, ROUNDS + 1):
            upstream.clear()
            used = [gateway.make_token(project, max_requests=limit) for limit in (LIMITED, LIMITED, UNLIMITED)]
            patched = [gateway.make_token(project) for _ in range(3)]
            load, operator = Load(gateway.proxies[-1].url, used), Operator(gateway, patched)
            load.kill(_victims(gateway, target))
            operator.stop()
            _restart(gateway, target)
            seen = seen_by(upstream)
            counted = {token["id"]: gateway.token(token["id"])["request_count"] for token in used}
            print(
                f"{target:10} round {number:2}: upstream saw {seen.total():3}, counted {sum(counted.values()):3}, "
                f"in flight at the kill {load.in_flight.total():2}"
            )
            for token in used:
                check_count(gateway, upstream, token, counted[token["id"]], seen[token["id"]], load)
            for token in patched:
                check_patched(gateway, token["id"], operator)


def check_count(
    gateway: Gateway, upstream: DemoUpstream, token: dict[str, Any], counted: int, seen: int, load: Load
) -> None:
    token_id, limit = token["id"], token["max_requests"]
    assert load.answers[token_id, 200] <= seen <= counted <= seen + load.in_flight[token_id]
    assert {status for (of, status) in load.answers if of == token_id} <= {200, 429}
    if limit:
        upstream.clear()
        with httpx.Client(base_url=gateway.proxies[-1].url, headers=bearer(token), timeout=30) as client:
            statuses = Counter(client.get("/v1/models").status_code for _ in range(limit - counted + 5))
        assert statuses == Counter({200: limit - counted, 429: 5})
        assert upstream.count() == limit - counted
        assert gateway.token(token_id)["request_count"] == limit


def check_patched(gateway: Gateway, token_id: str, operator: Operator) -> None:
    token = gateway.token(token_id)
    assert token["max_requests"] in {operator.answered[token_id], operator.sent[token_id]}
    assert (token["is_active"], token["request_count"]) == (True, 0)


def _victims(gateway: Gateway, target: Target) -> list[Process]:
    return {
        "proxy": [gateway.proxies[-1].process],
        "management": [gateway.management],
        "both": [gateway.proxies[-1].process, gateway.management],
    }[target]


def _restart(gateway: Gateway, target: Target) -> None:
    if target != "proxy":
        gateway.start_management()
    if target != "management":
        gateway.start_proxy()
