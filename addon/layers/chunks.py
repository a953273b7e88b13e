"""Chunked bodies, read as RFC 9112, section 7.1 writes them; in place of h11's reader, which mitmproxy uses.

h11 takes lone CRs in extensions, blanks behind a size, and a lone LF for the last line end: to whoever stands before or
behind the proxy, the body may end elsewhere. Upstreams are trusted, so that of their answers only the sizes must be
sure. mitmproxy raises at trailers, which hangs the client: those of a request are refused; those of an answer are
dropped, as any recipient may do (RFC 9110, section 6.5.1).
"""

import re

import h11
from h11._receivebuffer import ReceiveBuffer

MAX_BETWEEN = 64 * 1024
"""Bytes of a chunk's size with its extensions, and of the trailers."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)

# No more digits than fit in 64 bits: who computes with fewer would find another size.
_OF_A_REQUEST = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*\r\n" % _EXTENSION)
_OF_AN_ANSWER = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;[^\r\n]*)?\r\n")

_LINE_END = b"\r\n"


class Chunks:
    """Reads a body as mitmproxy wants a reader to."""

    def __init__(self, *, of_answer: bool) -> None:
        self._of_answer = of_answer
        self._left = 0
        self._is_at_end = False  # of a chunk's data: a line end must follow
        self._is_last = False

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Return what comes next, or None where more must come first. Raises h11.ProtocolError."""
        event = self._next(buf)
        if event is None and len(buf) > MAX_BETWEEN:
            raise h11.RemoteProtocolError("too much between two chunks")
        return event

    def read_eof(self) -> h11.EndOfMessage:
        """Refuse the end of the connection: a chunked body says when it ends. Raises h11.ProtocolError."""
        raise h11.RemoteProtocolError("closed within a chunked body")

    def _next(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        if self._is_at_end and not self._take_line_end(buf):
            return None
        if not self._left and not self._is_last and not self._take_size(buf):
            return None
        if self._is_last:
            return self._end(buf)
        data = buf.maybe_extract_at_most(self._left)
        if data is None:
            return None
        self._left -= len(data)
        self._is_at_end = not self._left
        return h11.Data(data=bytes(data))

    def _take_line_end(self, buf: ReceiveBuffer) -> bool:
        if len(buf) < len(_LINE_END):
            return False
        if bytes(buf.maybe_extract_at_most(len(_LINE_END)) or b"") != _LINE_END:
            raise h11.RemoteProtocolError("a chunk is longer than it says")
        self._is_at_end = False
        return True

    def _take_size(self, buf: ReceiveBuffer) -> bool:
        line = buf.maybe_extract_next_line()
        if line is None:
            return False
        found = (_OF_AN_ANSWER if self._of_answer else _OF_A_REQUEST).fullmatch(line)
        if found is None:
            raise h11.RemoteProtocolError("no chunk's size")
        self._left = int(found[1], 16)
        self._is_last = not self._left
        return True

    def _end(self, buf: ReceiveBuffer) -> h11.EndOfMessage | None:
        while (line := buf.maybe_extract_next_line()) is not None:
            if bytes(line) == _LINE_END:
                return h11.EndOfMessage()
            if not self._of_answer:
                raise h11.RemoteProtocolError("trailers")
        return None
