import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.demand.paragraphs import PARAGRAPHS
from support.demand.requests import png

from addon.demand import Cut, TextBound, of_body, text_bound
from store.request import Demand

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
TEXT = PARAGRAPHS["English"]
TOKENS = text_bound(TEXT)
HI = [{"role": "user", "content": "Hi"}]


def chat(model: str = "gpt-5", **more: Any) -> Demand:
    return of_body(CHAT, {"model": model, "messages": HI, **more})


def respond(**more: Any) -> Demand:
    return of_body(RESPONSES, {"model": "gpt-5", "input": "Hi", **more})


def claude(*content: Any, **more: Any) -> Demand:
    body = {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": [*content]}]}
    return of_body(MESSAGES, {**body, **more})


def cut(text: str, kept: int = 256) -> Cut:
    bound = TextBound()
    bound.feed(text.encode())
    return Cut(text[:kept], len(text), bound)


@pytest.mark.parametrize(
    ("more", "output", "choices"),
    [
        ({}, None, 1),
        ({"n": 3}, None, 3),
        ({"max_tokens": 100}, 100, 1),
        ({"max_completion_tokens": 100, "n": 3}, 300, 3),
        ({"max_tokens": 50, "max_completion_tokens": 100}, 100, 1),
        ({"max_tokens": 100.0}, 100, 1),
        ({"generationConfig": {"maxOutputTokens": 70, "candidateCount": 2}}, None, 2),
        ({"max_tokens": 50, "generationConfig": {"maxOutputTokens": 70}}, 70, 1),
        ({"max_tokens": 50, "max_completion_tokens": -1}, None, 1),
        ({"max_tokens": 50, "max_new_tokens": 70}, 70, 1),
        ({"max_output_tokens": 100}, None, 1),
        ({"max_tokens": None}, None, 1),
        ({"max_tokens": True}, None, 1),
        ({"max_tokens": 0}, None, 1),
        ({"max_tokens": -1}, None, 1),
        ({"max_tokens": "many"}, None, 1),
        ({"max_tokens": 10**30, "n": 10**9}, 2**40, 10_000),
    ],
)
def test_the_output_is_what_a_request_allows_itself(more: dict[str, Any], output: int | None, choices: int) -> None:
    demand = chat(**more)
    assert (demand.output_tokens, demand.choices) == (output, choices)


def test_a_response_has_a_limit_of_its_own_name() -> None:
    assert respond(max_output_tokens=16).output_tokens == 16
    assert respond().output_tokens is None


@pytest.mark.parametrize("form", [5, 5.0, "5", "5.0", " 5", "5 ", "+5", "05", [5], ["1", "5"], [5, 5.0, "2"]])
@pytest.mark.parametrize("name", ["n", "best_of"])
def test_a_number_of_answers_is_read_in_any_form_that_an_upstream_may_read(name: str, form: object) -> None:
    more: dict[str, Any] = {name: form}
    demand = chat(max_tokens=10, **more)
    assert (demand.output_tokens, demand.choices, demand.unbounded) == (50, 5, "")


FOREIGN = ("max_new_tokens", "max_tokens_to_sample", "max_response_output_tokens", "maxOutputTokens")


@pytest.mark.parametrize(
    ("endpoint", "own"),
    [
        (CHAT, {"max_tokens", "max_completion_tokens"}),
        ("/v1/completions", {"max_tokens", "max_completion_tokens"}),
        (RESPONSES, {"max_output_tokens"}),
        ("/v1/realtime", {"max_output_tokens"}),
        (MESSAGES, {"max_tokens"}),
        ("/v1/responses/compact", set()),
        ("/v1/{other}", set()),
    ],
)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", *FOREIGN])
def test_only_the_endpoints_own_field_bounds_its_output(endpoint: str, own: set[str], name: str) -> None:
    def output(given: dict[str, Any]) -> int | None:
        return of_body(endpoint, {"response": given} if endpoint == "/v1/realtime" else given).output_tokens

    assert output({name: 100}) == (100 if name in own else None)
    assert output({**dict.fromkeys(own, 10), name: 100}) == (100 if own else None)


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ({"thinking_budget": 500}, 510),
        ({"reasoning": {"max_tokens": 500}}, 510),
        ({"thinking": {"type": "enabled", "budget_tokens": 500}}, 510),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 500}}}, 510),
        ({"thinking_budget": 0}, 10),
        ({"thinking_budget": None}, 10),
        ({"thinking_budget": -1}, None),
        ({"reasoning": {"effort": "low"}}, 10),
    ],
)
def test_a_budget_of_reasoning_is_beside_the_limit(more: dict[str, Any], output: int | None) -> None:
    assert chat(max_tokens=10, **more).output_tokens == output
    assert respond(max_output_tokens=10, **more).output_tokens == output
    assert chat(**more).output_tokens is None


