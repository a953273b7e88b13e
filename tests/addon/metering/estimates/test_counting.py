"""Counts, compared with the figures of OpenAI's cookbook and the usages in its reference."""

import json
from typing import Any

import pytest
from support.load.effort import passes
from support.upstreams.events import chunk, delta

from addon.metering.estimates import counting
from addon.metering.estimates.estimate_request import EstimateRequest, joined

JARGON = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant "
        "that translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth "
        "to touch base on opportunities for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
WEATHER = [
    {
        "role": "system",
        "content": "You are a helpful assistant that can answer to questions about the weather.",
    },
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]
FUNCTION: dict[str, Any] = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
}
TOOL = {"type": "function", "function": FUNCTION}


def ask(request: object, *events: object, endpoint: str = "/v1/chat/completions", **more: Any) -> dict[str, int]:
    names = {"model": "gpt-4o", **more}
    return counting.units(
        EstimateRequest(
            endpoint,
            request=b"" if request is None else json.dumps(request).encode(),
            events=joined(json.dumps(event).encode() for event in events),
            **names,
        )
    )


def tokens_in(request: object, endpoint: str = "/v1/chat/completions", model: str = "gpt-4o") -> int | None:
    return ask(request, endpoint=endpoint, model=model).get("input_tokens")


def count(text: str) -> int:
    return counting.counter("o200k_base")(text)


@pytest.mark.parametrize(
    ("model", "messages", "with_tools"),
    [("gpt-3.5-turbo", 129, 105), ("gpt-4", 129, 105), ("gpt-4o", 124, 101), ("gpt-4o-mini", 124, 101)],
)
def test_the_examples_of_the_cookbook_have_its_counts(model: str, messages: int, with_tools: int) -> None:
    assert tokens_in({"messages": JARGON}, model=model) == messages
    assert tokens_in({"messages": WEATHER, "tools": [TOOL]}, model=model) == with_tools


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base"),
        ("gpt-4o", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("o3", "o200k_base"),
        ("llama", "o200k_base"),
        (None, "o200k_base"),
    ],
)
def test_a_models_encoding_is_known(model: str | None, encoding: str) -> None:
    assert counting.encoding_of(model) == encoding


def test_the_example_of_the_reference_differs_by_one_token() -> None:
    request = {
        "messages": [
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Hello!"},
        ]
    }
    answer = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello! How can I assist you today?"}}]
    }
    counted = ask(request, answer, model="gpt-4.1")
    assert counted == {"input_tokens": 19, "output_tokens": 9}  # its usage: 19 and 10


def test_parts_are_counted_one_by_one() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    assert (
        tokens_in({"messages": [{"role": "user", "content": parts}]})
        == 3 + 3 + 1 + count("What is") + count(" this?") + 1
    )


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "user", "content": [{"type": "file", "file": {}}]},
        {"role": "user", "content": [7]},
        {"role": "assistant", "audio": {"id": "audio_1"}},
    ],
)
def test_an_input_that_cannot_be_counted_is_left_out(message: dict[str, object]) -> None:
    assert ask({"messages": [*WEATHER, message]}, chunk("Hi")) == {"output_tokens": 1}


@pytest.mark.parametrize("request_body", [None, [], "x", {}])
def test_an_unknown_request_is_left_out(request_body: object) -> None:
    assert ask(request_body, chunk("Hi")) == {"output_tokens": 1}


def test_calls_and_their_results_are_counted() -> None:
    plain = {"messages": WEATHER}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"}
    more = 2 * 3 + count("assistant") + count("f") + count('{"a": 1}') + count("tool") + count("18 degrees")
    assert tokens_in({"messages": [*WEATHER, call, result]}) == (tokens_in(plain) or 0) + more


def test_properties_within_properties_are_counted() -> None:
    inner = {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}}
    listed = {"type": "array", "items": inner}
    with_inner = tokens_in({"messages": WEATHER, "tools": [tool(place=inner)]}) or 0
    with_list = tokens_in({"messages": WEATHER, "tools": [tool(place=listed)]}) or 0
    without = tokens_in({"messages": WEATHER, "tools": [tool(place={"type": "object"})]}) or 0
    assert with_inner - without == with_list - without == 3 + 3 + count("city:string:Where")


