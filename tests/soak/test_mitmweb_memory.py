"""mitmweb's memory stays flat: over 20,000 requests, and over a WebSocket that never ends.

`./run.sh soak -s tests/soak/test_mitmweb_memory.py` prints the figures.
"""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import Gateway, bearer
from support.upstreams.upstreams import DemoUpstream
from websockets.sync.client import connect

pytestmark = pytest.mark.soak("addon/inspector")

CLIENTS = 4
MARKS = (5_000, 10_000, 20_000)
FRAMES = 20_000
MAX_GROWTH = 20 * 2**20
"""Bytes by which the memory may grow once it is full: the last 1,000 flows of this load are some 30 MB."""

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "How much do you keep? " * 50}]}
REQUESTS: list[dict[str, Any]] = [
    {"url": "/v1/chat/completions", "json": CHAT},
    {"url": "/v1/chat/completions", "json": {**CHAT, "stream": True}, "headers": {"X-Demo-Words": "100"}},
    {"url": "/v1/responses", "json": {"model": "gpt-4o", "input": "Hello!", "stream": True}},
    {"url": "/v1/embeddings", "json": {"model": "text-embedding-3-small", "input": "Hello!"}},
    {"url": "/v1/files", "files": {"file": ("f", bytes(20_000))}, "data": {"purpose": "assistants"}},
    {"url": "/v1/chat/completions", "json": CHAT, "headers": {"Authorization": "Bearer none"}},
]


def resident(gateway: Gateway) -> int:
    """Return the memory of the proxy, in bytes."""
    status = Path(f"/proc/{gateway.proxies[0].process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with (
        DemoUpstream.start(tmp_path) as upstream,
        Gateway.start(tmp_path, upstream.url, way="launcher --web", LOG_LEVEL="warning") as gateway,
    ):
        yield gateway


def send(gateway: Gateway, headers: dict[str, str], number: int) -> None:
    """Send so many requests of all kinds over several connections."""

    def use() -> None:
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
            for request in itertools.islice(itertools.cycle(REQUESTS), number // CLIENTS):
                client.post(**request).read()

    threads = [threading.Thread(target=use) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_memory_stays_flat_over_many_requests(gateway: Gateway) -> None:
    headers = bearer(gateway.make_token())
    print(f"\nat the start {resident(gateway) / 2**20:.1f} MiB")
    measured = []
    for before, mark in itertools.pairwise([0, *MARKS]):
        send(gateway, headers, mark - before)
        measured.append(resident(gateway))
        print(f"after {mark:6} requests {measured[-1] / 2**20:.1f} MiB")
    assert max(measured[1:]) - measured[0] < MAX_GROWTH


def test_memory_stays_flat_over_a_long_websocket(gateway: Gateway) -> None:
    url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=gpt-realtime"
    measured = []
    with connect(url, additional_headers=bearer(gateway.make_token()), proxy=None) as websocket:
        websocket.recv()
        for part in range(1, 5):
            for _ in range(FRAMES // 8):  # each is answered by another
                websocket.send('{"type": "' + "x" * 5_000 + '"}')
                websocket.recv()
            measured.append(resident(gateway))
            print(f"after {part * FRAMES // 4:6} frames {measured[-1] / 2**20:.1f} MiB")
    assert measured[-1] - measured[0] < MAX_GROWTH
