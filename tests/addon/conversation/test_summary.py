import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.conversation.summary import NOTHING, Summary, summary_of
from addon.conversation.usage import Usage

USAGE = {"prompt_tokens": 12, "completion_tokens": 34, "completion_tokens_details": {"reasoning_tokens": 5}}


def of_stream(*events: object) -> Summary:
    return summary_of("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode(), is_stream=True)


def test_an_answer() -> None:
    body = json.dumps({"model": "m", "usage": USAGE}).encode()
    assert summary_of(body, is_stream=False) == Summary("m", Usage(12, 34, None, 5))


def test_an_answer_that_was_cut() -> None:
    assert summary_of(b'{"model": "m", "choices": [{"message": {"content": "ha', is_stream=False) == Summary("m", None)


def test_a_chat_stream() -> None:
    chunk = {"model": "m", "choices": [{"delta": {"content": "x"}}], "usage": None}
    assert of_stream(chunk, chunk, {"model": "m", "choices": [], "usage": USAGE}).usage == Usage(12, 34, None, 5)
    assert of_stream(chunk, chunk) == Summary("m", None)


def test_a_stream_of_a_response() -> None:
    created = {"type": "response.created", "response": {"model": "m", "usage": None}}
    completed = {"type": "response.completed", "response": {"model": "m", "usage": {"input_tokens": 1}}}
    assert of_stream(created, {"delta": '"usage": {'}, completed) == Summary("m", Usage(1, None, None, None))


@pytest.mark.parametrize("usage", [None, 1, {}, {"prompt_tokens": "12"}, {"prompt_tokens": True}])
def test_a_usage_of_another_kind_is_none(usage: object) -> None:
    assert summary_of(json.dumps({"usage": usage}).encode(), is_stream=False) == NOTHING


@given(st.binary(), st.booleans())
def test_no_bytes_raise(data: bytes, is_stream: bool) -> None:
    summary_of(data, is_stream=is_stream)
    summary_of(b"data: " + data + b"\n\n", is_stream=is_stream)
