from typing import Any

from support.gateway.conversations import CHAT, request, response, stream


def chat_stream(*deltas: dict[str, Any], **more: object) -> str | None:
    chunks = [{"model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return stream(CHAT, *chunks, *([more] if more else []), "[DONE]")


def test_a_request_is_shown() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    body = {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "Is it warm?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}, {"type": "web_search"}],
        "temperature": 0.2,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": None,
    }
    assert (
        request(CHAT, body)
        == """\
chat completion · gpt-4o-mini · streamed
temperature: 0.2, stream_options: {"include_usage": true}
tools: weather, web_search

── system ──
Be brief.

── user Ann ──
Is it warm?

── assistant ──
→ weather({"city": "Paris"})  [call_1]

── tool call_1 ──
18 degrees
"""
    )


def test_a_response_is_shown() -> None:
    body = {
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "One"}},
            {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "refusal": "I will not."}},
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 34,
            "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 10},
        },
    }
    assert (
        response(CHAT, body)
        == """\
chat completion · gpt-4o-mini-2024-07-18

── choice 0, assistant, finish: length ──
One

── choice 1, assistant, finish: stop ──
[refusal] I will not.

── usage ──
12 in (8 cached), 34 out (10 reasoning)
"""
    )


def test_the_chunks_of_a_stream_are_joined() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "type": "function", "function": function}]}

    text = chat_stream(
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "Let me", "reasoning_content": "hm"},
        {"role": "assistant", "content": " see\u2028.", "reasoning_content": "m"},
        {"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "b", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "a", "arguments": "{}"}}]},
        call(1, arguments='{"x"'),
        call(1, arguments=": 1}"),
        usage={"prompt_tokens": 1, "completion_tokens": 2},
        choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}],
    )
    assert (
        text
        == """\
chat completion · m

── assistant, finish: tool_calls ──
[reasoning] hmm
Let me see\u2028.
→ a({})  [call_1]
→ b({"x": 1})  [call_2]

── usage ──
1 in, 2 out
"""
    )


def test_the_choices_of_a_stream_are_kept_apart() -> None:
    chunks = [
        {"choices": [{"index": index, "delta": {"content": word}}]} for index, word in [(1, "b"), (0, "a"), (1, "c")]
    ]
    text = stream(CHAT, *chunks) or ""
    assert "── choice 0, assistant ──\na\n" in text
    assert "── choice 1, assistant ──\nbc\n" in text


def test_an_error_at_the_end_of_a_stream_is_shown() -> None:
    text = chat_stream({"content": "Half"}, error={"message": "Overloaded", "type": "server_error", "code": None})
    assert (text or "").endswith("── assistant ──\nHalf\n\n── error ──\nOverloaded\ntype: server_error\n")


def test_audio_is_shown_as_its_size() -> None:
    text = chat_stream({"audio": {"id": "audio_1", "data": "AAAA"}}, {"audio": {"data": "AAAA", "transcript": "Hi"}})
    assert "[audio, 6 bytes, audio_1]\nHi" in (text or "")
