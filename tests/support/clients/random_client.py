"""A client that does everything a client may do to a proxy, at random, and checks that each response is its own.

It asks an `EchoUpstream`, whose responses hold the nonce of their request.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from addon.layers.client_http1 import MAX_AHEAD
from support.clients.http2 import Http2Client
from support.upstreams.echo_upstream import BROKEN, MARK, WHOLE, body_of

LIMIT = 60.0
"""Seconds for some requests that are sent at once, and their responses."""

_NO_BODY = {204, 304}
_INTERIM = 100
_SWITCH = 101
_UPLOADS = (0, 1, 40, 40, 40, 900, 70_000, 900_000, 1_500_000)
_PIECE = 65_536
_MOST_PIECES = 200


class Request(NamedTuple):
    """A request: its nonce, its bytes, and the ways in which it may be answered."""

    nonce: str
    act: str
    method: str
    data: bytes
    kind: str


class Response(NamedTuple):
    """A response, or as much of it as came."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool


class _HangUp(Exception):
    """The client has done with this connection."""


class Wire:
    """A client's connection that hangs up after some bytes, in either direction, and may be slow."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random, *, hangs_up: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._chance = chance
        self._ahead = b""
        most = chance.choice([300, 300, 600, 2_000_000])
        self.writes = chance.randrange(most) if hangs_up and chance.random() < 0.5 else None
        """Bytes that are still written; None for all."""
        self.reads = chance.randrange(most) if hangs_up and self.writes is None else None
        """Bytes that are still read."""
        self.came = 0
        """Bytes that have come."""
        self.is_slow = chance.random() < 0.15
        self.piece = chance.choice([1, 7, 200]) if chance.random() < 0.2 else _PIECE

    def __str__(self) -> str:
        mine, limits = self._writer.get_extra_info("sockname"), (self.writes, self.reads)
        return f"{mine} {limits} slow {self.is_slow} piece {self.piece} ahead {self._ahead[:80]!r} read {self.came}"

    async def write(self, data: bytes) -> None:
        """Write all of it, in pieces; or as much as is to be written."""
        if self.writes is not None:
            data, left = data[: self.writes], self.writes - len(data)
            self.writes = max(left, 0)
        piece = max(self.piece, len(data) // _MOST_PIECES)
        for start in range(0, len(data), piece):
            self._writer.write(data[start : start + piece])
            await self._writer.drain()
            if piece < _PIECE:
                await asyncio.sleep(0.001)
        if self.writes == 0:
            if self._chance.random() < 0.2:
                self._writer.write_eof()
            else:
                self.close()
            raise _HangUp

    async def some(self) -> bytes:
        """Return some more bytes; none at the end."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        if self.is_slow:
            await asyncio.sleep(self._chance.random() * 0.01)
        most = self._chance.choice([100, 5_000, 60_000]) if self.is_slow else _PIECE
        if self.reads is not None:
            most = min(most, self.reads)
        data = await self._reader.read(most) if most else b""
        self.came += len(data)
        if self.reads is not None:
            self.reads -= len(data)
            if not self.reads:
                raise _HangUp
        return data

    def put_back(self, data: bytes) -> None:
        self._ahead = data + self._ahead

    async def until(self, end: bytes) -> bytes | None:
        """Return all up to `end`, and with it; None if the connection ends first."""
        data = b""
        while end not in data:
            more = await self.some()
            if not more:
                return None
            data += more
        found = data.index(end) + len(end)
        self.put_back(data[found:])
        return data[:found]

    async def up_to(self, length: int) -> bytes:
        """Return that many bytes; fewer if the connection ends first."""
        pieces: list[bytes] = []
        while length > 0 and (data := await self.some()):
            piece, rest = data[:length], data[length:]
            self.put_back(rest)
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Hang up: close, or reset."""
        if self._chance.random() < 0.4:
            linger = struct.pack("ii", 1, 0)
            with contextlib.suppress(OSError):
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        else:
            self._writer.close()


class Clients:
    """Clients of one token at a proxy. They keep what they have seen."""

    def __init__(self, port: int, token: str, seed: int) -> None:
        self._port = port
        self._token = token
        self._unknown = ("1" if token[0] == "0" else "0") + token[1:]
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._numbers = itertools.count()
        self.sent: set[str] = set()
        """The nonces of all requests that were begun."""
        self.answers: Counter[tuple[str, int]] = Counter()
        """Responses, by their act and status; 0 for one that broke off."""
        self.ids: dict[str, str] = {}
        """The proxy's ids of answered requests, by nonce."""
        self.wrong: list[str] = []
        """Responses that are not the ones to their requests."""
        self.kinds: Counter[str] = Counter()
        self.hang_ups = 0

    async def run(self, seconds: float, clients: int) -> None:
        """Have clients connect again and again, for some seconds."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(random.Random(self._chance.random()), end))  # noqa: S311

    async def _client(self, chance: random.Random, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            with contextlib.suppress(OSError):  # the proxy hung up, after a request that it refused
                await (self._over_http2(chance) if chance.random() < 0.03 else self._over_http1(chance))

    # -- HTTP/1

    async def _over_http1(self, chance: random.Random) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=chance.choice([1_000, 2**16]))
        wire = Wire(reader, writer, chance, hangs_up=chance.random() < 0.4)
        try:
            for _ in range(chance.choice([1, 2, 5, 20])):
                together = 1 if chance.random() < 0.7 else chance.randrange(2, 6)
                requests = [self._request(chance) for _ in range(together)]
                try:
                    async with asyncio.timeout(LIMIT):
                        goes_on = await self._exchange(wire, requests)
                except TimeoutError:
                    self.wrong.append(f"no end: {wire}: {[(*one[:3], one.kind, len(one.data)) for one in requests]}")
                    break
                if not goes_on:
                    break
        except _HangUp:
            self.hang_ups += 1
        finally:
            wire.close()

    async def _exchange(self, wire: Wire, requests: Sequence[Request]) -> bool:
        """Send requests at once, and read their responses. Returns whether the connection goes on."""
        self.sent.update(request.nonce for request in requests)
        self.kinds.update(request.kind for request in requests)
        writing = asyncio.create_task(wire.write(b"".join(request.data for request in requests)))
        try:
            ahead = sum(len(request.data) for request in requests)
            for request in requests:
                response = await _read_response(wire, request.method)
                ahead -= len(request.data)
                if response is None or (not response.is_whole and (wire.writes == 0 or ahead > MAX_AHEAD)):
                    return False  # it may have caused the cut, by an end of its own side, or by sending too much
                self._check(request, response)
                if not response.is_whole or response.headers.get("connection", "").lower() == "close":
                    return False
                if request.kind == "socket" and response.status == _SWITCH:
                    await self._talk(wire, request)
                    return False
                if request.kind == "malformed":
                    return False
            await writing
        finally:
            if writing.done():
                if not writing.cancelled() and isinstance(writing.exception(), _HangUp):
                    raise _HangUp
            else:
                writing.cancel()
                await asyncio.wait([writing])
        return True

    async def _talk(self, wire: Wire, request: Request) -> None:
        """Read the message of a WebSocket, and close it."""
        frame = await wire.up_to(2)
        message = await wire.up_to(frame[1] & 0x7F) if len(frame) > 1 else b""
        if frame[:1] == b"\x81" and not request.nonce.encode().startswith(message):
            self.wrong.append(f"{request.nonce}: the message {message!r}")
        await wire.write(b"\x88\x82\0\0\0\0\x03\xe8")

    def _request(self, chance: random.Random) -> Request:
        nonce = f"n{next(self._numbers):08}"
        act = chance.choice(WHOLE if chance.random() < 0.85 else BROKEN)
        kind = chance.choices(
            ["get", "post", "chunked", "expect", "socket", "malformed", "unknown token", "head", "last"],
            [30, 30, 8, 3, 2, 2, 3, 4, 3],
        )[0]
        token = self._token if kind != "unknown token" else self._unknown
        fields = ["Host: proxy", f"Authorization: Bearer {token}"]
        method, body = "GET", b""
        if kind in {"post", "chunked", "expect", "unknown token"}:
            method = chance.choice(["POST", "PUT", "PATCH"])
            body = (f"{nonce}\n".encode() * 150_001)[: chance.choice(_UPLOADS)]
        if kind == "head":
            method = "HEAD"
        if kind == "socket":
            act = "socket"
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            fields += ["Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 13"]
        if kind == "expect":
            fields.append("Expect: 100-continue")
        if kind == "last":
            fields.append("Connection: close")
        if kind == "malformed":
            fields.append(chance.choice(["Content-Length: +1", "Transfer-Encoding: cow", "X Y: z", "X : y", "Host: a"]))
        if kind == "chunked":
            fields.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _cut(body, chance)) + b"0\r\n\r\n"
        elif method not in {"GET", "HEAD"}:
            fields.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([f"{method} /v1/{act}/{nonce} HTTP/1.1", *fields, "", ""])
        return Request(nonce, act, method, head.encode() + body, kind)

    # -- HTTP/2

    async def _over_http2(self, chance: random.Random) -> None:
        async with Http2Client.connect(self._port) as client:
            asked = []
            for _ in range(chance.randrange(1, 6)):
                request = self._request(chance)._replace(method="GET", kind="http2")
                if request.act == "socket":
                    continue
                self.sent.add(request.nonce)
                self.kinds["http2"] += 1
                stream = client.get(f"/v1/{request.act}/{request.nonce}", self._token)
                if chance.random() < 0.1:
                    await asyncio.sleep(chance.random() * 0.1)
                    client.reset(stream)
                else:
                    asked.append((stream, request))
            for stream, request in asked:
                headers = await client.answer(stream)
                if headers is not None:
                    whole = len(client.body(stream)) == int(headers.get("content-length", -1))
                    response = Response(int(headers[":status"]), headers, client.body(stream), is_whole=whole)
                    self._check(request, response)

    # -- checks

    def _check(self, request: Request, response: Response) -> None:
        status = response.status if response.is_whole else 0
        self.answers[request.act, status] += 1
        mark = response.headers.get(MARK.lower())
        if (own := response.headers.get("x-llm-proxy-request-id")) and mark:
            self.ids[request.nonce] = own
        if mark is None:
            fault = self._fault_of_own(request, response)
        elif mark != request.nonce:
            fault = "the response to another request"
        else:
            fault = self._fault_of_upstreams(request, response)
        if fault:
            self.wrong.append(f"{request[:3]} {request.kind}: {fault}: {response.status} {response.headers}")

    def _fault_of_own(self, request: Request, response: Response) -> str | None:
        """Return why this cannot be the gateway's own response."""
        if request.method != "HEAD" and response.is_whole and b'"code":' not in response.body:
            return "no error of the gateway"
        expected = {"malformed": 400, "unknown token": 401}.get(request.kind, 503)
        return None if response.status == expected else "an unexpected error"

    def _fault_of_upstreams(self, request: Request, response: Response) -> str | None:
        """Return why this cannot be the upstream's response to the request."""
        expected = body_of("early" if request.act.startswith("early") else request.act, request.nonce)
        if request.act == "socket" or request.method == "HEAD" or response.status in _NO_BODY:
            expected = b""
        if request.kind == "malformed":
            return "it was malformed"
        if not expected.startswith(response.body):
            return "another body"
        if request.act in BROKEN or request.kind == "http2":
            return None
        return None if response.body == expected else "a part of the body"


