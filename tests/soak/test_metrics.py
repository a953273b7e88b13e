"""100,000 requests over two proxies, which are stopped, killed and replaced: the metrics equal the ledger.

`./run.sh soak -s tests/soak/test_metrics.py` prints the figures.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.gateway.gateway import Gateway
from support.metrics import Samples, by_name, sample
from support.upstreams.upstreams import Conversation, RawUpstream, json_response

from store.ledger.instances import HEARTBEAT, LEASE
from store.ledger.usage import COST_UNIT

pytestmark = [
    pytest.mark.soak("addon/counting.py", "manage_api/metrics.py", "store/ledger", "store/metrics"),
    pytest.mark.timeout(1800),
]

REQUESTS = 100_000
CONNECTIONS = 24
RESTARTS = 8
"""Every second one is a kill."""
MODELS = ("gpt-4o", "gpt-4o-mini", "o3-mini", "unknown-to-the-price-list")
COUNTERS = re.compile(r"_(total|count|bucket)$")


def answer(conversation: Conversation) -> None:
    """Answer each request with a usage that follows from its body."""
    while True:
        _, body = conversation.read_message()
        asked = json.loads(body)
        size = len(asked["messages"][0]["content"])
        usage = {"prompt_tokens": size, "completion_tokens": 3, "total_tokens": size + 3}
        conversation.send(json_response({"model": asked["model"], "usage": usage}))


class Clients:
    """Clients on raw connections. One whose connection breaks goes on at a proxy that runs."""

    def __init__(self, ports: Callable[[], list[int]], tokens: list[str]) -> None:
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self._ports, self._tokens = ports, tokens
        self._left = REQUESTS

    @property
    def done(self) -> int:
        return self.statuses.total()

    async def run(self) -> None:
        await asyncio.gather(*map(self._use, range(CONNECTIONS)))

    async def _use(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        while self._left > 0:
            try:
                ports = self._ports()
                async with connected(ports[number % len(ports)]) as (reader, writer):
                    await self._send_all(reader, writer, chance)
            except (OSError, asyncio.IncompleteReadError):
                self.broken += 1
                await asyncio.sleep(0.01)

    async def _send_all(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random
    ) -> None:
        while self._left > 0:
            writer.write(request(chance.choice(self._tokens), chance))
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: *(\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length))
            self._left -= 1
            self.statuses[int(head.split()[1])] += 1
            if b"connection: close" in head.lower():
                return


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def request(token: str, chance: random.Random) -> bytes:
    messages = [{"role": "user", "content": "x" * chance.randrange(1, 50)}]
    body = json.dumps({"model": chance.choice(MODELS), "messages": messages}).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def metrics(gateway: Gateway) -> Samples:
    return by_name(gateway.manage("GET", "/metrics").raise_for_status().text)


def usage(gateway: Gateway, by: str) -> list[dict[str, Any]]:
    report = gateway.manage("GET", f"/manage/usage?groupBy={by}").raise_for_status().json()
    groups: list[dict[str, Any]] = report["groups"]
    return groups


async def restart(gateway: Gateway, clients: Clients) -> None:
    """Replace a proxy after each part of the load: stop it, or kill it."""
    for number in range(1, RESTARTS + 1):
        while clients.done < REQUESTS * number // (RESTARTS + 1):
            await asyncio.sleep(0.05)
        victim = gateway.proxies[-2].process
        await asyncio.to_thread(gateway.start_proxy)
        await asyncio.to_thread(victim.kill if number % 2 else victim.stop)


async def watch(gateway: Gateway, seen: list[Samples]) -> None:
    """Scrape, and check that no counter falls."""
    before: Samples = {}
    while True:
        found = await asyncio.to_thread(metrics, gateway)
        fallen = {
            key: (value, found.get(key))
            for key, value in before.items()
            if COUNTERS.search(key[0]) and found.get(key, 0) < value
        }
        assert not fallen
        before = found
        seen.append(found)
        await asyncio.sleep(1)


async def load(gateway: Gateway, clients: Clients) -> list[Samples]:
    seen: list[Samples] = []
    watching = asyncio.create_task(watch(gateway, seen))
    await asyncio.gather(clients.run(), restart(gateway, clients))
    deadline = time.monotonic() + LEASE + 10 * HEARTBEAT
    while any(group["in_flight"] for group in await asyncio.to_thread(usage, gateway, "project")):
        assert time.monotonic() < deadline
        await asyncio.sleep(1)
    for proxy in gateway.proxies[-2:]:
        await asyncio.to_thread(proxy.process.stop)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return seen


def test_metrics_equal_the_ledger(tmp_path: Path, database_url: str) -> None:
    with (
        RawUpstream(answer) as upstream,
        Gateway.start(tmp_path, upstream.url, proxies=2, database_url=database_url, LOG_LEVEL="warning") as gateway,
    ):
        projects = [gateway.make_project(name)["id"] for name in ("One", "Two", "Three")]
        limits = [{"requests": 100, "per": "second"}]
        tokens = [gateway.make_token(project)["token"] for project in projects for _ in range(2)]
        tokens.append(gateway.make_token(projects[2], rate_limits=limits)["token"])
        clients = Clients(lambda: [proxy.port for proxy in gateway.proxies[-2:]], tokens)
        began = time.monotonic()
        seen = asyncio.run(load(gateway, clients))
        took = time.monotonic() - began
        found = metrics(gateway)
        by_project, by_model = usage(gateway, "project"), usage(gateway, "project,model")
        ended = found[sample("request_duration_seconds_count", endpoint="/v1/chat/completions", status="2xx")]
        print(
            f"\n{clients.statuses} in {took:.0f} s, {clients.broken} broken connections, {len(seen)} scrapes;"
            f" settled {sum(group['requests'] for group in by_project)}, of which processes have counted {ended:.0f}"
        )
        assert {group["project_id"]: group["requests"] for group in by_project} == {
            project: found[sample("requests_total", project_id=project)] for project in projects
        }
        assert sum(group["refused"] for group in by_project) == sum(
            value for (name, _), value in found.items() if "refusals_total" in name
        )
        assert clients.statuses[429] > 0
        for group in by_model:
            labels = {"project_id": group["project_id"], "model": group["model"] or ""}
            if not group["requests"]:
                continue
            for kind in ("input", "output"):
                counted = found[sample("tokens_total", **labels, type=kind)]
                assert counted == (group[f"{kind}_tokens"] or 0), labels
            cost = round(found[sample("cost_usd_total", **labels)] * COST_UNIT)
            assert cost == Decimal(group["cost_usd"] or 0) * COST_UNIT, labels
        assert clients.statuses[200] * 0.8 < ended <= sum(group["requests"] for group in by_project)
