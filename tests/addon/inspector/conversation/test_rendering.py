"""What an operator reads of each kind of body. How the text is laid out is held by whole examples."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.load.effort import passes

from addon.inspector.conversation import rendering
from addon.inspector.conversation.rendering import Endpoint, endpoint_of

IMAGE = "data:image/png;base64," + b64encode(bytes(34_000)).decode()


def endpoint(path: str) -> Endpoint:
    found = endpoint_of(path)
    assert found is not None
    return found


CHAT, RESPONSES, EMBEDDINGS = map(endpoint, ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])


def request(of: Endpoint, body: object, *, cut: bool = False) -> str | None:
    return rendering.request_text(of, json.dumps(body).encode(), cut=cut)


def answer(of: Endpoint, body: object) -> str | None:
    return rendering.answer_text(of, json.dumps(body).encode(), cut=False)


def stream(of: Endpoint, *events: object) -> str | None:
    data = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return rendering.stream_text(of, data.encode())


def chat_stream(*deltas: dict[str, Any], **more: object) -> str | None:
    chunks = [{"model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return stream(CHAT, *chunks, *([more] if more else []), "[DONE]")


def test_a_chat_request() -> None:
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


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"type": "text", "text": "two\nlines"}, "two\nlines"),
        ({"type": "refusal", "refusal": "No."}, "[refusal] No."),
        ({"type": "image_url", "image_url": {"url": IMAGE}}, "[image, 34 KB, data: URL image/png]"),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/x.png", "detail": "high"}},
            "[image, https://example.com/x.png, detail high]",
        ),
        ({"type": "image_url", "image_url": {"url": "data:text/plain,x"}}, "[image, 1 bytes, data: URL text/plain]"),
        ({"type": "input_image", "image_url": IMAGE}, "[image, 34 KB, data: URL image/png]"),
        ({"type": "input_image", "file_id": "file-1"}, "[image, file-1]"),
        (
            {"type": "input_audio", "input_audio": {"data": b64encode(bytes(2_000_000)).decode(), "format": "wav"}},
            "[audio, 2.0 MB, wav]",
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": IMAGE}},
            "[file, a.pdf, 34 KB, data: URL image/png]",
        ),
        ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, "[file, https://example.com/a.pdf]"),
        ({"type": "new", "bytes": "A" * 1000}, '{"type": "new", "bytes": "' + "A" * 80 + '…"}'),
        ("plain", "plain"),
        (7, "7"),
    ],
)
@pytest.mark.parametrize("of", [CHAT, RESPONSES], ids=["chat", "responses"])
def test_parts_of_a_message(of: Endpoint, part: object, shown: str) -> None:
    messages = [{"role": "user", "content": [part]}]
    text = request(of, {"messages": messages, "input": messages})
    assert (text or "").endswith(f"── user ──\n{shown}\n")


def test_a_chat_answer() -> None:
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
        answer(CHAT, body)
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


def test_a_chat_stream_is_put_together() -> None:
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


def test_choices_of_a_stream_are_kept_apart() -> None:
    chunks = [
        {"choices": [{"index": index, "delta": {"content": word}}]} for index, word in [(1, "b"), (0, "a"), (1, "c")]
    ]
    text = stream(CHAT, *chunks) or ""
    assert "── choice 0, assistant ──\na\n" in text
    assert "── choice 1, assistant ──\nbc\n" in text


def test_a_chat_stream_that_ends_in_an_error() -> None:
    text = chat_stream({"content": "Half"}, error={"message": "Overloaded", "type": "server_error", "code": None})
    assert (text or "").endswith("── assistant ──\nHalf\n\n── error ──\nOverloaded\ntype: server_error\n")


def test_sound_in_an_answer_is_told_by_its_size() -> None:
    text = chat_stream({"audio": {"id": "audio_1", "data": "AAAA"}}, {"audio": {"data": "AAAA", "transcript": "Hi"}})
    assert "[audio, 6 bytes, audio_1]\nHi" in (text or "")


def test_a_responses_request() -> None:
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


def test_a_response() -> None:
    assert answer(RESPONSES, RESPONSE) == RESPONSE_TEXT


def test_a_stream_of_a_response_ends_with_all_of_it() -> None:
    deltas = [{"type": "response.output_text.delta", "output_index": 1, "delta": "Warm."}]
    created = {"type": "response.created", "response": {"model": "gpt-4o", "output": []}}
    assert stream(RESPONSES, created, *deltas, {"type": "response.incomplete", "response": RESPONSE}) == RESPONSE_TEXT


def test_a_stream_of_a_response_that_is_cut_is_put_together() -> None:
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
def test_an_error_in_a_stream_of_a_response(event: dict[str, Any]) -> None:
    created = {"type": "response.created", "response": {"model": "gpt-4o", "output": []}}
    assert "── error ──\nBroken\n" in (stream(RESPONSES, created, event) or "")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("one text", "── input 1 ──\none text\n"),
        (["a", "b"], "── input 1 ──\na\n\n── input 2 ──\nb\n"),
        ([1, 2, 3], "── input 1 ──\n[3 tokens]\n"),
        ([[1, 2], [3]], "── input 1 ──\n[2 tokens]\n\n── input 2 ──\n[1 tokens]\n"),
    ],
)
def test_an_embeddings_request(given: object, shown: str) -> None:
    text = request(EMBEDDINGS, {"model": "text-embedding-3-small", "input": given, "dimensions": 3})
    assert text == f"embeddings · text-embedding-3-small\ndimensions: 3\n\n{shown}"


def test_an_embeddings_answer_is_counted() -> None:
    data: list[dict[str, object]] = [{"embedding": [0.1, 0.2, 0.3]}, {"embedding": [0.1, 0.2, 0.3]}]
    data.append({"embedding": b64encode(bytes(12)).decode()})
    text = answer(EMBEDDINGS, {"model": "m", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})
    assert text == (
        "embeddings · m\n\n── embeddings ──\n2 of 3 dimensions\n1 of 3 dimensions, in base64\n\n── usage ──\n5 in\n"
    )


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            {"error": {"message": "No such model", "type": "invalid_request_error", "code": "model_not_found"}},
            "No such model\ntype: invalid_request_error, code: model_not_found",
        ),
        (
            {"error": "Project is inactive", "code": "project_inactive", "message": "Project is inactive"},
            "Project is inactive\ncode: project_inactive",
        ),
        ({"error": [1]}, "[1]"),
    ],
)
@pytest.mark.parametrize("of", [CHAT, RESPONSES, EMBEDDINGS], ids=["chat", "responses", "embeddings"])
def test_an_error(of: Endpoint, body: object, shown: str) -> None:
    assert answer(of, body) == f"── error ──\n{shown}\n"


def test_a_request_that_is_cut_is_shown_as_far_as_it_goes() -> None:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()[:20_000]
    assert rendering.request_text(CHAT, data, cut=False) is None
    text = rendering.request_text(CHAT, data, cut=True)
    assert (text or "").endswith("── user ──\nWhat is it?\n[image, 15 KB, data: URL image/png]\n")


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v1/chat/completions?x=1", True),
        ("/v1/chat/completions/", True),
        ("/v1/responses/resp_1", True),
        ("/v1/models", False),
        ("/v2/chat/completions", False),
        ("", False),
    ],
)
def test_which_paths_are_known(path: str, known: bool) -> None:
    assert (endpoint_of(path) is not None) == known


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{", b"[" * 10_000, b"null", b'"x"', b"{}", b'{"object": "list"}'])
@pytest.mark.parametrize("of", [CHAT, RESPONSES, EMBEDDINGS], ids=["chat", "responses", "embeddings"])
def test_what_is_something_else_is_left_to_others(of: Endpoint, data: bytes) -> None:
    for cut in (False, True):
        assert rendering.request_text(of, data, cut=cut) is None
        assert rendering.answer_text(of, data, cut=cut) is None
    assert rendering.stream_text(of, data) is None
    assert rendering.stream_text(of, b"data: " + data + b"\n\n") is None


NAMES = st.sampled_from(
    [
        *(
            "model",
            "messages",
            "role",
            "content",
            "type",
            "text",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "usage",
        ),
        *("choices", "delta", "message", "index", "input", "instructions", "output", "summary", "data", "embedding"),
        *("error", "response", "item", "output_index", "image_url", "url", "audio", "input_audio", "prompt_tokens"),
        *("tools", "status", "code", "file", "function_call", "finish_reason", "incomplete_details", "action"),
    ]
)
TEXTS = st.sampled_from(
    [
        *("text", "image_url", "input_image", "input_audio", "file", "refusal", "reasoning", "function_call", "error"),
        *("response.output_text.delta", "response.output_item.added", "response.function_call_arguments.delta"),
        *("data:,", "data:image/png;base64,AA", "x", ""),
    ]
)
ANYTHING: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=30,
)


@given(
    st.sampled_from([CHAT, RESPONSES, EMBEDDINGS]), st.lists(st.dictionaries(NAMES, ANYTHING, max_size=6), max_size=4)
)
def test_no_json_raises(of: Endpoint, bodies: list[dict[str, object]]) -> None:
    stream(of, *bodies)
    for body in bodies:
        request(of, body)
        answer(of, body)


def test_a_large_stream_is_put_together_fast() -> None:
    chunk = json.dumps({"model": "m", "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None}]})
    data = f"data: {chunk}\n\n".encode() * (2**22 // len(chunk))
    assert " word word" in (rendering.stream_text(CHAT, data) or "")
    assert passes(lambda: rendering.stream_text(CHAT, data)) < 200  # 56