async def _read_response(wire: Wire, method: str) -> Response | None:
    """Read a final response; None if there is none."""
    while True:
        head = await wire.until(b"\r\n\r\n")
        if head is None:
            return None
        line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        status = int(line.split(" ")[1])
        if status != _INTERIM:
            break
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    if method == "HEAD" or status in _NO_BODY or status == _SWITCH:
        return Response(status, headers, b"", is_whole=True)
    if headers.get("transfer-encoding") == "chunked":
        body, is_whole = await _read_chunks(wire)
        return Response(status, headers, body, is_whole=is_whole)
    if "content-length" in headers:
        length = int(headers["content-length"])
        body = await wire.up_to(length)
        return Response(status, headers, body, is_whole=len(body) == length)
    return Response(status, headers | {"connection": "close"}, await wire.up_to(2**40), is_whole=True)


async def _read_chunks(wire: Wire) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    while (line := await wire.until(b"\r\n")) is not None:
        size = int(line, 16)
        pieces.append(await wire.up_to(size))
        if await wire.up_to(2) != b"\r\n":
            break
        if not size:
            return b"".join(pieces), True
    return b"".join(pieces), False


def _cut(body: bytes, chance: random.Random) -> Iterator[bytes]:
    while body:
        size = chance.choice([1, 100, 50_000, 400_000])
        yield body[:size]
        body = body[size:]