def test_the_limit_of_a_message_includes_its_thinking() -> None:
    assert claude(thinking={"type": "enabled", "budget_tokens": 5}).output_tokens == 9


def test_completions_count_each_prompt_and_each_choice() -> None:
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": [TEXT, TEXT], "max_tokens": 10, "n": 2, "best_of": 3}
    demand = of_body("/v1/completions", body)
    assert (demand.output_tokens, demand.choices) == (60, 6)
    assert demand.input_tokens >= 2 * TOKENS


def test_a_prediction_that_is_not_used_is_paid_as_output() -> None:
    demand = chat(max_tokens=100, prediction={"type": "content", "content": TEXT})
    assert demand.output_tokens is not None
    assert 100 + TOKENS <= demand.output_tokens <= 100 + TOKENS + 9
    assert demand.input_tokens == chat().input_tokens


PLACES = {
    "a message": chat(messages=[{"role": "user", "content": TEXT}]),
    "a part": chat(messages=[{"role": "user", "content": [{"type": "text", "text": TEXT}]}]),
    "a name": chat(messages=[{"role": "user", "content": "", "name": TEXT}]),
    "reasoning": chat(messages=[{"role": "assistant", "content": "", "reasoning_content": TEXT}]),
    "a refusal": chat(messages=[{"role": "assistant", "content": None, "refusal": TEXT}]),
    "arguments": chat(messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": TEXT}}]}]),
    "a former call": chat(messages=[{"role": "assistant", "function_call": {"name": "f", "arguments": TEXT}}]),
    "a custom call": chat(messages=[{"role": "assistant", "tool_calls": [{"custom": {"name": "f", "input": TEXT}}]}]),
    "an unknown field of a message": chat(messages=[{"role": "user", "content": "", "thoughts": [{"deep": TEXT}]}]),
    "an unknown part": chat(messages=[{"role": "user", "content": [{"type": "new", "new": TEXT}]}]),
    "an unknown field": chat(documents_of_a_new_kind=[{"text": TEXT}]),
    "documents": chat(documents=[{"text": TEXT}]),
    "a tool": chat(tools=[{"type": "function", "function": {"name": "f", "description": TEXT, "parameters": {}}}]),
    "a property": chat(
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"title": TEXT}}}}}]
    ),
    "a choice of a property": chat(
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"enum": [TEXT]}}}}}]
    ),
    "a former function": chat(functions=[{"name": "f", "description": TEXT}]),
    "a grammar": chat(tools=[{"type": "custom", "custom": {"name": "f", "format": {"grammar": {"definition": TEXT}}}}]),
    "a schema": chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "description": TEXT}}),
    "an input": respond(input=TEXT),
    "instructions": respond(instructions=TEXT),
    "a role": chat(messages=[{"role": TEXT, "content": ""}]),
    "a role that is no text": chat(messages=[{"role": [TEXT], "content": ""}]),
    "a role of a response": respond(input=[{"role": TEXT, "content": ""}]),
    "a field beside a function": chat(tools=[{"type": "function", "function": {"name": "f"}, "more": TEXT}]),
    "a custom tool beside a function": chat(tools=[{"function": {"name": "f"}, "custom": {"description": TEXT}}]),
    "a custom tool beside an empty function": chat(tools=[{"function": {}, "custom": {"description": TEXT}}]),
    "a field of a function": chat(tools=[{"type": "function", "function": {"parameters": {}, "more": {"a": TEXT}}}]),
    "a field beside another model's function": chat("qwen3", tools=[{"function": {"name": "f"}, "more": TEXT}]),
    "a signature": claude({"type": "thinking", "thinking": "", "signature": TEXT}),
    "an item": respond(input=[{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]),
    "arguments of an item": respond(input=[{"type": "function_call", "name": "f", "arguments": TEXT}]),
    "a result": respond(input=[{"type": "function_call_output", "call_id": "1", "output": TEXT}]),
    "a summary": respond(input=[{"type": "reasoning", "summary": [{"type": "summary_text", "text": TEXT}]}]),
    "a tool of a response": respond(tools=[{"type": "function", "name": "f", "description": TEXT}]),
    "a schema of a response": respond(text={"format": {"type": "json_schema", "schema": {"description": TEXT}}}),
    "a variable of a prompt": respond(prompt={"id": "pmpt_1", "variables": {"a": TEXT}}),
    "a system message": claude(system=TEXT),
    "parts of a system message": claude(system=[{"type": "text", "text": TEXT}]),
    "a part of Claude's": claude({"type": "text", "text": TEXT}),
    "a call of Claude's": claude({"type": "tool_use", "name": "f", "input": {"a": TEXT}}),
    "a result of Claude's": claude({"type": "tool_result", "content": [{"type": "text", "text": TEXT}]}),
    "thinking": claude({"type": "thinking", "thinking": TEXT, "signature": ""}),
    "a document": claude({"type": "document", "source": {"type": "text", "data": TEXT}}),
    "a title": claude({"type": "document", "title": TEXT, "source": {"type": "text", "data": ""}}),
    "a tool of Claude's": claude(tools=[{"name": "f", "description": TEXT, "input_schema": {}}]),
    "a form of Claude's answers": claude(output_config={"format": {"schema": {"description": TEXT}}}),
    "an embedding": of_body("/v1/embeddings", {"input": TEXT}),
    "one of several": of_body("/v1/embeddings", {"input": ["a", TEXT]}),
    "a moderation": of_body("/v1/moderations", {"input": [{"type": "text", "text": TEXT}]}),
    "a query": of_body("/v1/rerank", {"query": TEXT, "documents": ["a"]}),
    "an instruction": of_body("/v1/embeddings", {"input": ["a"], "instruction": TEXT}),
    "an instruction to rank": of_body("/v1/rerank", {"query": "a", "documents": ["a"], "instruction": TEXT}),
    "a part with more beside its text": chat(messages=[{"content": [{"type": "text", "text": "", "more": TEXT}]}]),
    "a document to rank": of_body("/v1/rerank", {"query": "a", "documents": [{"text": TEXT}]}),
    "speech": of_body("/v1/audio/speech", {"input": TEXT}),
    "a way to speak": of_body("/v1/audio/speech", {"input": "", "instructions": TEXT}),
    "a picture": of_body("/v1/images/generations", {"prompt": TEXT}),
    "a transcript's prompt": of_body("/v1/audio/transcriptions", {"prompt": TEXT}),
    "anything": of_body("/v1/{other}", {"message": TEXT}),
    "anything below": of_body("/v1/{other}", {"chat_history": [{"message": TEXT}]}),
}


