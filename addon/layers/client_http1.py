"""The HTTP/1 codec of clients: rejects in JSON what mitmproxy would accept, crash on, or answer with an HTML page.

A rejection here ends the connection, as it is not certain where the next request begins (RFC 9112, section 9.3). Until
the client hangs up, or some time has passed, its data is still read: a socket that is closed over unread bytes resets,
and the response may be lost.
"""

import re

from h11._readers import ChunkedReader
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import Http1Server, ReceiveHttp, RequestHeaders

from addon import responses
from addon.exchange import Exchanges
from addon.layers.http1_common import ChunkReader, ClosingConnection
from addon.validation import MALFORMED, MAX_HEADERS
from store.errors import GatewayError, HeadersTooLarge, InvalidRequest

MAX_AHEAD = 1024 * 1024
"""Bytes of further requests that a client may send while one is under way."""

_VERSIONS = frozenset({"HTTP/1.0", "HTTP/1.1"})

_BLANK_LINES = re.compile(rb"(?:\r\n)*")
_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as mitmproxy finds it

# A request's line and headers as RFC 9112 writes them. mitmproxy also takes a lone LF for a line end, other white space
# (vertical tabs, lone CRs, ...) for blanks, and joins folded lines: a proxy in front may read another request there,
# with another length.
_HEAD = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n(?:[!-~\x80-\xff][\t -~\x80-\xff]*\r\n)*\r\n"
)

HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII)
"""The value of a Host header (RFC 3986, section 3.2); a name may be empty."""


class ClientCodec(ClosingConnection, Http1Server):
    """The codec of a client's HTTP/1 connection."""

    def __init__(self, context: Context, exchanges: Exchanges) -> None:
        super().__init__(context)
        self._exchanges = exchanges

    def is_in_headers(self) -> bool:
        """Return whether the headers of a request have begun and not ended."""
        return bool(self.buf) and self.state == self.read_headers

    def is_done(self) -> bool:
        """Return whether no more requests are read."""
        return self.state == self.done

    def refuse(self, error: GatewayError, request: http.Request | None = None) -> layer.CommandGenerator[None]:
        """Answer outside of any exchange, and read no more requests. `request`: what was read of one, if anything."""
        self.state = self.done
        allowing = self._exchanges.allowing(request) if request is not None else ()
        yield commands.SendData(self.conn, http1.assemble_response(responses.last_error(error, allowing)))
        yield commands.CloseTcpConnection(self.conn, half_close=True)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request's headers; reject malformed and endless ones."""
        if isinstance(event, events.DataReceived) and not self._is_well_formed():
            yield from self.refuse(InvalidRequest(MALFORMED))
            return
        before, rejected = len(self.buf), False
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):  # this step sends nothing but errors
                rejected = True
                yield from self.refuse(InvalidRequest(MALFORMED))
            elif isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders) and not rejected:
                fault = _fault(command.event.request, before - len(self.buf))
                if fault is not None:
                    yield from self.refuse(fault, command.event.request)
                    return
                if command.event.request.http_version == "HTTP/1.0":
                    command.event.request.headers.pop("expect", None)  # HTTP/1.0 has no 100 Continue
                yield command
            elif not (rejected and isinstance(command, commands.CloseConnection)):
                yield command
        if self.is_in_headers() and len(self.buf) > MAX_HEADERS:
            yield from self.refuse(HeadersTooLarge())

    def _is_well_formed(self) -> bool:
        """Check the data that has come, without the blank lines before a request, which are ignored (section 2.2)."""
        data = bytes(self.buf)
        blank = _BLANK_LINES.match(data)
        if blank and blank.end():
            self.buf.maybe_extract_at_most(blank.end())
            data = data[blank.end() :]
        end = _END_OF_HEAD.search(data)
        return not data.startswith(b"\n") and (end is None or _HEAD.fullmatch(data, 0, end.end()) is not None)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request's body. A malformed one is reported to its stream, which can still be answered."""
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = ChunkReader(of_response=False)  # type: ignore[assignment]  # called alike
        for command in super().read_body(event):
            is_close = isinstance(command, commands.CloseConnection) and isinstance(event, events.DataReceived)
            if is_close and not self.request_done:
                self.state = self.done
            else:
                yield command

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Wait for the response; hang up on a client that sends too much before it."""
        if isinstance(event, events.DataReceived) and len(self.buf) > MAX_AHEAD:
            yield commands.CloseConnection(self.conn)
        yield from super().wait(event)


def _fault(request: http.Request, size: int) -> GatewayError | None:
    """Return the fault of a request whose headers came in `size` bytes, before mitmproxy corrects it."""
    hosts = request.headers.get_all("host")
    if size > MAX_HEADERS:
        return HeadersTooLarge()
    if request.http_version not in _VERSIONS:
        return InvalidRequest("This connection speaks HTTP/1.1.")
    if len(hosts) > 1 or (not hosts and request.http_version == "HTTP/1.1") or not all(map(HOST.fullmatch, hosts)):
        return InvalidRequest("Send one Host header, with a host and no more than a port.")
    return None
