"""A client that speaks HTTP/2 over TLS, with streams that the test opens and resets as it likes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Self

import h2.config
import h2.connection
import h2.events

from support.processes import DEADLINE


class Http2Client:
    """One connection. Not concurrent: whoever waits for an answer reads for all streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._flush()
        self._statuses: dict[int, int] = {}
        self._ended: set[int] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, port: int) -> AsyncIterator[Self]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
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
        """Open a stream with the headers of a request, whatever they are, and return its id."""
        self._h2.config.validate_outbound_headers = self._h2.config.normalize_outbound_headers = False
        stream_id = self._h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "proxy"), (":path", path)]
        fields = [*pseudo, ("authorization", f"Bearer {token}"), *headers]
        self._h2.send_headers(stream_id, fields, end_stream=end_stream)
        self._flush()
        return stream_id

    def send(self, stream_id: int, data: bytes) -> None:
        """Send a piece of a request's body that fits into a frame."""
        self._h2.send_data(stream_id, data)
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
        while stream_id not in self._ended:
            data = await asyncio.wait_for(self._reader.read(65536), DEADLINE)
            if not data:
                raise ConnectionError("the proxy hung up")
            for event in self._h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self._statuses[event.stream_id] = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self._ended.add(event.stream_id)
            self._flush()
        return self._statuses[stream_id]

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