@pytest.mark.parametrize("place", PLACES)
def test_text_counts_wherever_a_model_reads_it(place: str) -> None:
    assert PLACES[place].input_tokens >= TOKENS


@pytest.mark.parametrize("name", ["metadata", "user", "prompt_cache_key", "safety_identifier", "logit_bias"])
def test_what_no_model_reads_does_not_count(name: str) -> None:
    assert chat(**{name: TEXT}) == chat()


@pytest.mark.parametrize("name", ["model", "messages", "tools", "input", "response_format", "n", "prompt", "documents"])
@pytest.mark.parametrize("value", [None, 1, "x", [], [1, None, "x", [], {}], {}, {"type": 1, "content": 1}, True, 1.5])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES, MESSAGES, "/v1/embeddings", "/v1/rerank", "/v1/images/edits",
                                      "/v1/audio/speech", "/v1/completions", "/v1/{other}"])  # fmt: skip
def test_any_form_is_read(endpoint: str, name: str, value: object) -> None:
    assert of_body(endpoint, {name: value}).input_tokens >= 0


def test_an_empty_body_needs_little() -> None:
    assert of_body(CHAT, {}).input_tokens < 100


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (1024, 1024), (8000, 6000)])
def test_an_image_counts_by_its_size(size: tuple[int, int]) -> None:
    part = {"type": "image_url", "image_url": {"url": png(*size), "detail": "high"}}
    needed = {(1, 1): 255, (640, 480): 425, (1024, 1024): 765, (8000, 6000): 765}[size]  # 85 and 170 for each tile
    plain = chat("gpt-4o", messages=[{"role": "user", "content": []}])
    demand = chat("gpt-4o", messages=[{"role": "user", "content": [part]}])
    assert demand.input_tokens == plain.input_tokens + needed


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,bm90aGluZw=="}},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ],
)
def test_an_image_whose_size_is_not_known_counts_as_the_largest(part: dict[str, Any]) -> None:
    demand = chat("gpt-4o", messages=[{"role": "user", "content": [part]}])
    assert demand.input_tokens >= 85 + 8 * 170
    assert not demand.refers


