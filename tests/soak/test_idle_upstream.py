"""Upstreams that close idle connections: how many POSTs meet a connection that closes, and get a 503 for it.

Such a POST must not be sent again, as the upstream may have received it. So a connection is kept for less time than the
upstream keeps it. Clients pause for about as long as that, all at once.

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
CLIENTS = 200
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


class Poster:
    """A client that sends POSTs over one connection."""

    def __init__(self, port: int, token: str) -> None:
        authorization = f"Authorization: Bearer {token}"
        lines = ["POST /v1/embeddings HTTP/1.1", "Host: x", authorization, f"Content-Length: {len(BODY)}", "", ""]
        self._request = "\r\n".join(lines).encode() + BODY
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, pause: float) -> int:
        """Send a POST after a pause; return its status."""
        await asyncio.sleep(pause)
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(self._request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        return int(answer.split(b" ")[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


async def post_in_waves(port: int, token: str, kept: float, posts: int) -> Counter[int]:
    """Have all clients pause for about the same time again and again, as those without a pause share connections."""
    chance = random.Random(1)  # noqa: S311 - no secret
    posters, statuses = [Poster(port, token) for _ in range(CLIENTS)], Counter[int]()
    pause = 0.5
    while (left := posts - statuses.total()) > 0:
        wave = [poster.post(max(0.0, pause + chance.uniform(-0.1, 0.1))) for poster in posters[:left]]
        statuses.update(await asyncio.gather(*wave))
        pause = chance.choice([kept, max(kept - 1, kept / 2), chance.uniform(0, kept + 1)])
    for poster in posters:
        poster.close()
    return statuses


@pytest.mark.parametrize("name", KINDS)
def test_idle_connections_are_closed_before_the_upstream_closes_them(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    posts = POSTS if kind.kept > 1 else POSTS // 5

    async def main() -> tuple[IdleUpstream, Counter[int]]:
        upstream = IdleUpstream(kind)
        async with upstream.serve():
            with contextlib.ExitStack() as stack:
                url = f"http://127.0.0.1:{upstream.port}"
                gateway = await asyncio.to_thread(stack.enter_context, Gateway.start(tmp_path, url, LOG_LEVEL="info"))
                token = (await asyncio.to_thread(gateway.make_token))["token"]
                statuses = await post_in_waves(gateway.port, token, kind.kept, posts)
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
