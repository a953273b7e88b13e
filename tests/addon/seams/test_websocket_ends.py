import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from support.inprocess import run, running
from support.processes import DEADLINE
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode


@asynccontextmanager
async def conversation(tmp_path: Path) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    """Open a WebSocket through the proxy, and hold it at both ends: the client's and the upstream's."""
    opened: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def hold(upstream: ServerConnection) -> None:
        opened.put_nowait(upstream)
        await upstream.wait_closed()

    async with serve(hold, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(tmp_path, f"http://127.0.0.1:{port}") as proxy:
            headers = {"Authorization": f"Bearer {proxy.token.value}"}
            async with connect(f"ws://127.0.0.1:{proxy.port}/v1/realtime", additional_headers=headers) as client:
                yield client, await asyncio.wait_for(opened.get(), DEADLINE)
            assert len(proxy.exchanges) == 0


async def ending(connection: ClientConnection | ServerConnection) -> tuple[list[str | bytes], int | None]:
    """Return what came until the end, and its close code."""
    async with asyncio.timeout(DEADLINE):
        came = [message async for message in messages(connection)]
    return came, connection.close_code


async def messages(connection: ClientConnection | ServerConnection) -> AsyncIterator[str | bytes]:
    with suppress(ConnectionClosed):
        while True:
            yield await connection.recv()


@pytest.mark.parametrize("cut", ["client", "upstream"])
def test_what_is_cut_at_one_side_is_cut_at_the_other(tmp_path: Path, cut: str) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as (client, upstream):
            one, other = (client, upstream) if cut == "client" else (upstream, client)
            await one.send("the last word")
            one.transport.close()
            assert await ending(other) == (["the last word"], CloseCode.ABNORMAL_CLOSURE)

    run(main())


@pytest.mark.parametrize("code", [CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.INTERNAL_ERROR, 4000])
def test_a_close_frame_passes(tmp_path: Path, code: int) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as (client, upstream):
            await upstream.send("the last word")
            await upstream.close(code)
            assert await ending(client) == (["the last word"], code)

    run(main())
