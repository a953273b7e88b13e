import functools
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.load.effort import passes

from addon.protocol.content_coding import STEP, ContentDecoder, decoded_start

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZIP ": gzip.compress,
    "deflate": zlib.compress,
    "br": functools.partial(brotli.compress, quality=1),
    "zstd": zstandard.compress,
}
CODINGS = ["gzip", "deflate", "br", "zstd"]
BODY = b"".join(b"data: %d\n\n" % number**3 for number in range(3000))


def decoded(coding: str, chunks: Iterable[bytes]) -> bytes:
    decoder = ContentDecoder(coding)
    return b"".join(piece for chunk in chunks for piece in decoder.feed(chunk))


def in_chunks(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


@pytest.mark.parametrize("length", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("coding", COMPRESS)
def test_a_body_is_decoded_in_chunks_of_any_size(coding: str, length: int) -> None:
    assert decoded(coding, in_chunks(COMPRESS[coding](BODY), length)) == BODY


@pytest.mark.parametrize("length", [1, 7, 10**6])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_and_frames_are_decoded(coding: str, length: int) -> None:
    several = COMPRESS[coding](BODY) + COMPRESS[coding](b"") + COMPRESS[coding](b"more")
    assert decoded(coding, in_chunks(several, length)) == BODY + b"more"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bytes_after_a_body_are_ignored(coding: str) -> None:
    assert decoded(coding, [COMPRESS[coding](BODY) + b"junk", b"more junk"]) == BODY


@pytest.mark.parametrize("coding", CODINGS)
def test_a_huge_body_is_decoded_in_bounded_steps(coding: str) -> None:
    size = 20 * STEP + 123
    coded = COMPRESS[coding](bytes(size))
    tracemalloc.start()
    try:
        lengths = list(map(len, ContentDecoder(coding).feed(coded)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(lengths) == size
    assert max(lengths) <= STEP
    assert peak < 6 * STEP


@pytest.mark.parametrize("length", [1, 10**6])
def test_a_small_body_of_brotlis_best_quality_is_decoded_to_its_end(length: int) -> None:
    body = bytes(3 * STEP)
    coded = brotli.compress(body, quality=11)
    assert len(coded) < 100
    assert decoded("br", in_chunks(coded, length)) == body


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_in_another_coding_raises(coding: str) -> None:
    with pytest.raises(ValueError, match=coding):
        decoded(coding, [b"no such thing at all"])


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "\ud800"])
def test_an_unknown_coding_raises(coding: str) -> None:
    with pytest.raises(ValueError, match="unknown content coding"):
        ContentDecoder(coding)


@given(st.sampled_from(CODINGS), st.lists(st.binary(max_size=50)), st.integers(0, 300))
def test_corrupt_bytes_are_decoded_or_raise(coding: str, chunks: list[bytes], intact: int) -> None:
    try:
        decoded(coding, [COMPRESS[coding](BODY)[:intact], *chunks])
    except ValueError as error:
        assert str(error).startswith(f"no {coding}: ")  # noqa: PT017 - it may also be decoded


@pytest.mark.parametrize("length", [20, 10**7])
def test_too_many_members_raise(length: int) -> None:
    several = in_chunks(gzip.compress(b"") * 50_000, length)

    def decode() -> None:
        with pytest.raises(ValueError, match="too many members"):
            decoded("gzip", several)

    assert passes(decode) < 8  # 0.4


STARTS = {"": BODY, "identity": BODY, **{coding: COMPRESS[coding](BODY) for coding in (*CODINGS, " GZIP ")}}


@pytest.mark.parametrize("coding", STARTS)
def test_the_start_of_a_body_is_decoded_up_to_the_limit(coding: str) -> None:
    assert decoded_start(STARTS[coding], coding, 100_000) == BODY[:100_000]
    assert decoded_start(STARTS[coding], coding, 1000) == BODY[:1000]
    assert decoded_start(b"", coding, 1000) == b""


@pytest.mark.parametrize("coding", CODINGS)
def test_the_start_of_a_body_that_was_cut_is_decoded_as_far_as_it_goes(coding: str) -> None:
    text = b"".join(b"%d, " % number**5 for number in range(20_000))
    whole = COMPRESS[coding](text)
    decoded = decoded_start(whole[: len(whole) // 2], coding, len(text))
    assert len(decoded) > 0
    assert text.startswith(decoded)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_the_start_of_a_huge_body_takes_little_memory(coding: str) -> None:
    coded = COMPRESS[coding](bytes(30_000_000))
    tracemalloc.start()
    try:
        assert decoded_start(coded, coding, 1000) == bytes(1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("coding", [*CODINGS, "new"])
def test_the_start_of_a_body_that_cannot_be_decoded_raises(coding: str) -> None:
    with pytest.raises(ValueError, match=coding):
        decoded_start(b"no such thing at all", coding, 1000)
