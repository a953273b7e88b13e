import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addon.protocol.excerpt import EDGE, Excerpt, model_in_form

FORM_TYPE = "multipart/form-data; boundary=----x; charset=utf-8"


def excerpt(data: bytes, most: int = EDGE, step: int = 10_000) -> Excerpt:
    kept = Excerpt(most)
    for start in range(0, len(data), step):
        kept.feed(data[start : start + step])
    return kept


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = b"".join(
        b'------x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return parts + b"------x--\r\n"


BOM = b"\xef\xbb\xbf"


@given(st.lists(st.binary(max_size=EDGE), max_size=8), st.sampled_from([EDGE, 2 * EDGE]))
@example([BOM], EDGE)
def test_a_body_is_kept_whole_or_at_its_edges(chunks: list[bytes], most: int) -> None:
    kept, data = Excerpt(most), b"".join(chunks)
    for chunk in chunks:
        kept.feed(chunk)
    assert kept.size == len(data)
    shown = data.removeprefix(BOM)
    assert kept.whole() == (shown if len(data) <= most else None)
    assert (kept.start(), kept.end()) == (data[:EDGE].removeprefix(BOM), data[-EDGE:])


@pytest.mark.parametrize("step", [100, EDGE, 10 * EDGE])
def test_a_long_body_takes_no_more_than_its_edges(step: int) -> None:
    kept = Excerpt()
    tracemalloc.start()
    try:
        for _ in range(10_000_000 // step):
            kept.feed(bytes(step))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 6 * EDGE


def test_a_mark_of_the_byte_order_is_not_shown() -> None:
    kept = excerpt(b"\xef\xbb\xbf{}", step=1)
    assert (kept.whole(), kept.start()) == (b"{}", b"{}")


@given(st.binary(max_size=100))
def test_no_bytes_raise(data: bytes) -> None:
    model_in_form(excerpt(data), FORM_TYPE)


@pytest.mark.parametrize(
    "fields",
    [
        [("model", b"whisper-1"), ("file", bytes(10))],
        [("file", bytes(10)), ("model", b"whisper-1")],
        [("model", b"whisper-1"), ("file", bytes(3 * EDGE))],
        [("file", bytes(3 * EDGE)), ("model", b"whisper-1"), ("language", b"en")],
        [("file", b'name="model"\r\n\r\nfake\r\n'), ("mode", b"a"), ("model_x", b"b"), ("model", b"whisper-1")],
    ],
)
def test_a_form_tells_its_model(fields: list[tuple[str, bytes]]) -> None:
    assert model_in_form(excerpt(form(*fields)), FORM_TYPE) == "whisper-1"
    assert model_in_form(excerpt(form(*fields)), 'multipart/form-data; Boundary="----x"') == "whisper-1"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=\ud800", ""])
def test_a_form_without_a_boundary_tells_nothing(content_type: str) -> None:
    assert model_in_form(excerpt(form(("model", b"m"))), content_type) is None


def test_a_form_without_a_model_tells_nothing() -> None:
    assert model_in_form(excerpt(form(("file", b"x"))), FORM_TYPE) is None