def tool(**properties: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}}


def test_the_schema_of_a_response_is_counted() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    with_form = tokens_in({"messages": WEATHER, "response_format": form}) or 0
    assert with_form - (tokens_in({"messages": WEATHER}) or 0) == count('{"name":"x","schema":{"type":"object"}}')


def test_a_request_for_a_response_is_counted_like_a_chat() -> None:
    expected = tokens_in({"messages": WEATHER, "tools": [TOOL]})
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": WEATHER[1]["content"]}]}]
    tools = [{"type": "function", **FUNCTION}]
    assert expected == tokens_in({"input": WEATHER, "tools": tools}, "/v1/responses")
    given = {"instructions": WEATHER[0]["content"], "tools": tools}
    assert expected == tokens_in({**given, "input": items}, "/v1/responses")
    assert expected == tokens_in({**given, "input": WEATHER[1]["content"]}, "/v1/responses")


def test_calls_in_a_request_for_a_response_are_counted() -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "18 degrees"},
    ]
    expected = 3 + 3 * 3 + count("user") + count("Hi") + count("f") + 1 + count("{}") + count("18 degrees")
    assert tokens_in({"input": turns}, "/v1/responses") == expected


@pytest.mark.parametrize(
    "request_body",
    [
        {"input": "x", "previous_response_id": "resp_1"},
        {"input": "x", "conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"type": "reasoning", "encrypted_content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}]},
        {"input": "x", "tools": [{"type": "web_search"}]},
    ],
)
def test_content_that_the_upstream_stores_is_not_counted(request_body: dict[str, object]) -> None:
    assert tokens_in(request_body, "/v1/responses") is None


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("Say this is a test", 5),
        (["Say this", " is a test"], 5),
        ([1, 2, 3], 3),
        ([[1, 2], [3]], 3),
        (None, None),
        ({}, None),
    ],
)
def test_the_prompt_of_a_legacy_completion_is_counted(prompt: object, tokens: int | None) -> None:
    assert tokens_in({"prompt": prompt}, "/v1/completions", "gpt-3.5-turbo-instruct") == tokens


def test_pieces_are_counted_as_one_text() -> None:
    text = "The quick brown fox jumps over the lazy dog, unbelievably."
    assert ask(None, *map(chunk, text)) == {"output_tokens": count(text)}
    events = [delta(piece) for piece in text]
    assert ask(None, *events, endpoint="/v1/responses") == {"output_tokens": count(text)}


def test_shown_reasoning_is_part_of_the_output() -> None:
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "Let me think."}}]}
    tokens = count("Let me think.")
    assert ask(None, thought, chunk("Hi")) == {"output_tokens": tokens + 1, "output_reasoning_tokens": tokens}


def test_earlier_texts_are_continued() -> None:
    assert ask(None, chunk("world"), texts=(("0", b"Hello "),)) == {"output_tokens": count("Hello world")}


def test_text_beyond_the_bound_is_extrapolated() -> None:
    assert ask(None, chunk("Hello " * 100), beyond=600) == {"output_tokens": 2 * count("Hello " * 100)}


def test_a_response_that_was_cut_is_counted_as_far_as_it_goes() -> None:
    whole = json.dumps({"choices": [{"index": 0, "message": {"content": "Hello there"}}]}).encode()
    cut = whole[: whole.index(b" there")]
    assert counting.units(EstimateRequest("/v1/chat/completions", "gpt-4o", events=cut)) == {"output_tokens": 1}


def test_a_pending_response_is_not_counted() -> None:
    answer = {"status": "queued", "output": []}
    assert ask({"input": "x"}, answer, endpoint="/v1/responses") == {}


def test_audio_in_the_output_is_not_counted() -> None:
    answer = {"choices": [{"index": 0, "message": {"content": None, "audio": {"data": "AAAA", "transcript": "Hi"}}}]}
    assert ask({"messages": WEATHER}, answer).keys() == {"input_tokens"}


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "#" * 300_000, " " * 500_000, "漢字" * 100_000, "<|endoftext|>" * 1000]
)
def test_any_text_is_counted_fast(text: str) -> None:
    assert count(text) > 0
    assert passes(lambda: count(text)) < 60  # at most 12
