import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addon.protocol.head_and_tail import EDGE, HeadAndTail


def fed(data: bytes, most: int = EDGE, step: int = 10_000) -> HeadAndTail:
    kept = HeadAndTail(most)
    for start in range(0, len(data), step):
        kept.feed(data[start : start + step])
    return kept


BOM = b"\xef\xbb\xbf"


@given(st.lists(st.binary(max_size=EDGE), max_size=8), st.sampled_from([EDGE, 2 * EDGE]))
@example([BOM], EDGE)
def test_a_small_body_is_kept_whole_and_a_large_one_at_both_ends(chunks: list[bytes], most: int) -> None:
    kept, data = HeadAndTail(most), b"".join(chunks)
    for chunk in chunks:
        kept.feed(chunk)
    assert kept.size == len(data)
    shown = data.removeprefix(BOM)
    assert kept.whole() == (shown if len(data) <= most else None)
    assert (kept.start(), kept.end()) == (data[:EDGE].removeprefix(BOM), data[-EDGE:])


@pytest.mark.parametrize("step", [100, EDGE, 10 * EDGE])
def test_the_memory_of_a_long_body_is_bounded(step: int) -> None:
    kept = HeadAndTail()
    tracemalloc.start()
    try:
        for _ in range(10_000_000 // step):
            kept.feed(bytes(step))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 6 * EDGE


def test_a_byte_order_mark_is_not_returned() -> None:
    kept = fed(b"\xef\xbb\xbf{}", step=1)
    assert (kept.whole(), kept.start()) == (b"{}", b"{}")
