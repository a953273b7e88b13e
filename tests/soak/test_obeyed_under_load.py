"""Looks for a counter-example, thousands of times: a request that was sent after the answer to a revoke, to a project
switched off or to a key replaced, and was admitted all the same; while others load the same rows through two proxies.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Self

import httpx
import pytest
from support.gateway import Gateway, bearer
from support.upstreams import KEY, DemoUpstream

TRIALS = 1000
LOAD = 12


class Load:
    """Clients that use a token without a pause."""

    def __init__(self, gateway: Gateway, token: dict[str, str]) -> None:
        self.statuses: Counter[int] = Counter()
        self._done = threading.Event()
        urls = itertools.cycle([proxy.url for proxy in gateway.proxies])
        self._threads = [threading.Thread(target=self._use, args=(next(urls), token)) for _ in range(LOAD)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _use(self, url: str, token: dict[str, str]) -> None:
        with httpx.Client(base_url=url, headers=bearer(token), timeout=30) as client:
            while not self._done.is_set():
                self.statuses[client.get("/v1/models").status_code] += 1


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("soak")
    with (
        DemoUpstream.start(folder) as upstream,
        Gateway.start(folder, upstream.url, proxies=2, LOG_LEVEL="warning") as gateway,
    ):
        yield gateway


@pytest.mark.parametrize(
    ("of", "off", "on", "refused"),
    [
        ("token", {"is_active": False}, {"is_active": True}, 401),
        ("project", {"is_active": False}, {"is_active": True}, 403),
        ("project", {"api_key": "sk-that-the-upstream-refuses"}, {"api_key": KEY}, 401),
    ],
)
def test_no_request_sent_after_the_answer_is_admitted(
    gateway: Gateway, of: str, off: dict[str, object], on: dict[str, object], refused: int
) -> None:
    project = gateway.make_project()
    token = gateway.make_token(project["id"])
    path = f"/manage/tokens/{token['id']}" if of == "token" else f"/manage/projects/{project['id']}"
    clients = [httpx.Client(base_url=proxy.url, headers=bearer(token), timeout=30) for proxy in gateway.proxies]
    seen: Counter[tuple[str, int]] = Counter()
    with Load(gateway, token) as load:
        for _ in range(TRIALS):
            gateway.manage("PATCH", path, off).raise_for_status()
            seen.update(("off", client.get("/v1/models").status_code) for client in clients)
            gateway.manage("PATCH", path, on).raise_for_status()
            seen.update(("on", client.get("/v1/models").status_code) for client in clients)
    for client in clients:
        client.close()
    assert seen == {("off", refused): 2 * TRIALS, ("on", 200): 2 * TRIALS}
    assert load.statuses.keys() == {200, refused}
