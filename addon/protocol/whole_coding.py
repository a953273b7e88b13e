"""Decodes a body that is exactly one stream of a content coding: complete, and nothing after it.

Readers differ on all else: whether a second member or frame is read, and whether a body that was cut is an error. The
steps are small, as in `content_coding`.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import brotli
import zstandard

from addon.protocol.content_coding import BROTLI_LIMIT, MAX_WINDOW, STEP, ZLIB_SLICE, ZSTD_SLICE

_GZIP_ALONE = zlib.MAX_WBITS + 16


class _Stream(Protocol):
    """One stream of a coding."""

    def is_complete(self) -> bool:
        """Tell whether the stream has ended, and nothing came after it."""

    def steps(self, data: bytes) -> Iterator[bytes]:
        """Yield the next decoded bytes, at most STEP at once."""


class WholeDecoder:
    """Decodes one body in gzip, x-gzip, br or zstd. Raises ValueError for other codings."""

    def __init__(self, coding: str) -> None:
        if coding not in _STREAMS:
            raise ValueError(f"no whole content coding {coding}")
        self._stream = _STREAMS[coding]()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, at most STEP at once.

        Raises ValueError where the data is not of this coding, or goes on after its end.
        """
        if data and self._stream.is_complete():
            raise ValueError("bytes after the end")
        try:
            yield from self._stream.steps(data)
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise ValueError(str(error)) from error

    def finish(self) -> None:
        """Raise ValueError if the body is not complete."""
        if not self._stream.is_complete():
            raise ValueError("the body was cut")


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_ALONE)

    def is_complete(self) -> bool:
        return self._member.eof and not self._member.unused_data

    def steps(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZLIB_SLICE):
            rest = data[start : start + ZLIB_SLICE]
            piece = b""
            while (rest or len(piece) == STEP) and not self._member.eof:
                piece = self._member.decompress(rest, STEP)
                yield piece
                rest = self._member.unconsumed_tail
            if self._member.unused_data or (self._member.eof and start + ZLIB_SLICE < len(data)):
                raise ValueError("bytes after the end")


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    def is_complete(self) -> bool:
        complete: bool = self._decompressor.is_finished()
        return complete

    def steps(self, data: bytes) -> Iterator[bytes]:
        piece = data
        while piece or not self._decompressor.can_accept_more_data():  # bytes after the end are an error of its own
            piece = self._decompressor.process(data, output_buffer_limit=BROTLI_LIMIT)
            yield piece
            data = b""


class _Zstd:
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()

    def is_complete(self) -> bool:
        return self._frame.eof and not self._frame.unused_data

    def steps(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_SLICE):
            if self._frame.eof:
                raise ValueError("bytes after the end")
            yield self._frame.decompress(data[start : start + ZSTD_SLICE])
        if self._frame.unused_data:
            raise ValueError("bytes after the end")


_STREAMS: Mapping[str, Callable[[], _Stream]] = {"br": _Brotli, "gzip": _Gzip, "x-gzip": _Gzip, "zstd": _Zstd}
