"""The upstream: answers each request at once, with a chat completion or a stream of events with their times of sending.

It costs as little as possible, so that the figures are those of a proxy, not of this upstream.
"""

import asyncio
import re
import ssl
import time
from pathlib import Path

import click
from benchmarks.bench.messages import ANSWER, EVENTS_HEADER, STREAM_HEAD, end_of_stream, event

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENTS = re.compile(rb"\r\n%b: *(\d+) (\d+)" % EVENTS_HEADER.encode(), re.IGNORECASE)
_BACKLOG = 1024


class Upstream(asyncio.Protocol):
    """One connection."""

    answer = ANSWER

    def __init__(self) -> None:
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the responses."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[: end + 2]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._answer(head)

    def connection_lost(self, _error: Exception | None) -> None:
        """End the stream."""
        if self._timer is not None:
            self._timer.cancel()

    def _answer(self, head: bytes) -> None:
        wanted = _EVENTS.search(head)
        if wanted is None:
            self._transport.write(self.answer)
        else:
            self._transport.write(STREAM_HEAD)
            self._send_event(int(wanted[1]), int(wanted[2]) / 1000)

    def _send_event(self, left: int, pause: float) -> None:
        self._transport.write(event(time.monotonic_ns()))
        if left > 1:
            self._timer = asyncio.get_running_loop().call_later(pause, self._send_event, left - 1, pause)
        else:
            self._transport.write(end_of_stream())


async def _serve(port: int, context: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, ssl=context, backlog=_BACKLOG)
    print("serves", flush=True)
    await server.serve_forever()


@click.command(help=__doc__)
@click.option("--port", type=int, required=True)
@click.option("--certificate", type=click.Path(path_type=Path), help="Speak TLS, with this certificate and key.")
@click.option("--kept", type=int, help="Say that connections are kept for so many seconds.")
def main(port: int, certificate: Path | None, kept: int | None) -> None:
    """Serve until killed."""
    if kept is not None:
        Upstream.answer = ANSWER.replace(b"\r\n", b"\r\nKeep-Alive: timeout=%d\r\n" % kept, 1)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    asyncio.run(_serve(port, context))


if __name__ == "__main__":
    main()
