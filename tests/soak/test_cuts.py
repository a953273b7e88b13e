"""Cuts on two nodes with 200 streams and 50 WebSockets each, while tokens end in all ways at random.

`./run.sh soak -s tests/soak/test_cuts.py` prints the times from the answer of the management API to the last byte.
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN, PATHS, Gateway
from support.stores.limits import differences
from support.stores.stores import rows
from support.upstreams.async_upstream import AsyncUpstream

pytestmark = [
    pytest.mark.soak("addon/cuts.py", "addon/streaming.py", "addon/plain", "addon/layers", "store/admission"),
    pytest.mark.timeout(600),
]

TOKENS = 50
STREAMS, SOCKETS = 8, 2
"""Of each token, half of them on either node."""
PROJECTS = 25
ENDING = 20
"""Tokens that are to end; along with a project also others."""
SEED = int(os.environ.get("CUTS_SEED", "26"))
LATEST = 1.0
"""Seconds within which 99 of 100 are cut."""

PAUSE = 0.25
"""Seconds between two events of a stream."""
EVENT = b'data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": " word"}}]}\n\n'
FRAME = json.dumps({"type": "session.updated", "session": {}}).encode()


class Upstream(AsyncUpstream):
    """Streams events, or messages over WebSockets, until the gateway hangs up; it notes when that was."""

    def __init__(self) -> None:
        super().__init__()
        self.open: set[str] = set()
        self.closed: dict[str, float] = {}
        """The times at which those that are named by a header were closed."""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = ""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            name = head.partition("\r\nx-name: ")[2].partition("\r\n")[0]
            length = int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0] or 0)
            await reader.readexactly(length)
            self.open.add(name)
            piece = await self._begin(writer, head)
            gone = asyncio.ensure_future(_until_closed(reader))
            await asyncio.sleep(random.random() * PAUSE)  # noqa: S311 - no secret
            while not gone.done():
                writer.write(piece)
                await asyncio.wait([gone], timeout=PAUSE)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(name)
            self.closed[name] = time.monotonic()
            writer.close()

    async def _begin(self, writer: asyncio.StreamWriter, head: str) -> bytes:
        """Write the head of a response; return what to send again and again."""
        if "upgrade: websocket" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            return b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        return struct.pack(">BB", 0x81, len(FRAME)) + FRAME


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


@dataclass
class Client:
    """One client: a stream or a WebSocket of a token on a node."""

    name: str
    port: int
    token: "Ending"
    is_socket: bool
    data: bytes = b""
    ended_at: float = 0.0

    async def run(self) -> None:
        """Read to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._request())
        try:
            while piece := await reader.read(65536):
                self.data = (self.data + piece)[-4096:]
                self.ended_at = time.monotonic()
                if self.data.endswith(b"\r\n0\r\n\r\n"):
                    break
        except OSError:
            pass
        finally:
            writer.close()

    def _request(self) -> bytes:
        if self.is_socket:
            line = "GET /v1/realtime?model=gpt-realtime HTTP/1.1"
            more = (
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
        else:
            line = "POST /v1/chat/completions HTTP/1.1"
            body = json.dumps({"model": "gpt-4o-mini", "messages": [], "stream": True})
            more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        head = f"{line}\r\nHost: proxy\r\nAuthorization: Bearer {self.token.value}\r\nX-Name: {self.name}\r\n"
        return (head + more).encode()

    def ended_well(self) -> bool:
        """Tell whether it got an error as the last event, and a proper end."""
        code = b'"code": "%b"' % self.token.code.encode()
        if self.is_socket:
            return code in self.data and b"\x03\xf0" in self.data[-128:]  # a close frame with 1008
        last = self.data.rpartition(b'data: {"error"')[2]
        return code in last and last.endswith(b"\n\n\r\n0\r\n\r\n")


class Ending:
    """A token, and how it ends."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.id, self.value, self.project_id = made["id"], made["token"], made["project_id"]
        self.code = ""
        self.ended_at = 0.0


type End = Callable[[httpx.AsyncClient, Ending], Awaitable[httpx.Response]]


async def revoke(api: httpx.AsyncClient, token: Ending) -> httpx.Response:
    return await api.delete(f"/manage/tokens/{token.id}")


async def expire(api: httpx.AsyncClient, token: Ending) -> httpx.Response:
    return await api.patch(f"/manage/tokens/{token.id}", json={"expires_at": "2001-01-01T00:00:00Z"})


async def rotate(api: httpx.AsyncClient, token: Ending) -> httpx.Response:
    return await api.post(f"/manage/tokens/{token.id}/rotate")


async def switch_off(api: httpx.AsyncClient, token: Ending) -> httpx.Response:
    return await api.patch(f"/manage/projects/{token.project_id}", json={"is_active": False})


async def delete(api: httpx.AsyncClient, token: Ending) -> httpx.Response:
    return await api.delete(f"/manage/projects/{token.project_id}")


OF_TOKEN: Sequence[tuple[End, str]] = (
    (revoke, "token_inactive"),
    (expire, "token_expired"),
    (rotate, "invalid_token"),
)
OF_PROJECT: Sequence[tuple[End, str]] = ((switch_off, "project_inactive"), (delete, "invalid_token"))


async def end_tokens(gateway: Gateway, tokens: Sequence[Ending], chance: random.Random) -> None:
    """End the first ENDING tokens, one after another; some along with their project, and all tokens of that."""
    async with httpx.AsyncClient(
        base_url=gateway.manage_url, headers={"Authorization": f"Bearer {MANAGEMENT_TOKEN}"}, timeout=30
    ) as api:
        for token in tokens[:ENDING]:
            if token.ended_at:
                continue
            end, code = chance.choice([*OF_TOKEN, *OF_PROJECT])
            (await end(api, token)).raise_for_status()
            now = time.monotonic()
            for each in tokens:
                if not each.ended_at and (
                    each is token or ((end, code) in OF_PROJECT and each.project_id == token.project_id)
                ):
                    each.ended_at, each.code = now, code
            await asyncio.sleep(chance.random() * 0.5)


def percentile(times: Sequence[float], hundredth: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[hundredth - 1]


async def look(gateway: Gateway, upstream: Upstream, tokens: Sequence[Ending], chance: random.Random) -> list[Client]:
    """Open all, end some tokens, and check what is cut. Returns the clients that go on."""
    clients = [
        Client(f"{place}-{number}", gateway.proxies[number % 2].port, token, is_socket=number >= STREAMS)
        for place, token in enumerate(tokens)
        for number in range(STREAMS + SOCKETS)
    ]
    running = {client.name: asyncio.create_task(client.run()) for client in clients}
    while len(upstream.open) < len(clients):
        await asyncio.sleep(0.05)
    await end_tokens(gateway, tokens, chance)
    cut = [client for client in clients if client.token.ended_at]
    kept = [client for client in clients if not client.token.ended_at]
    await asyncio.wait([running[client.name] for client in cut], timeout=30)
    for kind, is_socket in (("streams", False), ("WebSockets", True)):
        times = [client.ended_at - client.token.ended_at for client in cut if client.is_socket is is_socket]
        closed = [upstream.closed[one.name] - one.token.ended_at for one in cut if one.is_socket is is_socket]
        print(
            f"{len(times)} {kind}: p50 {percentile(times, 50):.3f} s, p99 {percentile(times, 99):.3f} s, most"
            f" {max(times):.3f} s; closed upstream: p99 {percentile(closed, 99):.3f} s"
        )
        assert percentile(times, 99) < LATEST
        assert percentile(closed, 99) < LATEST
    assert [client.name for client in cut if not client.ended_well()] == []
    assert [client.name for client in kept if running[client.name].done()] == []
    assert upstream.open == {client.name for client in kept}
    for client in kept:
        running[client.name].cancel()
    await asyncio.wait([running[client.name] for client in kept])
    return kept


@pytest.mark.parametrize("plain_path", PATHS)
def test_what_runs_for_tokens_that_end_is_cut_in_time(tmp_path: Path, database_url: str, plain_path: str) -> None:
    chance, upstream = random.Random(SEED), Upstream()  # noqa: S311 - no secret

    async def main() -> None:
        async with upstream.serve():
            with await asyncio.to_thread(start) as gateway:
                projects = [gateway.make_project()["id"] for _ in range(PROJECTS)]
                made = [
                    gateway.make_token(
                        projects[place % PROJECTS],
                        max_parallel_requests=50,
                        budgets=[{"usd": "1000", "per": "day"}],
                    )
                    for place in range(TOKENS)
                ]
                tokens = [Ending(each) for each in made]
                chance.shuffle(tokens)
                await look(gateway, upstream, tokens, chance)
                await asyncio.to_thread(gateway.stop)
                check(gateway, tokens)

    def start() -> contextlib.AbstractContextManager[Gateway]:
        settings = {"database_url": database_url, "LOG_LEVEL": "info", "PLAIN_PATH": plain_path}
        return Gateway.start(tmp_path, upstream.url, proxies=2, **settings)  # type: ignore[arg-type]

    asyncio.run(main())


def check(gateway: Gateway, tokens: Sequence[Ending]) -> None:
    """Check that no row is open, that nothing is held, and that the rows say why they ended."""
    with gateway.store() as store:
        assert rows(store, "slot") == []
        assert differences(store) == []
        found = rows(store, "request")
    assert [row["id"] for row in found if row["settled_at"] is None] == []
    codes = {token.id: token.code or None for token in tokens}
    assert [row["id"] for row in found if codes[row["token_id"]] and row["code"] != codes[row["token_id"]]] == []
