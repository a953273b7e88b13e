"""An upstream that answers each request with the request's own nonce, in all ways in which upstreams answer and fail.

The path of a request names the way and the nonce: `/v1/<act>/<nonce>`. Head and body of the response hold the nonce, so
that a response tells which request it answers; so does the request's body, which must be as `body_of` makes it.
"""

import asyncio
import base64
import contextlib
import hashlib
import random
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, Self

MARK = "X-Nonce"
IDLE = 5.0
"""Seconds after which a connection without a request is closed."""

POISON = b"HTTP/1.1 200 OK\r\nX-Nonce: poison\r\nContent-Length: 6\r\n\r\npoison"

_HEAD = re.compile(rb"([A-Z]+) /v1/([a-z0-9-]+)/(n[0-9]+) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r]+)", re.IGNORECASE)
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PIECES = 8

SIZES = {"medium": 300_000, "large": 2_000_000, "slow": 64, "early": 200}
"""Bytes of the bodies that are not small."""


class Asked(NamedTuple):
    """A request that the upstream has read."""

    method: str
    act: str
    nonce: str
    head: bytes


def body_of(act: str, nonce: str) -> bytes:
    """Return the body that answers a request; the nonce, again and again."""
    size = SIZES.get(act, 40)
    return (f"{nonce}\n".encode() * (size // (len(nonce) + 1) + 1))[:size]


class EchoUpstream:
    """The upstream, in the event loop of the test."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        """The nonces of the requests whose heads have come."""
        self.faults: list[str] = []
        """Requests that no client has sent."""
        self.open: set[asyncio.StreamWriter] = set()
        """The connections."""
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        upstream = cls()
        server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0, limit=2**16, backlog=512, ssl=tls)
        scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
        upstream.url = f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}"
        try:
            yield upstream
        finally:
            server.close()
            for writer in [*upstream.open]:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        stays = IDLE
        try:
            while True:
                async with asyncio.timeout(stays):
                    head = await reader.readuntil(b"\r\n\r\n")
                if not await self._answer(head, reader, writer):
                    return
                stays = 1 if b"/one-second/" in head else IDLE
        except (OSError, asyncio.IncompleteReadError):
            pass  # the proxy hung up, or was silent for too long
        finally:
            self.open.discard(writer)
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request. Returns whether the connection goes on."""
        found = _HEAD.match(head)
        if found is None:
            self.faults.append(f"a head that is no request: {head[:200]!r}")
            return False
        method, act, nonce = (part.decode() for part in found.groups())
        asked = Asked(method, act, nonce, head)
        self.seen[asked.nonce] += 1
        if asked.act.startswith("early"):
            await _send(writer, _response(asked, body_of("early", asked.nonce)))
            if asked.act == "early-close":
                return False
            await self._read_body(reader, asked)
            return True
        await self._read_body(reader, asked)
        return await _ACTS[asked.act](asked, writer)

    async def _read_body(self, reader: asyncio.StreamReader, asked: Asked) -> None:
        body = b""
        if b"\r\ntransfer-encoding:" in asked.head.lower():
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif length := _LENGTH.search(asked.head):
            body = await reader.readexactly(int(length[1]))
        if body != (f"{asked.nonce}\n".encode() * (len(body) // 10 + 1))[: len(body)]:
            self.faults.append(f"the body of another request than {asked[:3]}: {body[:40]!r}")


def _response(asked: Asked, body: bytes, *headers: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    """Write a response that states its length."""
    return _head(asked, f"Content-Length: {len(body)}", *headers, status=status, version=version) + (
        b"" if asked.method == "HEAD" else body
    )


def _head(asked: Asked, *headers: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    lines = [f"{version} {status}", f"{MARK}: {asked.nonce}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _pieces(asked: Asked) -> list[bytes]:
    body = body_of(asked.act, asked.nonce)
    step = len(body) // _PIECES
    return [body[start : start + step] for start in range(0, len(body), step)]


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _plain(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    await _send(writer, _response(asked, body_of(asked.act, asked.nonce), "Content-Type: application/json"))
    return True


async def _with_status(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    status = {"no-content": "204 No Content", "not-modified": "304 Not Modified", "rejected": "401 Unauthorized"}
    body = body_of(asked.act, asked.nonce)
    if asked.act in {"no-content", "not-modified"}:
        await _send(writer, _head(asked, status=status[asked.act]))
    else:
        await _send(writer, _response(asked, body, status=status.get(asked.act, "500 Internal Server Error")))
    return True


async def _in_chunks(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Stream events, or anything else in chunks, with pauses; or break off."""
    kind = "text/event-stream" if asked.act == "events" else "application/octet-stream"
    await _send(writer, _head(asked, "Transfer-Encoding: chunked", f"Content-Type: {kind}"))
    if asked.method == "HEAD":
        return True
    for number, piece in enumerate(_pieces(asked)):
        if asked.act == "cut-chunks" and number == _PIECES // 2:
            return False
        await _send(writer, b"%x\r\n%b\r\n" % (len(piece), piece))
        await asyncio.sleep(0.002 * (asked.act == "events"))
    await _send(writer, b"0\r\n\r\n")
    return True


async def _until_close(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    await _send(writer, _head(asked))
    if asked.method != "HEAD":
        await _send(writer, body_of(asked.act, asked.nonce))
    return False


async def _of_http_10(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    await _send(writer, _response(asked, body_of(asked.act, asked.nonce), version="HTTP/1.0"))
    return False


async def _slow(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    for byte in _response(asked, body_of(asked.act, asked.nonce)):
        await _send(writer, bytes([byte]))
        await asyncio.sleep(0.001)
    return True


async def _interim(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    interim = b"HTTP/1.1 103 Early Hints\r\nX-Nonce: interim\r\n\r\n" + b"HTTP/1.1 100 Continue\r\n\r\n" * 3
    await _send(writer, interim + _response(asked, body_of(asked.act, asked.nonce)))
    return True


async def _surplus(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Send more than the response; it must reach no client."""
    await _send(writer, _response(asked, body_of(asked.act, asked.nonce)) + random.Random(asked.nonce).choice(_MORE))  # noqa: S311
    return True


_MORE = (POISON, POISON * 3, b"\r\n", b"\0", b"HTTP/1.1 100 Continue\r\n\r\n", POISON[:20])


async def _saying_so(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Close after the response and say so, or say for how long the connection stays."""
    says = {"last": "Connection: close", "one-second": "Keep-Alive: timeout=1", "at-once": "Connection: keep-alive"}
    await _send(writer, _response(asked, body_of(asked.act, asked.nonce), says[asked.act]))
    return asked.act == "one-second"


async def _cut(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Break off at any byte of a response, or reset the connection there."""
    response = _response(asked, body_of(asked.act, asked.nonce))
    await _send(writer, response[: random.Random(asked.nonce).randrange(len(response))])  # noqa: S311
    if asked.act == "reset":
        _reset(writer)
    return False


async def _malformed(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    await _send(writer, _head(asked, "Content-Length: 5", "Content-Length: 6") + POISON)
    return True


async def _socket(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Open a WebSocket, send a message with the nonce, and close."""
    key = _KEY.search(asked.head)
    if key is None:
        return False
    accept = base64.b64encode(hashlib.sha1(key[1] + _ACCEPT, usedforsecurity=False).digest()).decode()
    switch = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}")
    await _send(writer, _head(asked, *switch, status="101 Switching Protocols"))
    message = asked.nonce.encode()
    await _send(writer, b"\x81%c%b\x88\x02\x03\xe8" % (len(message), message))
    await asyncio.sleep(0.05)
    return False


_ACTS: dict[str, Callable[[Asked, asyncio.StreamWriter], Awaitable[bool]]] = {
    **dict.fromkeys(("json", "medium", "large"), _plain),
    **dict.fromkeys(("no-content", "not-modified", "rejected", "error"), _with_status),
    **dict.fromkeys(("events", "chunks", "cut-chunks"), _in_chunks),
    **dict.fromkeys(("last", "one-second", "at-once"), _saying_so),
    **dict.fromkeys(("cut", "reset"), _cut),
    "until-close": _until_close,
    "http10": _of_http_10,
    "slow": _slow,
    "interim": _interim,
    "surplus": _surplus,
    "malformed": _malformed,
    "socket": _socket,
}

WHOLE = (
    *("json", "json", "json", "medium", "large", "events", "chunks", "until-close", "http10", "slow", "interim"),
    *("surplus", "last", "one-second", "at-once", "no-content", "not-modified", "error", "early"),
)
"""The acts that answer; some are likelier than others."""

BROKEN = ("cut", "cut-chunks", "reset", "malformed", "rejected", "early-close")
"""The acts that fail, or may fail."""
