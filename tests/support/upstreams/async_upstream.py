"""The base of upstreams that answer many clients of a test from its own event loop."""

import abc
import asyncio
import contextlib
from collections.abc import AsyncIterator


class AsyncUpstream(abc.ABC):
    """An upstream that serves connections while `serve` runs."""

    def __init__(self) -> None:
        self.url = ""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Listen on a free port; `url` names it."""
        server = await asyncio.start_server(self.converse, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()

    @abc.abstractmethod
    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
