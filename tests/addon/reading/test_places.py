import json
from typing import Any

import pytest

from addon.reading.doubt import Doubt
from addon.reading.names import MAX_MODEL, checked_model, folded
from addon.reading.places import models_of

FREE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "model": "evil"}], "model": "evil"}]},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": '{"model": "evil"}'}}]}]},
    {"input": [{"type": "message", "model": "evil"}]},
    {"input": {"model": "evil"}},
    {"metadata": {"model": "evil", "fallbacks": "evil"}},
    {"prompt": {"id": "x", "variables": {"model": "evil"}}},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": {}}}}}]},
    {"tools": [{"type": "function", "name": "f", "parameters": {"model": "evil", "properties": {"model": {}}}}]},
    {"tools": [{"name": "f", "input_schema": {"model": "evil"}}]},
    {"functions": [{"name": "f", "parameters": {"model": "evil"}}]},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"model": "evil"}}}}},
    {"text": {"format": {"type": "json_schema", "schema": {"model": "evil"}}}},
    {"format": {"properties": {"model": {"type": "string"}}}},
    {"documents": [{"model": "evil"}]},
    {"item": {"content": [{"model": "evil"}]}},
    {"prediction": {"content": "x", "model": "evil"}},
    {"provider": {"order": ["azure"], "allow_fallbacks": True}},
    {"fallbacks": None, "mock_testing_fallbacks": False, "max_fallbacks": 2},
    {"plugins": [{"id": "web", "engine": "exa"}]},
    {"preset": None},
]

NAMING: list[tuple[dict[str, Any], list[str]]] = [
    ({"models": ["b", "c"]}, ["b", "c"]),
    ({"model_id": "b"}, ["b"]),
    ({"modelId": "b"}, ["b"]),
    ({"MODEL": "b"}, ["b"]),
    ({"mo-del": "b"}, ["b"]),
    ({" model ": "b"}, ["b"]),
    ({"model\0x": "b"}, ["b"]),
    ({"engine": "b"}, ["b"]),
    ({"deployment_id": "b"}, ["b"]),
    ({"fallbacks": ["b", {"model": "c", "messages": [{"model": "no"}]}]}, ["b", "c"]),
    ({"fallbacks": [{"a": ["b", "c"]}]}, ["b", "c"]),
    ({"FALLBAC\N{KELVIN SIGN}S": ["b"]}, ["b"]),
    ({"context_window_fallbacks": [{"a": ["b"]}]}, ["b"]),
    ({"fallback_models": ["b"]}, ["b"]),
    ({"safety_model": "b"}, ["b"]),
    ({"moderation": {"model": "b"}}, ["b"]),
    ({"compound_custom": {"models": {"answering_model": "b", "reasoning_model": "c"}}}, ["b", "c"]),
    ({"providerOptions": {"gateway": {"models": ["b"]}}}, ["b"]),
    ({"extra_body": {"models": ["b"]}}, ["b"]),
    ({"config": {"targets": [{"override_params": {"model": "b"}}]}}, ["b"]),
    ({"tools": [{"type": "image_generation", "model": "b"}]}, ["b"]),
    ({"tools": [{"type": "image_generation", "model": "b", "svg": {"model": "c"}}]}, ["b", "c"]),
    ({"tools": [{"type": "advisor_20260301", "model": "b"}]}, ["b"]),
    ({"tools": [{"type": "openrouter:advisor", "parameters": {"model": "b"}}]}, ["b"]),
    ({"tools": [{"Type": "openrouter:advisor", "Parameters": {"Model": "b"}}]}, ["b"]),
    ({"input": [{"Tools": [{"type": "image_generation", "model": "b"}]}]}, ["b"]),
    ({"tools": [{"type": "namespace", "tools": [{"type": "image_generation", "model": "b"}]}]}, ["b"]),
    ({"input": [{"type": "tool_search_output", "tools": [{"type": "image_generation", "model": "b"}]}]}, ["b"]),
    ({"plugins": [{"id": "fusion", "model": "b", "analysis_models": ["c"]}]}, ["b", "c"]),
    ({"session": {"model": "b", "audio": {"input": {"transcription": {"model": "c"}}}}}, ["b", "c"]),
    ({"session": {"input_audio_transcription": {"model": "b"}}}, ["b"]),
    ({"session": {"delegation": {"type": "responses", "model": "b"}}}, ["b"]),
    ({"response": {"model": "b", "input": [{"model": "no"}]}}, ["b"]),
    ({"__proto__": {"model": "b"}}, ["b"]),
]