def test_an_image_in_a_result_counts_as_one() -> None:
    image = {"type": "input_image", "image_url": png(1024, 1024)}
    item = {"type": "function_call_output", "call_id": "1", "output": [image]}
    assert 630 <= respond(input=[item]).input_tokens < 700


def test_of_several_models_the_dearest_counts() -> None:
    part = {"type": "image_url", "image_url": {"url": png(1024, 1024), "detail": "high"}}
    asked = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": TEXT}]}]}
    alone = chat("gpt-4o", **asked)
    both = chat("gpt-4o", models=["claude-opus-4-8"], fallbacks=[{"model": "gpt-4o-mini"}], **asked)
    assert alone.input_tokens < 1000
    assert both.input_tokens > 25_000


def test_tools_of_claudes_have_a_preamble() -> None:
    assert claude(tools=[{"name": "f", "input_schema": {}}]).input_tokens - claude().input_tokens >= 740


REFERENCES = {
    "a response": respond(previous_response_id="resp_1"),
    "a conversation": respond(conversation="conv_1"),
    "a prompt": respond(prompt={"id": "pmpt_1"}),
    "an item": respond(input=[{"type": "item_reference", "id": "msg_1"}]),
    "an item by its id alone": respond(input=[{"id": "msg_1"}]),
    "an image that was made": respond(input=[{"type": "image_generation_call", "id": "ig_1"}]),
    "reasoning": respond(input=[{"type": "reasoning", "id": "rs_1", "summary": []}]),
    "reasoning without its content": respond(input=[{"type": "reasoning", "id": "rs_1", "content": []}]),
    "code that was run": respond(input=[{"type": "code_interpreter_call", "id": "ci_1"}]),
    "a file": respond(input=[{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]),
    "a file's URL": respond(input=[{"role": "user", "content": [{"type": "input_file", "file_url": "https://a.b"}]}]),
    "a PDF": chat(
        messages=[{"content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}}]}]
    ),
    "an earlier answer in audio": chat(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}]),
    "a video": chat(messages=[{"content": [{"type": "video_url", "video_url": {"url": "https://a.b"}}]}]),
    "audio at a URL": chat(messages=[{"content": [{"type": "input_audio", "input_audio": "https://a.b"}]}]),
    "a document": claude({"type": "document", "source": {"type": "url", "url": "https://a.b"}}),
    "an uploaded document": claude({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
    "a part of an unknown kind": claude({"type": "hologram", "id": "holo_1"}),
    "a session": of_body("/v1/realtime", {"type": "response.create"}),
    "a body of unknown form": of_body("/v1/{other}", {"url": "https://a.b"}),
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_input_that_is_not_in_the_body_is_told(reference: str) -> None:
    assert REFERENCES[reference].refers


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "id": "fo_1", "call_id": "1", "output": ""},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"},
        {"type": "reasoning", "summary": []},
    ],
)
def test_an_item_that_is_written_out_refers_to_nothing(item: dict[str, Any]) -> None:
    assert not respond(input=[item]).refers


def test_a_text_file_counts_by_its_text() -> None:
    data = base64.b64encode(TEXT.encode() * 9).decode()
    part = {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;charset=utf-8;base64,{data}"}
    demand = respond(input=[{"role": "user", "content": [part]}])
    assert not demand.refers
    assert 9 * TOKENS <= demand.input_tokens <= 9 * TOKENS + 50


def test_audio_counts_by_its_seconds() -> None:
    wave = b"RIFF" + struct.pack("<I4s4sIHHIIHH", 0, b"WAVE", b"fmt ", 16, 1, 1, 24_000, 48_000, 2, 16) + b"data"
    data = base64.b64encode(wave + b"\0" * 48_000 * 10).decode()
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    demand = chat("gpt-audio", messages=[{"role": "user", "content": [part]}])
    assert demand.units == {"input_audio_tokens": 110}
    assert demand.input_tokens >= 110


def test_an_answer_may_be_spoken() -> None:
    assert chat("gpt-audio", modalities=["text", "audio"]).speaks
    assert not chat(modalities=["text"]).speaks


@pytest.mark.parametrize(
    ("more", "unit"), [({"type": "ephemeral"}, "cache_write_5m_tokens"), ({"ttl": "1h"}, "cache_write_1h_tokens")]
)
@pytest.mark.parametrize("place", ["body", "system", "message", "result", "tool"])
def test_writes_to_the_cache_are_told(place: str, more: dict[str, Any], unit: str) -> None:
    marked = {"type": "text", "text": TEXT, "cache_control": more}
    demand = {
        "body": lambda: claude(cache_control=more),
        "system": lambda: claude(system=[marked]),
        "message": lambda: claude(marked),
        "result": lambda: claude({"type": "tool_result", "content": [marked]}),
        "tool": lambda: claude(tools=[{"name": "f", "input_schema": {}, "cache_control": more}]),
    }[place]()
    assert demand.units == {"cache_write_tokens": demand.input_tokens, unit: demand.input_tokens}


def test_some_models_write_to_the_cache_unasked() -> None:
    demand = chat("gpt-5.6-sol")
    assert demand.units == {"cache_write_tokens": demand.input_tokens}
    assert chat("gpt-5.1").units == {}


@pytest.mark.parametrize(
    ("more", "conditions"),
    [
        ({}, ()),
        ({"service_tier": "auto"}, ()),
        ({"service_tier": "flex"}, ()),
        ({"service_tier": "priority"}, (("service_tier", "priority"),)),
        ({"speed": "fast", "inference_geo": "us"}, (("speed", "fast"), ("inference_geo", "us"))),
        ({"speed": "standard", "inference_geo": "global"}, ()),
    ],
)
def test_conditions_are_those_that_make_it_dearer(
    more: dict[str, Any], conditions: tuple[tuple[str, str], ...]
) -> None:
    assert chat(**more).conditions == conditions


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/moderations", "/v1/rerank"])
def test_what_makes_no_tokens_has_no_output(endpoint: str) -> None:
    assert of_body(endpoint, {"input": "a", "query": "a", "documents": ["a"]}).output_tokens == 0


@pytest.mark.parametrize(("given", "tokens"), [([1, 2, 3], 5), ([[1, 2], [3]], 7), ([], 0)])
def test_tokens_count_as_what_they_are(given: list[Any], tokens: int) -> None:
    assert of_body("/v1/embeddings", {"input": given}).input_tokens == tokens


def test_a_query_counts_with_each_document() -> None:
    one = of_body("/v1/rerank", {"query": TEXT, "documents": ["a"]})
    many = of_body("/v1/rerank", {"query": TEXT, "documents": ["a"] * 10})
    assert many.input_tokens >= 9 * one.input_tokens


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({}, 6240),
        ({"quality": "low"}, 408),
        ({"quality": "high", "n": 2}, 12480),
        ({"quality": "low", "n": "2"}, 816),
        ({"quality": "low", "n": ["1", "2.0"]}, 816),
        ({"quality": "low", "n": " +2"}, 816),
        ({"quality": ["low", "high"]}, 6240),
        ({"quality": "low", "partial_images": "3"}, 708),
        ({"quality": "low", "partial_images": [1, "3"]}, 708),
        ({"quality": "low", "partial_images": 0}, 408),
        ({"quality": "high", "size": ["1024x1024", " 3072X2048"]}, 24960),
        ({"quality": "high", "size": "auto"}, 6240),
        ({"quality": "high", "size": None}, 6240),
        ({"quality": "medium", "size": "1024x1024", "partial_images": 3}, 1884),
        ({"quality": "high", "size": "3072x2048"}, 24960),
    ],
)
def test_images_have_tokens_by_quality_and_number(more: dict[str, Any], tokens: int) -> None:
    demand = of_body("/v1/images/generations", {"model": "gpt-image-1", "prompt": "A cat", **more})
    assert (demand.output_tokens, demand.units) == (tokens, {"output_images": demand.choices})


