"""A server that is far away: data takes half a round trip each way."""

import asyncio
import contextlib
import threading
from typing import Self


class Distance:
    """Passes connections on to a port of this machine, `round_trip` seconds away, with an event loop of its own."""

    def __init__(self, target: int, round_trip: float) -> None:
        self._target = target
        self._round_trip = round_trip
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = self._loop.create_task(self._connect(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._round_trip)  # TCP's handshake, which the kernel has long answered
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        with contextlib.closing(writer), contextlib.closing(server_writer):
            await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                self._loop.call_later(self._round_trip / 2, writer.write, data)
        await asyncio.sleep(self._round_trip / 2)
        writer.close()
