from typing import Any

import pytest

from addon.demand import of_body

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


@pytest.mark.parametrize(
    "endpoint",
    ["/v1/batches", "/v1/messages/batches", "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/{id}/resume",
     "/v1/fine_tuning/alpha/graders/run", "/v1/evals/{id}/runs", "/v1/threads/runs", "/v1/threads/{id}/runs",
     "/v1/videos", "/v1/videos/{id}/remix", "/v1/conversations"],
)  # fmt: skip
def test_endpoints_whose_cost_is_stored_upstream_are_unbounded(endpoint: str) -> None:
    assert of_body(endpoint, {"model": "gpt-5"}).unbounded


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES, "/v1/messages", "/v1/embeddings", "/v1/images/generations"])
def test_usual_requests_are_bounded(endpoint: str) -> None:
    assert not of_body(endpoint, {"model": "gpt-5", "input": "Hi", "tools": []}).unbounded


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "web_search_preview"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "web_fetch_20250910", "name": "web_fetch"},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "image_generation"},
        {"type": "mcp", "server_url": "https://example.com"},
        {"type": "x_search"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "shell"},
        {"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]},
        {"googleSearch": {}},
        {"type": 1},
        "web_search",
    ],
)
def test_tools_that_the_provider_runs_are_unbounded(tool: object) -> None:
    function = {"type": "function", "name": "f", "parameters": {}}
    assert of_body(RESPONSES, {"model": "gpt-5", "input": "Hi", "tools": [function, tool]}).unbounded


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "name": "f"},
        {"type": "custom", "name": "f"},
        {"name": "f", "input_schema": {}},
        {"type": "computer_use_preview"},
        {"type": "computer_20250124", "name": "computer"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "local_shell"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
    ],
)
def test_tools_that_the_caller_runs_are_bounded(tool: dict[str, Any]) -> None:
    assert not of_body(RESPONSES, {"model": "gpt-5", "input": "Hi", "tools": [tool]}).unbounded


@pytest.mark.parametrize(
    "more",
    [
        {"background": True},
        {"web_search_options": {"search_context_size": "low"}},
        {"search_parameters": {"mode": "auto"}},
        {"web_search_options": {}},
        {"web_search_options": {"mode": "off"}},
        {"search_parameters": {}},
        {"container": ""},
        {"enable_search": True},
        {"tools": {"type": "web_search"}},
        {"tools": "web_search"},
        {"tools": {}},
        {"tools": [{"type": "namespace", "tools": {"type": "web_search"}}]},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015"}, {"type": "compact_20260112"}]}},
        {"context_management": {"edits": {"type": "compact_20260112"}}},
        {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
        {"context_management": "auto"},
        {"prompt": {"id": "pmpt_1"}},
        {"plugins": [{"id": "web"}]},
        {"mcp_servers": [{"url": "https://example.com"}]},
        {"container": "container_1"},
        {"model": "gpt-4o-search-preview"},
        {"model": "openai/gpt-5-search-api"},
        {"model": "sonar-deep-research"},
        {"model": "groq/compound"},
        {"model": "openai/gpt-4o:online"},
        {"model": "gpt-5", "models": ["sonar-pro"]},
    ],
)
def test_fields_and_models_that_search_or_run_on_are_unbounded(more: dict[str, Any]) -> None:
    assert of_body(CHAT, {"model": "gpt-5", "messages": [], **more}).unbounded


@pytest.mark.parametrize(
    "more",
    [{"background": False}, {"search_parameters": {"mode": "off"}}, {"plugins": []}, {"enable_search": False},
     {"web_search_options": None}, {"model": "gpt-4o"}, {"tools": None}, {"context_management": None},
     {"context_management": {}}, {"context_management": []}, {"prompt": "Hi"},
     {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}],
)  # fmt: skip
def test_fields_that_are_switched_off_are_nothing(more: dict[str, Any]) -> None:
    assert not of_body(CHAT, {"model": "gpt-5", "messages": [], **more}).unbounded


@pytest.mark.parametrize("endpoint", [RESPONSES, "/v1/responses/compact"])
@pytest.mark.parametrize("prompt", [{"id": "pmpt_1"}, {"id": "pmpt_1", "variables": {}}, "pmpt_1", {}])
def test_a_stored_prompt_is_unbounded(endpoint: str, prompt: object) -> None:
    assert "`prompt`" in of_body(endpoint, {"model": "gpt-5", "prompt": prompt}).unbounded
    assert "`prompt`" in of_body("/v1/realtime", {"response": {"prompt": prompt}}).unbounded


@pytest.mark.parametrize("value", ["five", "5e1", 5.5, -5, True, {"value": 5}, ["5", "five"], [[5]], "1" * 99])
@pytest.mark.parametrize("name", ["n", "best_of"])
def test_a_number_of_answers_that_cannot_be_read_is_unbounded(name: str, value: object) -> None:
    for endpoint in (CHAT, "/v1/completions", "/v1/images/generations"):
        assert f"`{name}`" in of_body(endpoint, {"model": "gpt-5", name: value}).unbounded


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", "4K"), ("size", 1024), ("size", "1024x1024x9"), ("size", ["1024x1024", "4K"]), ("partial_images", "all")],
)
def test_a_form_of_an_image_that_cannot_be_read_is_unbounded(name: str, value: object) -> None:
    assert f"`{name}`" in of_body("/v1/images/edits", {"model": "gpt-image-1", name: value}).unbounded
    assert not of_body("/v1/embeddings", {"model": "gpt-5", name: value}).unbounded


def test_a_reason_is_a_sentence_that_says_what_to_do() -> None:
    why = of_body(CHAT, {"model": "gpt-5", "messages": [], "plugins": [{"id": "web"}]}).unbounded
    assert why == "Plugins are paid beside tokens. Send the request without `plugins`."


def test_the_background_of_a_picture_is_no_response_in_the_background() -> None:
    body: dict[str, object] = {"model": "gpt-image-1", "prompt": "A cat.", "background": "transparent"}
    assert not of_body("/v1/images/generations", body).unbounded
    assert of_body("/v1/responses", {**body, "prompt": None}).unbounded
