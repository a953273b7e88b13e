import asyncio
import contextlib
from pathlib import Path

from support.inprocess import running
from support.processes import DEADLINE
from support.upstreams import RawUpstream, answer_all


def test_a_client_that_sends_more_than_was_wanted_is_closed_too(tmp_path: Path) -> None:
    """More than one read's worth comes while the first is refused."""

    async def test() -> None:
        with RawUpstream(answer_all()) as upstream:
            async with running(tmp_path, upstream.url) as proxy, proxy.connection() as (reader, writer):
                writer.write(b"GET nonsense HTTP/1.1\r\n\r\n" + b"A" * 66_000)
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
                with contextlib.suppress(ConnectionResetError):
                    await asyncio.wait_for(reader.read(), DEADLINE)

    asyncio.run(test())
