import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
import zstandard

from addon.protocol.content_coding import STEP
from addon.protocol.whole_coding import WholeDecoder

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
BODIES = [b"", b"a", bytes(3 * STEP), random.Random(1).randbytes(20_000)]  # noqa: S311 - no secret


def decoded(coding: str, chunks: Iterable[bytes]) -> bytes:
    decoder = WholeDecoder(coding)
    data = b"".join(piece for chunk in chunks for piece in decoder.feed(chunk))
    decoder.finish()
    return data


def in_chunks(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


@pytest.mark.parametrize("length", [1, 7, 65536, 10**7])
@pytest.mark.parametrize("coding", COMPRESS)
def test_a_whole_body_is_decoded_in_chunks_of_any_size(coding: str, length: int) -> None:
    for body in BODIES:
        assert decoded(coding, [b"", *in_chunks(COMPRESS[coding](body), length), b""]) == body


@pytest.mark.parametrize("length", [1, 10, 10**7])
@pytest.mark.parametrize("coding", COMPRESS)
def test_a_body_that_was_cut_or_goes_on_raises(coding: str, length: int) -> None:
    for body in BODIES:
        whole = COMPRESS[coding](body)
        for wrong in (
            whole[:-1],
            whole[: len(whole) // 2],
            whole + b"\0",
            whole + whole,
            whole + COMPRESS[coding](b""),
        ):
            with pytest.raises(ValueError, match=r"."):
                decoded(coding, in_chunks(wrong, length))


@pytest.mark.parametrize("coding", COMPRESS)
def test_nothing_and_other_bytes_raise(coding: str) -> None:
    for wrong in (b"", b"no such thing at all", zlib.compress(b"a" * 100)):
        with pytest.raises(ValueError, match=r"."):
            decoded(coding, [wrong])


@pytest.mark.parametrize("coding", ["deflate", "identity", "", "GZIP", "gzip, br"])
def test_another_coding_raises(coding: str) -> None:
    with pytest.raises(ValueError, match="no whole content coding"):
        WholeDecoder(coding)


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_huge_body_is_decoded_in_bounded_steps(coding: str) -> None:
    coded = COMPRESS[coding](bytes(20 * STEP))
    tracemalloc.start()
    try:
        lengths = list(map(len, WholeDecoder(coding).feed(coded)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(lengths) == 20 * STEP
    assert max(lengths) <= STEP
    assert peak < 6 * STEP
