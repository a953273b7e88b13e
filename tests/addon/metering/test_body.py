"""The bounds of decoding."""

import functools
import gzip
import json
from collections.abc import Callable

import brotli
import pytest
import zstandard
from support.load.effort import passes
from support.upstreams.events import chunk, sse

from addon.metering.body import ALLOWANCE, GROWTH, Body
from addon.metering.event_stream import EventStream

MIB = 1024 * 1024
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": functools.partial(brotli.compress, quality=1),
    "zstd": zstandard.compress,
}


def read(coding: str, data: bytes, growth: int = GROWTH, step: int = 64 * 1024) -> tuple[int, bool]:
    """Return the number of decoded bytes, and True if the body is complete."""
    lengths: list[int] = []
    body = Body(coding, lambda piece: lengths.append(len(piece)), growth)
    for start in range(0, len(data), step):
        body.feed(data[start : start + step])
    return sum(lengths), body.is_readable


@pytest.mark.parametrize("coding", CODINGS)
def test_the_size_of_a_decoded_body_is_bounded(coding: str) -> None:
    coded = CODINGS[coding](bytes(30 * MIB))
    for growth in (0, GROWTH):
        size, is_readable = read(coding, coded, growth)
        assert ALLOWANCE - MIB < size <= ALLOWANCE + growth * len(coded)
        assert not is_readable


def test_a_usual_stream_is_decoded_as_a_whole() -> None:
    block = b"".join(sse(chunk(f" {number**3}", id=f"chatcmpl-{number**2}")) for number in range(5000))
    data = block * (2 * ALLOWANCE // len(block))
    coded = gzip.compress(data, 6)
    assert read("gzip", coded) == (len(data), True)
    assert not read("gzip", coded, growth=0)[1]


@pytest.mark.parametrize(
    "stream",
    [
        b"\n",
        b"\r",
        b":\n",
        b'data: {"usage":{"prompt_tokens":1},"model":"m"}\n\n',
        b'data: {"usage":{},"x":[' + b"[]," * 1_300_000 + b"[]]}\n\n",
        b'data: {"delta":[' + b"[]," * 1_300_000 + b"[]]}\n\n",
    ],
    ids=["lf", "cr", "comments", "usages", "nested", "nested texts"],
)
def test_a_stream_that_is_slow_to_read_is_soon_abandoned(stream: bytes) -> None:
    coded = brotli.compress(stream * (32 * MIB // len(stream)), quality=5)

    def leave() -> None:
        events = EventStream("/v1/chat/completions")
        body = Body("br", events.feed)
        body.feed(coded)
        events.consumptions(None)
        assert not body.is_readable

    assert passes(leave) < 130  # at most 40; hundreds without a bound


def test_a_compressed_request_costs_little() -> None:
    coded = brotli.compress(json.dumps({"a": " " * 100 * MIB}).encode(), quality=1)
    assert read("br", coded, 0)[0] <= ALLOWANCE
    assert passes(lambda: read("br", coded, 0)) < 8  # 1.6
