"""The texts of all formats together; the file of each format holds its layout by whole examples."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateway.conversations import CHAT, FORMATS, request, response, stream
from support.load.effort import passes

from addon.inspector.conversation import rendering
from addon.inspector.conversation.rendering import Format, format_of

IMAGE = "data:image/png;base64," + b64encode(bytes(34_000)).decode()


def test_a_request_that_was_cut_is_shown_as_far_as_it_goes() -> None:
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
def test_the_paths_of_conversations_have_a_format(path: str, known: bool) -> None:
    assert (format_of(path) is not None) == known


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{", b"[" * 10_000, b"null", b'"x"', b"{}", b'{"object": "list"}'])
@pytest.mark.parametrize("of", FORMATS.values(), ids=FORMATS)
def test_a_body_of_another_form_has_no_text(of: Format, data: bytes) -> None:
    for cut in (False, True):
        assert rendering.request_text(of, data, cut=cut) is None
        assert rendering.response_text(of, data, cut=cut) is None
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


@given(st.sampled_from([*FORMATS.values()]), st.lists(st.dictionaries(NAMES, ANYTHING, max_size=6), max_size=4))
def test_no_json_raises(of: Format, bodies: list[dict[str, object]]) -> None:
    stream(of, *bodies)
    for body in bodies:
        request(of, body)
        response(of, body)


def test_a_large_stream_is_joined_fast() -> None:
    chunk = json.dumps({"model": "m", "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None}]})
    data = f"data: {chunk}\n\n".encode() * (2**22 // len(chunk))
    assert " word word" in (rendering.stream_text(CHAT, data) or "")
    assert passes(lambda: rendering.stream_text(CHAT, data)) < 200  # 56
