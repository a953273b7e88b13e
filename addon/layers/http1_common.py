"""Shared by both codecs of HTTP/1: the reader of chunked bodies, and the last message of a connection.

mitmproxy reads chunks with h11, which takes lone CRs in extensions, blanks behind a size, and a lone LF for the last
line end: other parsers before or behind the proxy may find another end of the body. So requests are read as RFC 9112,
section 7.1 writes them. Upstreams are trusted: of their chunks only the sizes must be unambiguous. mitmproxy raises at
trailers, which hangs the client (https://github.com/mitmproxy/mitmproxy/issues/2474): those of a request are refused;
those of a response are dropped, as any recipient may do (RFC 9110, section 6.5.1).
"""

import re

import h11
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.layers.http._http1 import Http1Connection

MAX_BETWEEN = 64 * 1024
"""Bytes of a chunk's size with its extensions, and of the trailers."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)

# At most as many digits as fit in 64 bits: a parser that computes with fewer bits would find another size.
_OF_A_REQUEST = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*\r\n" % _EXTENSION)
_OF_A_RESPONSE = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;[^\r\n]*)?\r\n")

USUAL_FIELDS = rb"((?:%b:[\t ]*(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)+)\r\n" % _TOKEN
"""Headers in their usual form, up to the blank line: all parsers read them alike. Their lines are a group."""

usual_fields = re.compile(rb"([^:]+):[\t ]*([^\r]*)\r\n").findall
"""Return the names and values in the group of USUAL_FIELDS."""

_LINE_END = b"\r\n"
_SWITCHING_PROTOCOLS = 101


class ChunkReader:
    """Reads a chunked body."""

    def __init__(self, *, of_response: bool) -> None:
        self._of_response = of_response
        self._left = 0
        self._is_at_end = False  # of a chunk's data: a line end must follow
        self._is_last = False
        self.is_complete = False
        """True once the last chunk and what follows it have been read."""

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        """Read as mitmproxy calls h11's reader: return the next event, or None if more data must come first.

        Raises h11.ProtocolError.
        """
        data = self.read(buf)
        if data is not None:
            return h11.Data(data=data)
        return h11.EndOfMessage() if self.is_complete else None

    def read(self, buf: ReceiveBuffer) -> bytes | None:
        """Return the next piece of the body, which may be a part of a chunk.

        Returns None if the body is complete, or more data must come first. Raises h11.ProtocolError.
        """
        data = self._next(buf)
        if data is None and not self.is_complete and len(buf) > MAX_BETWEEN:
            raise h11.RemoteProtocolError("too much between two chunks")
        return data

    def read_eof(self) -> h11.EndOfMessage:
        """Refuse the end of the connection: a chunked body marks its own end. Raises h11.ProtocolError."""
        raise h11.RemoteProtocolError("closed within a chunked body")

    def _next(self, buf: ReceiveBuffer) -> bytes | None:
        if self._is_at_end and not self._read_line_end(buf):
            return None
        if not self._left and not self._is_last and not self._read_size(buf):
            return None
        if self._is_last:
            self._read_end(buf)
            return None
        data = buf.maybe_extract_at_most(self._left)
        if data is None:
            return None
        self._left -= len(data)
        self._is_at_end = not self._left
        return bytes(data)

    def _read_line_end(self, buf: ReceiveBuffer) -> bool:
        if len(buf) < len(_LINE_END):
            return False
        if bytes(buf.maybe_extract_at_most(len(_LINE_END)) or b"") != _LINE_END:
            raise h11.RemoteProtocolError("a chunk is longer than its size")
        self._is_at_end = False
        return True

    def _read_size(self, buf: ReceiveBuffer) -> bool:
        line = buf.maybe_extract_next_line()
        if line is None:
            return False
        found = (_OF_A_RESPONSE if self._of_response else _OF_A_REQUEST).fullmatch(line)
        if found is None:
            raise h11.RemoteProtocolError("malformed chunk size")
        self._left = int(found[1], 16)
        self._is_last = not self._left
        return True

    def _read_end(self, buf: ReceiveBuffer) -> None:
        while not self.is_complete and (line := buf.maybe_extract_next_line()) is not None:
            if bytes(line) == _LINE_END:
                self.is_complete = True
            elif not self._of_response:
                raise h11.RemoteProtocolError("trailers")


class ClosingConnection(Http1Connection):
    """Closes after a message with `Connection: close`, in letters of either case (RFC 9112, section 9.6).

    mitmproxy compares in lower case only (no upstream issue known): it served requests that came after a client's last
    one, and reused a connection that its upstream was about to close.
    """

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """Note that one side's message is complete; close the connection after its last ones."""
        self.request_done |= request
        self.response_done |= response
        messages = (self.request, self.response)
        if self.request_done and self.response_done and not _switches(self.response) and any(map(is_last, messages)):
            yield commands.CloseConnection(self.conn)
            self.state = self.done
        else:
            yield from super().mark_done()


def _switches(response: http.Response | None) -> bool:
    return response is not None and response.status_code == _SWITCHING_PROTOCOLS


def is_last(message: http.Message | None) -> bool:
    """Tell whether a connection is to close after a message, as one of its headers says."""
    options = None if message is None else message.headers.get("connection")
    return options is not None and any(option.strip().lower() == "close" for option in options.split(","))
