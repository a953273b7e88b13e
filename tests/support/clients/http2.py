"""A client that speaks HTTP/2 over TLS, with streams that the test opens and resets as it likes."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Self

import h2.config
import h2.connection
import h2.errors
import h2.events

from support.gateway.processes import DEADLINE


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


class Http2Client:
    """One connection. Not concurrent: waiting for one response reads for all streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # Sent exactly as the test writes it.
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._flush()
        self._statuses: dict[int, int] = {}
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._ended: set[int] = set()
        self._reset: set[int] = set()
        self.last_stream: int | None = None
        """The last one that is answered, once the proxy wants no further requests on this connection."""

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, port: int) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_tls())
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    def get(self, path: str, token: str) -> int:
        """Open a stream with a request, and return its id."""
        return self.begin("GET", path, token, end_stream=True)

    def begin(self, method: str, path: str, token: str, *headers: tuple[str, str], end_stream: bool = False) -> int:
        """Open a stream with any headers of a request, and return its id."""
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "proxy"), (":path", path)]
        return self.open([*pseudo, ("authorization", f"Bearer {token}"), *headers], end_stream=end_stream)

    def request(self, headers: Sequence[tuple[str | bytes, str | bytes]], *pieces: bytes) -> int:
        """Send a whole request, and return the id of its stream."""
        stream_id = self.open(headers, end_stream=not pieces)
        for number, piece in enumerate(pieces, 1):
            self._h2.send_data(stream_id, piece, end_stream=number == len(pieces))
        self._flush()
        return stream_id

    def open(self, headers: Sequence[tuple[str | bytes, str | bytes]], *, end_stream: bool) -> int:
        """Open a stream with these headers, and return its id."""
        stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, headers, end_stream=end_stream)
        self._flush()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        """Send a piece of a request's body that fits into a frame."""
        self._h2.send_data(stream_id, data, end_stream=end_stream)
        self._flush()

    async def send_all(self, stream_id: int, body: bytes) -> None:
        """Send a whole body, as far as the proxy's window is open, and end the request."""
        while body:
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
            if not room:
                await self._read()
                continue
            piece, body = body[:room], body[room:]
            self.send(stream_id, piece)
            await self._writer.drain()
        self._h2.end_stream(stream_id)
        self._flush()

    def end_with_trailers(self, stream_id: int) -> None:
        self._h2.send_headers(stream_id, [("x-trailer", "1")], end_stream=True)
        self._flush()

    def ping(self) -> None:
        self._h2.ping(b"8 bytes.")
        self._flush()

    def reset(self, stream_id: int) -> None:
        self._h2.reset_stream(stream_id)
        self._flush()

    async def end(self) -> None:
        """Read until the proxy hangs up."""
        while await asyncio.wait_for(self._reader.read(65536), DEADLINE):
            pass

    async def status(self, stream_id: int) -> int:
        """Wait for the end of a stream's answer and return its status."""
        await self._read_until(stream_id)
        return self._statuses[stream_id]

    async def answer(self, stream_id: int) -> dict[str, str] | None:
        """Wait for the end of a stream's answer and return its headers; None where it was reset."""
        await self._read_until(stream_id)
        return self._headers.get(stream_id)

    async def ends_well(self, stream_id: int) -> bool:
        """Wait for the end of a stream; return False where it was reset."""
        await self._read_until(stream_id)
        return stream_id in self._ended

    async def until_body(self, stream_id: int, body: bytes) -> None:
        """Wait until a response has this body so far."""
        while self.body(stream_id) != body:
            await self._read()

    def body(self, stream_id: int) -> bytes:
        """Return the part of a response's body that has come."""
        return self._bodies.get(stream_id, b"")

    async def _read_until(self, stream_id: int) -> None:
        while stream_id not in self._ended | self._reset:
            await self._read()

    async def until_goaway(self) -> None:
        """Wait until the proxy wants no further requests on this connection."""
        while self.last_stream is None:
            await self._read()

    async def until_sent(self, frame: bytes) -> None:
        """Read until the proxy has sent this very frame. The client is of no use after that."""
        came = b""
        while frame not in came:
            came += await asyncio.wait_for(self._reader.readexactly(1), DEADLINE)

    async def _read(self) -> None:
        data = await asyncio.wait_for(self._reader.read(65536), DEADLINE)
        if not data:
            raise ConnectionError("the proxy hung up")
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self._statuses[event.stream_id] = int(dict(event.headers)[b":status"])
                fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                self._headers[event.stream_id] = dict(fields)
            elif isinstance(event, h2.events.DataReceived):
                self._bodies[event.stream_id] = self.body(event.stream_id) + event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self._reset.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                if event.error_code != h2.errors.ErrorCodes.NO_ERROR:
                    raise ConnectionError("the proxy ended the connection")
                self.last_stream = event.last_stream_id
        self._flush()

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
