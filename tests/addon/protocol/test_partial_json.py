"""The fields of JSON that is too large, was cut, or is invalid."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.load.effort import passes
from support.upstreams.events import chunk, response

from addon.protocol import partial_json
from addon.protocol.head_and_tail import EDGE, HeadAndTail
from addon.protocol.json_fields import parse
from addon.protocol.partial_json import MAX_WHOLE, fields_of, fields_of_event

USAGE = {"prompt_tokens": 5}
LONG = [0.12345] * 20_000
HUGE = "x" * (MAX_WHOLE + 1)


def fed(data: bytes, most: int = EDGE) -> HeadAndTail:
    kept = HeadAndTail(most)
    kept.feed(data)
    return kept


def read(document: object, *, is_whole: bool = True) -> dict[str, object]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return fields_of(fed(data), is_whole=is_whole)


def test_all_fields_of_a_small_document_are_returned() -> None:
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
def test_the_fields_near_the_ends_of_a_large_document_are_returned(document: dict[str, object]) -> None:
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
def test_a_nested_usage_is_not_returned(document: object) -> None:
    assert "usage" not in read(document)


def test_the_top_level_one_of_two_usages_is_returned() -> None:
    inner = {"usage": {"prompt_tokens": 99}}
    assert read({"data": LONG, "usage": USAGE, "last": [inner] * 10})["usage"] == USAGE


def test_white_space_and_a_final_line_end_are_accepted() -> None:
    data = json.dumps({"data": LONG, "usage": USAGE}, indent=1).replace(":", " : ").encode() + b"\n"
    assert read(data)["usage"] == USAGE


@pytest.mark.parametrize("most", [EDGE, 100 * EDGE])
def test_only_the_start_of_a_large_document_that_was_cut_is_read(most: int) -> None:
    data = json.dumps({"model": "m", "data": LONG, "usage": USAGE}).encode()[:-1]
    assert fields_of(fed(data, most), is_whole=False) == {"model": "m"}


def test_the_field_in_which_a_document_was_cut_is_not_returned() -> None:
    whole = json.dumps({"model": "gpt-4o", "usage": {"prompt_tokens": 1234, "completion_tokens": 5678}}).encode()
    for length in range(len(whole)):
        found = read(whole[:length], is_whole=False)
        assert found in ({}, {"model": "gpt-4o"})


def test_no_field_near_a_cut_is_taken_for_a_top_level_one() -> None:
    data = json.dumps({"model": "m", "data": LONG, "last": {"usage": USAGE}}).encode()[:-1]
    assert read(data)["usage"] == USAGE
    assert read(data, is_whole=False) == {"model": "m"}
    small = b'{"model": "m", "a": "\\ud83d", "last": {"usage": {"prompt_tokens": 5}}'
    assert read(small, is_whole=False) == {"model": "m"}


@pytest.mark.parametrize("half", [r"\ud83d", r"\uDE00", r"\ud83d\ud83d"])
@pytest.mark.parametrize("size", [0, EDGE])
def test_a_lone_surrogate_in_a_text_is_accepted(half: str, size: int) -> None:
    document = f'{{"model": "m", "choices": "{"x" * size} {half}", "usage": {{"prompt_tokens": 5}}}}'
    assert read(document.encode()) == {"model": "m", "usage": USAGE}


def test_a_byte_order_mark_is_accepted() -> None:
    for document in ({"usage": USAGE}, {"usage": USAGE, "data": LONG}):
        assert read(b"\xef\xbb\xbf" + json.dumps(document).encode())["usage"] == USAGE


def event(document: object) -> dict[str, Any]:
    return fields_of_event(json.dumps(document).encode())


def test_a_small_event_is_returned_as_a_whole() -> None:
    assert event(chunk("Hi")) == chunk("Hi")
    assert fields_of_event(b"no JSON") == {}


@pytest.mark.parametrize("text", [HUGE, "\ud83d"], ids=["large", "surrogate"])
def test_the_outer_fields_of_an_event_that_is_not_parsed_as_a_whole_are_returned(text: str) -> None:
    assert event({"type": "t", "model": "m", "text": text, "usage": USAGE}) == {
        "type": "t",
        "model": "m",
        "usage": USAGE,
    }
    assert event({"type": "t", "text": text}) == {"type": "t"}


@pytest.mark.parametrize("text", [HUGE, "\ud83d"], ids=["large", "surrogate"])
def test_the_outer_fields_of_the_response_in_such_an_event_are_returned(text: str) -> None:
    found = event(response("completed", output=[{"usage": {"prompt_tokens": 9}}, text], usage=USAGE, user=None))
    assert (found["type"], found["response"]["model"]) == ("response.completed", "gpt-4.1-2025-04-14")
    assert found["response"]["usage"] == USAGE
    found = event({**response("done", output=[{"usage": USAGE}, text, {"usage": USAGE}])})
    assert not found["response"].get("usage")


@given(st.binary(max_size=100))
def test_no_bytes_raise(data: bytes) -> None:
    for body in (data, bytes(EDGE) + data, b'{"a":"\\ud83d' + data):
        read(body)
        fields_of_event(body)
    fields_of_event(b'{"response":{"a":' + b" " * MAX_WHOLE + data)


PAIRS = b'"model":1,"usage":1,"service_tier":1,' * 16


@pytest.mark.parametrize(
    "body",
    [
        b'{"usage":' * 500_000,
        b'{"a":"' + b"x" * MAX_WHOLE + b'",' + PAIRS + b'"z":[' + b"[]," * ((EDGE - len(PAIRS)) // 3 - 10) + b"[]]",
        b'{"usage":{},"x":[' + b"[]," * 1_390_000 + b"[]]}",
    ],
    ids=["keys", "tries", "nested"],
)
def test_the_worst_cases_are_read_fast(body: bytes) -> None:
    assert passes(lambda: (read(body), fields_of_event(body))) < 8  # at most 1.4


def test_little_of_a_large_document_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def counted(data: bytes, *, cut: bool = False) -> dict[str, object]:
        lengths.append(len(data))
        return parse(data, cut=cut)

    monkeypatch.setattr(partial_json, "parse", counted)
    nested = b'"z":[' + b"[]," * ((EDGE - len(PAIRS)) // 3 - 10) + b"[]]"
    for read_it in (read, fields_of_event):
        lengths.clear()
        read_it(b'{"a":"' + b"x" * MAX_WHOLE + b'",' + PAIRS + nested)
        assert sum(lengths) <= 5 * EDGE
