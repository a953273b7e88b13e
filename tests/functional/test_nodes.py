"""Four proxies on one database, 64 clients, and operators at two management APIs: each request is counted, once, and
each limit holds."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from support.clients.kept_alive import KeptAlive
from support.gateway.gateway import Gateway
from support.upstreams.upstreams import KEY, DemoUpstream

CLIENTS = 64
REQUESTS = 12
"""The requests of each client."""
LIMIT = 100

pytestmark = pytest.mark.soak("store/admission", "store/database", "store/management")  # in the suite: test_exactness

type Change = tuple[str, str, dict[str, object] | None]


def use(nodes: Gateway, tokens: list[dict[str, Any]]) -> Counter[tuple[str, int]]:
    """Let each client use one of the tokens at one of the proxies; return the count of each token's statuses."""

    def send(number: int) -> Counter[tuple[str, int]]:
        token = tokens[number % len(tokens)]
        proxy = nodes.proxies[number // len(tokens) % len(nodes.proxies)]
        with KeptAlive(proxy.url) as client:
            return Counter((token["id"], client.get(token["token"])) for _ in range(REQUESTS))

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(send, range(CLIENTS)), Counter[tuple[str, int]]())


@contextmanager
def changing(nodes: Gateway, *operators: list[Change]) -> Iterator[None]:
    """Let each operator make its changes in turn, again and again, until the block ends."""
    done = threading.Event()

    def operate(changes: list[Change]) -> set[int]:
        statuses = set()
        for change in itertools.cycle(changes):
            statuses.add(nodes.manage(*change).status_code)
            if done.is_set():
                return statuses
        raise AssertionError("unreachable: it is a cycle")

    with ThreadPoolExecutor(len(operators)) as pool:
        answers = [pool.submit(operate, changes) for changes in operators]
        try:
            yield
        finally:
            done.set()
    assert set.union(*(answer.result() for answer in answers)) <= {200, 204}


def test_limits_and_counts_are_exact_while_everything_changes(nodes: Gateway, upstream: DemoUpstream) -> None:
    steady, shaky = (nodes.make_project()["id"] for _ in range(2))
    limited = [nodes.make_token(steady, max_requests=LIMIT) for _ in range(4)]
    revoked, switched = nodes.make_token(steady), nodes.make_token(shaky)
    project, token = "/manage/projects/{}".format, "/manage/tokens/{}".format
    upstream.clear()
    with changing(
        nodes,
        [("PATCH", token(one["id"]), {"max_requests": LIMIT, "is_active": True}) for one in limited],
        [("DELETE", token(revoked["id"]), None), ("PATCH", token(revoked["id"]), {"is_active": True})],
        [("PATCH", project(shaky), {"is_active": is_active}) for is_active in (False, True)],
        [("PATCH", project(steady), {"api_key": KEY}), ("POST", f"{project(shaky)}/tokens/revoke", None)],
        [("PATCH", token(switched["id"]), {"is_active": True})],
    ):
        seen = use(nodes, [*limited, revoked, switched, *limited, *limited])
    asked = Counter(token_id for token_id, _ in seen.elements())
    for one in limited:
        assert {status: seen[one["id"], status] for status in (200, 429)} == {
            200: LIMIT,
            429: asked[one["id"]] - LIMIT,
        }
    assert {status for of, status in seen if of == revoked["id"]} <= {200, 401}
    assert {status for of, status in seen if of == switched["id"]} <= {200, 401, 403}
    counts = {one["id"]: nodes.token(one["id"])["request_count"] for one in (*limited, revoked, switched)}
    assert counts == {token_id: seen[token_id, 200] for token_id in counts}
    assert upstream.count() == sum(counts.values())
