"""Upstreams that close idle connections: how many POSTs meet a connection that closes, and get a 503 for it.

Such a POST must not be sent again, as the upstream may have received it. So a connection is kept for less time than the
upstream keeps it. Clients pause for about as long as that, and up to a tenth of a second more or less.

`IDLE_UPSTREAM_POSTS=100000 ./run.sh soak -s tests/soak/test_idle_upstream.py` sends more; it prints the figures.
"""

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.gateway.gateway import Gateway
from support.upstreams.upstreams import json_response

pytestmark = [pytest.mark.soak("addon/plain"), pytest.mark.timeout(7_200)]

POSTS = int(os.environ.get("IDLE_UPSTREAM_POSTS", "10000"))
CLIENTS = 250
BODY = b'{"model": "m", "input": "one"}'


class Kind(NamedTuple):
    """An upstream: the seconds that it keeps a connection, what it says about that, and the 503s that may be."""

    kept: float
    says: str
    one_of: int
    """The POSTs of which one may get a 503."""


KINDS = {
    "5 s": Kind(5, "", 100_000),
    "2 s, and says so": Kind(2, "Keep-Alive: timeout=2\r\n", 100_000),
    "1 s, and says so": Kind(1, "Keep-Alive: timeout=1\r\n", 1_000),  # half a second is not much on a busy machine
    "not, and does not say so": Kind(0, "", 100),
}


class IdleUpstream:
    """Answers POSTs, and closes a connection that has been idle for some time."""

    def __init__(self, kind: Kind) -> None:
        self._kept = kind.kept
        self._response = json_response({}, headers=kind.says)
        self.requests = 0
        self.connections = 0
        self.closed_idle = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=CLIENTS)
        self.port = server.sockets[0].getsockname()[1]
        yield
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        waits: float | None = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while waits is None or waits:
                try:
                    async with asyncio.timeout(waits):
                        await reader.readuntil(b"\r\n\r\n")
                except TimeoutError:
                    self.closed_idle += 1
                    break
                await reader.readexactly(len(BODY))
                self.requests += 1
                writer.write(self._response)
                waits = self._kept
        writer.close()


async def post_again_and_again(
    port: int, token: str, kept: float, left: list[int], chance: random.Random
) -> Counter[int]:
    """Send POSTs over one connection, with pauses around the time that the upstream keeps one. Returns the statuses."""
    statuses: Counter[int] = Counter()
    authorization = f"Authorization: Bearer {token}"
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    await asyncio.sleep(chance.random())  # all at once, they would hold up each other
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while left[0] > 0:
        left[0] -= 1
        writer.write(head.encode() + BODY)
        answer = await reader.readuntil(b"\r\n\r\n")
        statuses[int(answer.split(b" ")[1])] += 1
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        middle = chance.choice([kept, max(kept - 1, kept / 2), 0.1])
        await asyncio.sleep(max(0.0, middle + chance.uniform(-0.1, 0.1)))
    writer.close()
    return statuses


@pytest.mark.parametrize("name", KINDS)
def test_idle_connections_are_closed_before_the_upstream_closes_them(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    posts = POSTS if kind.kept > 1 else POSTS // 5

    async def main() -> tuple[IdleUpstream, Counter[int]]:
        upstream, statuses = IdleUpstream(kind), Counter[int]()
        async with upstream.serve():
            with contextlib.ExitStack() as stack:
                url = f"http://127.0.0.1:{upstream.port}"
                gateway = await asyncio.to_thread(stack.enter_context, Gateway.start(tmp_path, url, LOG_LEVEL="info"))
                token, left = (await asyncio.to_thread(gateway.make_token))["token"], [posts]
                chances = [random.Random(number) for number in range(CLIENTS)]  # noqa: S311 - no secret
                posting = [post_again_and_again(gateway.port, token, kind.kept, left, chance) for chance in chances]
                for counted in await asyncio.gather(*posting):
                    statuses += counted
                served = await asyncio.to_thread(gateway.stop_and_count)
                assert served.plain == served.requests == posts + 1
        return upstream, statuses

    upstream, statuses = asyncio.run(main())
    print(
        f"\nkept {name}: {posts} POSTs, {statuses[503]} of them got a 503; {upstream.connections} connections, "
        f"{upstream.closed_idle} closed by the upstream as they were idle"
    )
    assert statuses.keys() <= {200, 503}
    assert statuses[200] <= upstream.requests <= posts
    assert statuses[503] <= max(1, posts // kind.one_of)
