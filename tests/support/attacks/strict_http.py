"""A strict reader of HTTP/1.1 requests, written from RFC 9112 alone: it shares no code with the proxy.

It reads both the bytes of a client and those that the proxy sends upstream.
"""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) (HTTP/1\.[01])" % _TOKEN)
_FIELD = re.compile(rb"(%b):[\t ]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[\t ]*" % _TOKEN)
_CODINGS = re.compile(r"(?:(?:gzip|deflate|compress)[\t ]*,[\t ]*)?chunked", re.ASCII | re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))


class Request(NamedTuple):
    """A complete request. `fields` has names in small letters."""

    method: str
    target: str
    body: bytes
    fields: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found == name]


type End = Literal["clean", "closed", "cut", "fault"]
"""The end of some bytes: between two requests, after a last one, within one, or in bytes that are no request."""


class Fault(Exception):
    """The bytes are no request, or could be read as one in two ways."""


class Cut(Exception):
    """The bytes end within a request."""


class StrictReader:
    """Reads requests from `receive`, which returns more bytes each time, and none at the end."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._ahead = b""
        self._is_last = False
        self.begun: Request | None = None
        """The request whose body is being read, still without it."""

    @property
    def has_more(self) -> bool:
        """True if bytes have come that belong to no request so far."""
        return bool(self._ahead)

    def next_request(self) -> Request | None:
        """Return the next request, or None after the last. Raises Fault or Cut."""
        if self._is_last:
            return None
        line = self._start_line()
        if line is None:
            return None
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise Fault(f"request line {line!r}")
        method, target, version = (part.decode("latin-1") for part in found.groups())
        request = Request(method, target, b"", self._fields())
        _check_host(request, version)
        self._is_last = _is_last(request, version)
        self.begun = request
        request = request._replace(body=self._body(request, version))
        self.begun = None
        return request

    def _start_line(self) -> bytes | None:
        """Return a request line; empty lines before it mean nothing (section 2.2)."""
        while self._ahead or self._more():
            line = self._line()
            if line:
                return line
        return None

    def _fields(self) -> tuple[tuple[str, str], ...]:
        fields = []
        while line := self._line():
            found = _FIELD.fullmatch(line)
            if found is None:
                raise Fault(f"header {line!r}")
            fields.append((found[1].decode().lower(), found[2].decode("latin-1")))
        return tuple(fields)

    def _body(self, request: Request, version: str) -> bytes:
        codings, lengths = request.values("transfer-encoding"), request.values("content-length")
        if codings:
            if lengths or version != "HTTP/1.1" or not _CODINGS.fullmatch(", ".join(codings)):
                raise Fault(f"framed by {codings} and {lengths} in {version}")
            return self._chunks()
        if not lengths:
            return b""
        if len(lengths) > 1 or not re.fullmatch("[0-9]+", lengths[0], re.ASCII):
            raise Fault(f"lengths {lengths}")
        return self._exactly(int(lengths[0]))

    def _chunks(self) -> bytes:
        body = b""
        while True:
            line = self._line()
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise Fault(f"chunk {line!r}")
            size = int(found[1], 16)
            if size == 0:
                self._fields()
                return body
            body += self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Fault("a chunk that is longer than it says")

    def _line(self) -> bytes:
        """Return a line that ends in CRLF. A lone CR or LF is a fault, as some take it for an end and some do not."""
        while b"\r\n" not in self._ahead:
            if re.search(rb"\r.|(?<!\r)\n", self._ahead, re.DOTALL):
                raise Fault("a lone CR or LF")
            self._need_more()
        line, _, self._ahead = self._ahead.partition(b"\r\n")
        if b"\r" in line or b"\n" in line:
            raise Fault("a lone CR or LF")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._ahead) < size:
            self._need_more()
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def _need_more(self) -> None:
        if not self._more():
            raise Cut

    def _more(self) -> bool:
        data = self._receive()
        self._ahead += data
        return bool(data)


class Reading(NamedTuple):
    """The requests that some bytes hold, the end of the bytes, and the request in which they end."""

    requests: tuple[Request, ...]
    end: End
    begun: Request | None = None


def read_strictly(data: bytes) -> Reading:
    """Read all that a client has sent."""
    pieces = iter([data])
    reader = StrictReader(lambda: next(pieces, b""))
    requests: list[Request] = []
    try:
        while request := reader.next_request():
            requests.append(request)
    except Fault:
        return Reading(tuple(requests), "fault", reader.begun)
    except Cut:
        return Reading(tuple(requests), "cut", reader.begun)
    return Reading(tuple(requests), "closed" if reader._is_last else "clean")  # noqa: SLF001 - one module


def _check_host(request: Request, version: str) -> None:
    hosts = request.values("host")
    if len(hosts) != 1 and (hosts or version == "HTTP/1.1"):
        raise Fault(f"hosts {hosts}")
    if hosts and not _HOST.fullmatch(hosts[0].encode("latin-1")):
        raise Fault(f"host {hosts[0]!r}")


def _is_last(request: Request, version: str) -> bool:
    options = {option.strip().lower() for value in request.values("connection") for option in value.split(",")}
    return "close" in options or (version == "HTTP/1.0" and "keep-alive" not in options)
