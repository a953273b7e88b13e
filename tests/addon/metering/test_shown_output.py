import json

import pytest

from addon.metering.meter import Meter
from addon.metering.shown_output import ShownOutput

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
WORDS = "All that a response says counts, word by word. "


def chunk(text: str) -> dict[str, object]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}


def delta(text: str) -> dict[str, object]:
    return {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}


def block(text: str) -> dict[str, object]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


EACH = pytest.mark.parametrize(("endpoint", "event"), [(CHAT, chunk), (RESPONSES, delta), (MESSAGES, block)])


@EACH
def test_the_text_of_events_is_counted_by_an_upper_bound(endpoint: str, event: object) -> None:
    shown = ShownOutput(endpoint)
    assert callable(event)
    for _ in range(100):
        shown.add(json.dumps(event(WORDS)).encode())
    assert shown.is_more_than(1000, "gpt-4o")  # 1,100 in o200k
    assert not shown.is_more_than(2500, "gpt-4o")


def test_it_is_not_more_before_there_are_as_many_bytes() -> None:
    shown = ShownOutput(CHAT)
    shown.add(json.dumps(chunk("ab")).encode())
    assert not shown.is_more_than(2, "gpt-4o")
    assert shown.is_more_than(0, "gpt-4o")


def test_a_repeated_whole_is_not_counted_again() -> None:
    shown = ShownOutput(RESPONSES)
    shown.add(json.dumps(delta(WORDS)).encode())
    whole = {"output": [{"type": "message", "content": [{"type": "output_text", "text": WORDS * 100}]}]}
    shown.add(json.dumps({"type": "response.completed", "response": whole}).encode())
    assert not shown.is_more_than(100, "gpt-4o")


@pytest.mark.parametrize("arguments", ["reasoning_content", "tool_calls"])
def test_reasoning_and_calls_that_are_shown_count(arguments: str) -> None:
    shown = ShownOutput(CHAT)
    value: object = WORDS * 10
    if arguments == "tool_calls":
        value = [{"index": 0, "function": {"name": "look", "arguments": WORDS * 10}}]
    shown.add(json.dumps({"choices": [{"index": 0, "delta": {arguments: value}}]}).encode())
    assert shown.is_more_than(90, "gpt-4o")


@pytest.mark.parametrize("counts", [False, True])
def test_a_meter_counts_what_is_shown_where_that_is_wanted(*, counts: bool) -> None:
    meter = Meter("POST", CHAT, None)
    if counts:
        meter.count_shown_output()
    meter.begin_answer(200, "text/event-stream", "")
    meter.feed_answer(b"data: %b\n\n" % json.dumps(chunk(WORDS)).encode())
    assert meter.shows_more_than(5) == counts
    assert not meter.shows_more_than(1000)
