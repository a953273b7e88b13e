import asyncio
import contextlib
from pathlib import Path

import pytest
from support.clients.http2 import Http2Client
from support.gateway.inprocess import run, running
from support.gateway.processes import DEADLINE
from support.upstreams.upstreams import RawUpstream, answer_all

from addon.layers import client_tls

BEGUN = bytes.fromhex("1603010200010001fc0303")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_tls, "HANDSHAKE_TIMEOUT", 0.3)


def test_a_handshake_that_comes_byte_by_byte_is_given_up(tmp_path: Path) -> None:
    async def dribble(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            writer.write(BEGUN)
            dribbling = asyncio.create_task(dribble(writer))
            with contextlib.suppress(ConnectionResetError):  # a byte may come just when the proxy has hung up
                assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            dribbling.cancel()

    run(main())


def test_data_after_a_failed_handshake_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, "http://127.0.0.1:9") as proxy, proxy.connection() as (reader, writer):
            writer.write(BEGUN[:5] + bytes(100_000) * 4)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), DEADLINE)

    run(main())


def test_a_finished_handshake_has_no_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, Http2Client.connect(proxy.port) as client:
                for _ in range(2):
                    assert await client.status(client.get("/v1/x", proxy.token.value)) == 200
                    await asyncio.sleep(0.4)

    run(main())
