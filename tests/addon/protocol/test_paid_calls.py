from typing import Any

import pytest

from addon.protocol.paid_calls import offers_paid_tools, units_of_calls


def call(kind: str, **fields: object) -> dict[str, object]:
    return {"type": kind, "id": "item_1", "status": "completed", **fields}


@pytest.mark.parametrize(
    ("output", "units"),
    [
        ([], {}),
        ([call("web_search_call")], {"web_searches": 1}),
        ([call("web_search_call", action={"type": "search"})] * 3, {"web_searches": 3}),
        ([call("web_search_call", action={"type": "open_page"})], {}),
        ([call("web_search_call", action={"type": "find_in_page"})], {}),
        ([call("web_search_call", status="failed")], {}),
        ([call("file_search_call"), call("web_search_call")], {"storage_searches": 1, "web_searches": 1}),
        ([call("code_interpreter_call", container_id="a")] * 2, {"code_containers": 1}),
        ([call("code_interpreter_call", container_id=name) for name in "ab"], {"code_containers": 2}),
        (
            [call("shell_call", environment={"type": "container_reference", "container_id": "a"})],
            {"code_containers": 1},
        ),
        ([call("image_generation_call", result="A")], {"output_images": 1, "tool_calls": 1}),
        ([call("function_call", name="web_search_call"), call("mcp_call"), call("message")], {}),
        (["x", None, 3, {}, {"type": 4}], {}),
    ],
)
def test_calls_of_a_response_are_counted(output: list[Any], units: dict[str, int]) -> None:
    assert units_of_calls({"output": output}) == units


@pytest.mark.parametrize(("told", "searches"), [(3, 3), (0, 0), (None, 1), (-1, 1), ("3", 1)])
def test_searches_that_the_response_counts_itself_go_before_its_calls(told: object, searches: int) -> None:
    answer: dict[str, object] = {
        "output": [call("web_search_call")],
        "tool_usage": {"web_search": {"num_requests": told}},
    }
    assert units_of_calls(answer)["web_searches"] == searches


def test_executed_tools_of_a_chat_completion_are_counted() -> None:
    executed = [{"index": 0, "type": "search"}, {"index": 1, "type": "python"}]
    choices = [{"index": 0, "message": {"content": "Hi", "executed_tools": executed}}]
    breakdown: dict[str, object] = {"usage_breakdown": {"models": []}}
    assert units_of_calls({**breakdown, "choices": choices}) == {"tool_calls": 2}
    assert units_of_calls({**breakdown, "choices": [{"message": {"content": "Hi", "tool_calls": executed}}]}) == {}


@pytest.mark.parametrize(
    ("answer", "is_paid"),
    [
        ({"tools": [{"type": "web_search_preview"}]}, True),
        ({"tools": [{"type": "function"}, {"type": "file_search"}]}, True),
        ({"tools": [{"type": "function", "name": "web_search"}]}, False),
        ({"tools": []}, False),
        ({}, False),
    ],
)
def test_tools_that_are_offered_are_known(answer: dict[str, Any], is_paid: bool) -> None:
    assert offers_paid_tools(answer) is is_paid