DOUBTFUL: list[tuple[dict[str, Any], str]] = [
    ({"Model": "b", "MODEL": "b"}, "in two spellings"),
    ({"model": "b", "Model": "b"}, "in two spellings"),
    ({"model_id": "b", "modelId": "b"}, "in two spellings"),
    ({"models": ["b"], "Models": ["b"]}, "in two spellings"),
    ({"preset": "x"}, "stored upstream"),
    ({"Preset": "x"}, "stored upstream"),
    ({"route": "fallback"}, "stored upstream"),
    ({"agent_id": "x"}, "stored upstream"),
    ({"prompt_id": "x"}, "stored upstream"),
    ({"config": "pc-x"}, "stored upstream"),
    ({"tools": [{"type": "image_generation"}]}, "model of its own"),
    ({"tools": [{"type": "openrouter:fusion", "parameters": {"model": "b"}}]}, "model of its own"),
    ({"Tools": [{"Type": "image_generation"}]}, "model of its own"),
    ({"plugins": [{"id": "fusion"}]}, "model of its own"),
    ({"input": [{"tools": [{"type": "image_generation"}]}]}, "model of its own"),
    ({"models": ["b", "c,d"]}, "comma"),
    ({"models": ["openai/b@preset/x"]}, "preset"),
    ({"models": [""]}, "empty"),
    ({"models": [" b"]}, "blanks"),
    ({"models": ["b\n"]}, "blanks"),
    ({"models": ["b\0-mini"]}, "control"),
    ({"models": ["b\u200b"]}, "control"),
    ({"models": ["b\N{GRINNING FACE}"]}, "split or cut"),
    ({"models": ["b" * 257]}, "longer"),
    ({"models": ["\u6f22" * 100]}, "longer"),
    ({"x": [{}] * 30_000}, "too many fields"),
]


@pytest.mark.parametrize("more", FREE, ids=json.dumps)
def test_free_content_names_no_model(more: dict[str, Any]) -> None:
    assert models_of({"model": "a", **more}, has_to_name=True) == ("a",)


@pytest.mark.parametrize(("more", "models"), NAMING, ids=json.dumps)
def test_every_other_field_that_names_models_is_judged(more: dict[str, Any], models: list[str]) -> None:
    if folded(next(iter(more))) != "model":
        assert models_of({**more, "model": "a"}, has_to_name=True) == ("a", *models)
    assert models_of(more, has_to_name=False) == tuple(models)
    with pytest.raises(Doubt, match=r"does not name its model.*\."):
        models_of(more, has_to_name=True)


@pytest.mark.parametrize(("more", "why"), DOUBTFUL, ids=lambda value: json.dumps(value)[:60])
def test_what_may_be_another_model_is_a_doubt(more: dict[str, Any], why: str) -> None:
    with pytest.raises(Doubt, match=why):
        models_of({"model": "a", **more} if "Model" not in more else more, has_to_name="model" in more)


@pytest.mark.parametrize("model", [None, 1, True, ["a"], {"a": 1}])
def test_a_model_that_is_no_text_is_a_doubt(model: object) -> None:
    with pytest.raises(Doubt, match="no text"):
        models_of({"model": model}, has_to_name=True)


@pytest.mark.parametrize("body", [None, [], "a", 1, ["model", "a"]])
def test_json_that_is_no_object_is_a_doubt(body: object) -> None:
    with pytest.raises(Doubt, match="no JSON object"):
        models_of(body, has_to_name=False)


def test_a_stored_prompt_without_a_model_has_a_doubt_of_its_own() -> None:
    with pytest.raises(Doubt, match="prompt that is stored upstream"):
        models_of({"prompt": {"id": "pmpt_1"}}, has_to_name=True)
    assert models_of({"prompt": {"id": "pmpt_1"}, "model": "a"}, has_to_name=True) == ("a",)


def test_a_model_counts_once() -> None:
    assert models_of({"model": "a", "models": ["b", "a"]}, has_to_name=True) == ("a", "b")


@pytest.mark.parametrize("name", ["a", "openai/gpt-4.1:nitro", "@cf/meta/llama-3", "ft:gpt-4o:org::id", "模型", "a b"])
def test_usual_names_of_models_are_taken_exactly(name: str) -> None:
    assert checked_model(name) == name


def test_a_name_may_be_as_long_as_the_bound() -> None:
    assert checked_model("a" * MAX_MODEL)
