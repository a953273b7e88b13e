"""Chunked bodies: h11's reader, with an end to what may stand between chunks, and without trailers.

mitmproxy raises at trailers, which hangs the client. Those of a request are refused; those of an answer are dropped, as
any recipient may do (RFC 9110, section 6.5.1).
"""

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer

MAX_BETWEEN = 64 * 1024
"""Bytes of a chunk's size with its extensions, and of the trailers."""


class Chunks(ChunkedReader):
    """Reads a body as mitmproxy wants a reader to; without the trailers of an answer, which may have any."""

    def __init__(self, *, of_answer: bool) -> None:
        super().__init__()
        self._of_answer = of_answer

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Return what comes next, or None where more must come first. Raises h11.ProtocolError."""
        event = super().__call__(buf)
        if event is None and len(buf) > MAX_BETWEEN:
            raise h11.RemoteProtocolError("too much between two chunks")
        if isinstance(event, h11.EndOfMessage) and event.headers:
            if not self._of_answer:
                raise h11.RemoteProtocolError("trailers")
            return h11.EndOfMessage()
        return event
