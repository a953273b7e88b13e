import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.metering.excerpt import EDGE, Excerpt, fields_of, model_in_form

USAGE = {"prompt_tokens": 5}
LONG = [0.12345] * 20_000
FORM_TYPE = "multipart/form-data; boundary=----x; charset=utf-8"


def excerpt(data: bytes, most: int = EDGE, step: int = 10_000) -> Excerpt:
    kept = Excerpt(most)
    for start in range(0, len(data), step):
        kept.feed(data[start : start + step])
    return kept


def read(document: object) -> dict[str, object]:
    return fields_of(excerpt(json.dumps(document).encode()))


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = b"".join(
        b'------x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return parts + b"------x--\r\n"


@given(st.lists(st.binary(max_size=EDGE), max_size=8), st.sampled_from([EDGE, 2 * EDGE]))
def test_a_body_is_kept_whole_or_at_its_edges(chunks: list[bytes], most: int) -> None:
    kept, data = Excerpt(most), b"".join(chunks)
    for chunk in chunks:
        kept.feed(chunk)
    assert kept.size == len(data)
    assert kept.whole() == (data if len(data) <= most else None)
    assert (kept.start(), kept.end()) == (data[:EDGE], data[-EDGE:])


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


def test_all_fields_of_a_small_document_are_told() -> None:
    document = {"usage": USAGE, "model": "m", "other": [1]}
    assert read(document) == document


@pytest.mark.parametrize(
    "document",
    [
        {"data": LONG, "model": "m", "usage": USAGE, "service_tier": "flex", "user": None},
        {"model": "m", "service_tier": "flex", "usage": USAGE, "data": LONG},
        {"model": "m", "data": LONG, "usage": USAGE, "data2": LONG[:1000], "service_tier": "flex"},
        {"data": LONG, "service_tier": "flex", "data2": [{"model": "n"}] * 20, "usage": USAGE, "model": "m", "a": {}},
    ],
)
def test_of_a_large_document_the_fields_near_its_edges_are_told(document: dict[str, object]) -> None:
    found = read(document)
    assert {name: found[name] for name in ("usage", "model", "service_tier")} == {
        "usage": USAGE,
        "model": "m",
        "service_tier": "flex",
    }


@pytest.mark.parametrize(
    "document",
    [
        {"data": LONG, "last": {"usage": USAGE}},
        {"data": LONG, "last": [{"usage": USAGE}]},
        {"data": LONG, "last": {"usage": USAGE, "more": 1}, "other": 1},
        {"data": LONG, "text": json.dumps({"usage": USAGE})},
        {"data": LONG, 'x"usage': USAGE},
        [*LONG, {"usage": USAGE}],
    ],
)
def test_a_usage_that_is_not_the_documents_own_is_not_taken(document: object) -> None:
    assert "usage" not in read(document)


def test_of_two_usages_the_documents_own_is_taken() -> None:
    inner = {"usage": {"prompt_tokens": 99}}
    assert read({"data": LONG, "usage": USAGE, "last": [inner] * 10})["usage"] == USAGE


def test_white_space_and_an_end_of_line_do_no_harm() -> None:
    data = json.dumps({"data": LONG, "usage": USAGE}, indent=1).replace(":", " : ").encode() + b"\n"
    assert fields_of(excerpt(data))["usage"] == USAGE


@pytest.mark.parametrize("most", [EDGE, 100 * EDGE])
def test_a_large_document_that_was_cut_tells_its_start_alone(most: int) -> None:
    data = json.dumps({"model": "m", "data": LONG, "usage": USAGE}).encode()[:-1]
    assert fields_of(excerpt(data, most)) == {"model": "m"}


def test_the_field_in_which_a_document_was_cut_is_not_told() -> None:
    whole = json.dumps({"model": "gpt-4o", "usage": {"prompt_tokens": 1234, "completion_tokens": 5678}}).encode()
    for length in range(len(whole)):
        found = fields_of(excerpt(whole[:length]))
        assert found in ({}, {"model": "gpt-4o"})


@given(st.binary(max_size=100))
def test_no_bytes_raise(data: bytes) -> None:
    fields_of(excerpt(data))
    fields_of(excerpt(bytes(EDGE) + data))
    model_in_form(excerpt(data), FORM_TYPE)


def test_a_document_made_to_be_slow_is_read_fast() -> None:
    body = excerpt(b'{"usage":' * 30_000)
    start = time.process_time()
    fields_of(body)
    assert time.process_time() - start < 0.2


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
