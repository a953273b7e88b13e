from typing import Any

import pytest
from support.gateway.conversations import RESPONSES, request, response, stream


def test_a_request_is_shown() -> None:
    body = {
        "model": "gpt-4o",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": "Is it warm?"},
            {"type": "reasoning", "summary": [], "encrypted_content": "A" * 4000},
            {"type": "function_call", "name": "weather", "call_id": "call_1", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "18 degrees"},
            {"type": "web_search_call", "status": "completed", "action": {"query": "weather"}},
            {"type": "item_reference", "id": "msg_1"},
        ],
        "tools": [{"type": "function", "name": "weather"}],
        "previous_response_id": "resp_1",
    }
    assert (
        request(RESPONSES, body)
        == """\
response · gpt-4o
previous_response_id: "resp_1"
tools: weather

── instructions ──
Be brief.

── user ──
Is it warm?

── reasoning ──
[encrypted, 3 KB]

── assistant ──
→ weather({})  [call_1]

── tool call_1 ──
18 degrees

── assistant ──
[web_search_call, completed, {"query": "weather"}]

── assistant ──
[item_reference, msg_1]
"""
    )


RESPONSE = {
    "model": "gpt-4o",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Thinking"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Warm."}]},
        {"type": "image_generation_call", "status": "completed", "result": "AAAA"},
        {"type": "mcp_call", "name": "ask", "arguments": "{}", "output": "42"},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}},
}
RESPONSE_TEXT = """\
response · gpt-4o · incomplete · max_output_tokens

── reasoning ──
Thinking

── assistant ──
Warm.

── assistant ──
[image, 3 bytes, completed]

── assistant ──
→ ask({})
42

── usage ──
1 in, 2 out
"""


def test_a_response_is_shown() -> None:
    assert response(RESPONSES, RESPONSE) == RESPONSE_TEXT


def test_the_last_event_of_a_stream_is_shown() -> None:
    deltas = [{"type": "response.output_text.delta", "output_index": 1, "delta": "Warm."}]
    created = {"type": "response.created", "response": {"model": "gpt-4o", "output": []}}
    assert stream(RESPONSES, created, *deltas, {"type": "response.incomplete", "response": RESPONSE}) == RESPONSE_TEXT


def test_the_events_of_a_stream_that_was_cut_are_joined() -> None:
    def delta(kind: str, index: int, text: str, **more: int) -> dict[str, object]:
        return {"type": f"response.{kind}.delta", "output_index": index, "delta": text, **more}

    done = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Thinking"}]}
    call = {"type": "function_call", "name": "weather", "call_id": "call_1", "arguments": ""}
    text = stream(
        RESPONSES,
        {"type": "response.created", "response": {"model": "gpt-4o", "status": "in_progress", "output": []}},
        delta("reasoning_summary_text", 0, "Thinking", summary_index=0),
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        delta("function_call_arguments", 2, '{"city"'),
        delta("output_text", 1, "War", content_index=0),
        delta("output_text", 1, "m.", content_index=0),
        delta("refusal", 1, "No.", content_index=1),
        delta("function_call_arguments", 2, ": 1}"),
    )
    assert (
        text
        == """\
response · gpt-4o · in_progress

── reasoning ──
Thinking

── assistant ──
Warm.
[refusal] No.

── assistant ──
→ weather({"city": 1})  [call_1]
"""
    )


@pytest.mark.parametrize(
    "event",
    [{"type": "error", "message": "Broken", "code": "server_error"}, {"type": "error", "error": {"message": "Broken"}}],
)
def test_an_error_in_a_stream_is_shown(event: dict[str, Any]) -> None:
    created = {"type": "response.created", "response": {"model": "gpt-4o", "output": []}}
    assert "── error ──\nBroken\n" in (stream(RESPONSES, created, event) or "")
