import functools
import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from support.gateway.requests import make_response

from addon.inspector.content_coding import decoded_start

BODY = bytes(range(256)) * 40
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": functools.partial(brotli.compress, quality=1),
    "zstd": zstandard.compress,
}
CODED = {
    "identity": BODY,
    **{coding: compress(BODY) for coding, compress in COMPRESS.items()},
    " GZIP ": gzip.compress(BODY),
}


def start(data: bytes, coding: str, limit: int = 100_000) -> bytes:
    response = make_response(("Content-Encoding", coding))
    response.raw_content = data
    return decoded_start(response, limit)


@pytest.mark.parametrize("coding", CODED)
def test_a_body_is_decoded_up_to_the_limit(coding: str) -> None:
    assert start(CODED[coding], coding) == BODY
    assert start(CODED[coding], coding, 1000) == BODY[:1000]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_was_cut_is_decoded_as_far_as_it_goes(coding: str) -> None:
    text = b"".join(b"%d, " % number**5 for number in range(20_000))
    whole = COMPRESS[coding](text)
    decoded = start(whole[: len(whole) // 2], coding, len(text))
    assert len(decoded) > 0
    assert text.startswith(decoded)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_small_body_does_not_become_a_huge_one(coding: str) -> None:
    coded = COMPRESS[coding](bytes(30_000_000))
    tracemalloc.start()
    try:
        assert start(coded, coding, 1000) == bytes(1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "new"])
def test_what_cannot_be_decoded_raises(coding: str) -> None:
    with pytest.raises(ValueError, match=f"{coding}"):
        start(b"no such thing at all", coding)


def test_no_body_is_an_empty_one() -> None:
    response = make_response()
    response.raw_content = None
    assert decoded_start(response, 10) == b""
