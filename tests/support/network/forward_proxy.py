"""A forward proxy, as companies have one: it opens tunnels (CONNECT) to hosts that it alone can find."""

import asyncio
import base64
import contextlib
import ssl
import threading
from collections.abc import Mapping
from typing import Self

from support.gateway.processes import DEADLINE

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ForwardProxy:
    """It runs in a thread of its own. `hosts` are the destinations that it knows, and their ports on loopback.

    With `credentials` (`user:password`) it wants these; with `tls` it is spoken to over that.
    """

    def __init__(
        self, hosts: Mapping[str, int], *, credentials: str = "", tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.hosts = hosts
        self.port = port
        self.heads: list[bytes] = []
        """The heads of its requests, without what went through its tunnels."""
        self.instead: bytes | None = None
        """The answer in place of any other, before it hangs up."""
        self.is_silent = False
        """True where it answers nothing, and does not hang up either."""
        self._wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._listens, self._ends = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        self._loop.close()

    @property
    def asked(self) -> list[str]:
        """The request lines that came."""
        return [head.partition(b"\r\n")[0].decode("latin-1") for head in self.heads]

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._listens.set()
        await self._ends.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self._answer(head.decode("latin-1"), reader, writer)
        finally:
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *fields = head.split("\r\n")
        method, target, _ = line.split(" ")
        if self.is_silent:
            await reader.read()
        elif self.instead is not None:
            writer.write(self.instead)
        elif self._wanted and f"Proxy-Authorization: {self._wanted}" not in fields:
            writer.write(
                b'HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
            )
        elif method != "CONNECT" or target not in self.hosts:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        else:
            upstream = await asyncio.open_connection("127.0.0.1", self.hosts[target])
            writer.write(OPEN)
            await asyncio.gather(_pass(reader, upstream[1]), _pass(upstream[0], writer))
        await writer.drain()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on all data, and its end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
