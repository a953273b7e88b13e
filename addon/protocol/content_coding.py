"""Decodes HTTP's content codings incrementally and in small steps: a small body can become a huge one.

mitmproxy decodes a whole body at once, without a bound, and rejects Brotli that was cut.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping

import brotli
import zstandard

STEP = 1024 * 1024
"""Upper bound in bytes of what one step of decoding yields."""

_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_GZIP_START = b"\x1f"
ZLIB_SLICE = 64 * 1024
"""Bytes that zlib is given at once: after each step and each member it copies the input that it has not used."""
_MAX_MEMBERS = 1000
"""Members of one body. An empty one takes twenty bytes, and each needs a new decoder."""
MAX_WINDOW = 8 * 1024 * 1024
"""Bytes: the window that every decoder of zstd has to support (RFC 9659)."""
BROTLI_LIMIT = STEP // 4
"""Bytes; brotli rounds up to the size of its blocks."""
ZSTD_SLICE = 32
"""Bytes of zstd that decode to no more than a step: its decoder has no bound, and four bytes become 128 KiB at most."""

type _Steps = Callable[[bytes], Iterator[bytes]]


class ContentDecoder:
    """Decodes one body. Raises ValueError for a coding that is not known."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.strip().lower() or "identity"
        if self._coding not in _CODINGS:
            raise ValueError(f"unknown content coding {self._coding}")
        self._steps = _CODINGS[self._coding]()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, at most STEP at once. Raises ValueError where the data is not of this coding."""
        try:
            yield from self._steps(data)
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise ValueError(f"no {self._coding}: {error}") from error


def decoded_start(data: bytes, coding: str, limit: int) -> bytes:
    """Return the first bytes of a decoded body, at most `limit`; of a body that was cut as far as it goes.

    Raises ValueError if it cannot be decoded.
    """
    start = bytearray()
    for piece in ContentDecoder(coding).feed(data):
        start += piece
        if len(start) >= limit:
            break
    return bytes(start[:limit])


def _identity() -> _Steps:
    def steps(data: bytes) -> Iterator[bytes]:
        yield data

    return steps


def _zlib() -> _Steps:
    """Decode gzip, which may have several members, or zlib; bytes after them are ignored."""
    member = zlib.decompressobj(_GZIP_OR_ZLIB)
    members = 1

    def begin() -> None:
        nonlocal member, members
        members += 1
        if members > _MAX_MEMBERS:
            raise zlib.error("too many members")
        member = zlib.decompressobj(_GZIP_OR_ZLIB)

    def slice_steps(data: bytes) -> Iterator[bytes]:
        if member.eof and data.startswith(_GZIP_START):
            begin()
        while not member.eof:
            piece = member.decompress(data, STEP)
            yield piece
            data = member.unconsumed_tail
            if member.unused_data.startswith(_GZIP_START):
                data = member.unused_data
                begin()
            elif not data and len(piece) < STEP:
                return

    def steps(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZLIB_SLICE):
            yield from slice_steps(data[start : start + ZLIB_SLICE])

    return steps


def _brotli() -> _Steps:
    decompressor = brotli.Decompressor()

    def steps(data: bytes) -> Iterator[bytes]:
        while not decompressor.is_finished():
            piece = decompressor.process(data, output_buffer_limit=BROTLI_LIMIT)
            yield piece
            if not piece and decompressor.can_accept_more_data():  # it takes more before it has given all
                return
            data = b""

    return steps


def _zstd() -> _Steps:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj(read_across_frames=True)

    def steps(data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_SLICE):
            yield decompressor.decompress(data[start : start + ZSTD_SLICE])

    return steps


_CODINGS: Mapping[str, Callable[[], _Steps]] = {
    "identity": _identity,
    "gzip": _zlib,
    "x-gzip": _zlib,
    "deflate": _zlib,
    "br": _brotli,
    "zstd": _zstd,
}