def test_an_image_to_edit_counts_as_input() -> None:
    form: dict[str, Any] = {
        "model": "gpt-image-1",
        "prompt": "A cat",
        "image[]": [base64.b64decode(png(9, 9).partition(",")[2])] * 2,
    }
    assert of_body("/v1/images/edits", form).input_tokens >= 2 * (65 + 129)


def test_speech_counts_by_the_bytes_of_its_text() -> None:
    demand = of_body("/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "é" * 100})
    assert demand.units == {"input_characters": 200}
    assert demand.output_tokens == 750
    assert demand.speaks


@pytest.mark.parametrize("kept", [0, 100_000])
def test_a_recording_counts_by_its_seconds(kept: int) -> None:
    file = b"ID3" + b"\0" * (60_000 - 3)
    given = Cut(file[:100].decode("latin-1"), len(file), TextBound()) if not kept else file
    demand = of_body("/v1/audio/transcriptions", {"model": "gpt-4o-transcribe", "file": given})
    assert demand.units == {"input_audio_tokens": 600, "audio_seconds": 60}
    assert demand.output_tokens == 630
    assert not demand.refers


@pytest.mark.parametrize(
    "endpoint",
    ["/v1/files", "/v1/vector_stores/{id}/search", "/v1/threads", "/v1/threads/{id}/messages", "/v1/assistants",
     "/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1/responses/{id}/cancel",
     "/v1/chat/completions/{id}", "/v1/evals", "/v1/uploads/{id}/parts", "/v1/containers/{id}/files"],
)  # fmt: skip
def test_what_generates_nothing_uses_nothing(endpoint: str) -> None:
    assert of_body(endpoint, {"model": "gpt-5", "input": TEXT, "tools": [{"type": "web_search"}]}) == Demand()


_VALUES = st.none() | st.booleans() | st.integers(0, 99) | st.sampled_from(["none", TEXT, [], [TEXT], {}, {"a": TEXT}])
_NAMES = st.sampled_from(
    ["model", "input", "system", "max_tokens", "stream", "temperature", "stop", "user", "metadata"]
)
_MESSAGE = st.fixed_dictionaries({"role": _VALUES | st.sampled_from(["user", "system"]), "content": _VALUES})


@given(
    st.sampled_from([CHAT, RESPONSES, MESSAGES, "/v1/completions", "/v1/embeddings", "/v1/{other}"]),
    st.dictionaries(_NAMES, _VALUES),
    st.lists(_MESSAGE, max_size=3),
    st.sampled_from(["gpt-5", "claude-sonnet-4-6", "deepseek-chat"]),
)
def test_what_most_requests_have_counts_as_it_does_beside_what_few_have(
    endpoint: str, more: dict[str, object], messages: list[dict[str, object]], model: str
) -> None:
    usual = {"model": model, **more, "messages": messages}
    seldom: dict[str, object] = {"n": None}
    if endpoint in {CHAT, RESPONSES, MESSAGES}:  # elsewhere a status counts as a text
        seldom["messages"] = [{**message, "status": "completed"} for message in messages]
    assert of_body(endpoint, usual) == of_body(endpoint, {**usual, **seldom})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"fallbacks": ["claude-opus-4-7"]}, {"input_tokens": 27}),  # as with that model alone
        ({"audio": {"voice": "alloy"}}, {"speaks": True}),
        ({"modalities": ["audio"]}, {"speaks": True}),
        ({"speed": "fast"}, {"conditions": (("speed", "fast"),)}),
        ({"inference_geo": "us"}, {"conditions": (("inference_geo", "us"),)}),
        ({"service_tier": "priority"}, {"conditions": (("service_tier", "priority"),)}),
    ],
)
def test_a_field_that_few_requests_have_changes_the_demand(more: dict[str, Any], told: dict[str, object]) -> None:
    assert {name: getattr(chat(**more), name) for name in told} == told
    assert {name: getattr(chat(), name) for name in told} != told


@pytest.mark.parametrize("kept", [256, 10_000])
def test_a_long_text_may_be_cut(kept: int) -> None:
    long = TEXT * 100
    whole, outline = respond(input=long), respond(input=cut(long, kept))
    assert outline == whole


def test_cut_texts_count_in_all_places() -> None:
    long = cut(TEXT * 100)
    tool = {"type": "function", "function": {"name": "f", "description": long, "parameters": {"title": long}}}
    asked = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": long}]}, {"role": "tool", "content": long}],
        "tools": [tool],
    }
    for model in ("gpt-5", "deepseek-chat"):
        assert chat(model, **asked).input_tokens >= 400 * (TOKENS - 1)


def test_an_image_that_is_cut_has_its_size() -> None:
    image = png(1024, 1024, 10_000)
    part = {"type": "image_url", "image_url": {"url": cut(image), "detail": "high"}}
    whole = {"type": "image_url", "image_url": {"url": image, "detail": "high"}}
    of_both = [chat("gpt-4o", messages=[{"role": "user", "content": [one]}]) for one in (part, whole)]
    assert of_both[0] == of_both[1]
