"""Counts the calls of the upstream's own tools in an answer, which are paid beside tokens.

A tool counts where it was called, not where it was offered. The forms are those of OpenAI's responses
(https://platform.openai.com/docs/api-reference/responses/object) and of Groq's compound systems
(https://console.groq.com/docs/compound).
"""

from collections.abc import Mapping, Sequence

from addon.protocol.json_fields import Fields, fields, items, number, text
from store.ledger.usage import Units

_SEARCHES: Mapping[str, str] = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}
_UNPAID_ACTIONS = {"open_page", "find_in_page"}
"""Actions of a web search that cost nothing beside their tokens."""
_IMAGE = "image_generation_call"
"""An image that a model of its own has made, whose tokens are in no usage."""
_PLACES = frozenset({"output", "tool_usage", "usage_breakdown"})
"""Fields of the answers that tell calls; Groq's compound systems tell a breakdown of their usage too."""
_OFFERED = ("web_search", "file_search", "code_interpreter", "image_generation")
"""The beginnings of the types of tools that are paid."""


def units_of_calls(answer: Fields) -> Units:
    """Return the units of the calls in an answer."""
    if _PLACES.isdisjoint(answer):
        return {}
    executed = [
        call
        for choice in items(answer, "choices")
        for call in items(fields(fields(choice), "message"), "executed_tools")
    ]
    units = units_of_items(items(answer, "output"))
    searches = number(fields(fields(answer, "tool_usage"), "web_search"), "num_requests")
    if searches is not None and searches >= 0:  # more than the calls, where one call asks several queries
        units["web_searches"] = searches
    return {**units, "tool_calls": units.get("tool_calls", 0) + len(executed)} if executed else units


def units_of_items(output: Sequence[object]) -> dict[str, int]:
    """Return the units of the items of a response's output."""
    units: dict[str, int] = {}
    containers = set()
    for item in map(fields, output):
        kind = text(item, "type")
        if not kind.endswith("_call") or text(item, "status") == "failed":
            continue
        if kind in _SEARCHES and text(fields(item, "action"), "type") not in _UNPAID_ACTIONS:
            _count(units, _SEARCHES[kind])
        elif kind == _IMAGE:
            _count(units, "output_images")
            _count(units, "tool_calls")
        containers.add(text(item, "container_id") or text(fields(item, "environment"), "container_id"))
    containers.discard("")
    return {**units, "code_containers": len(containers)} if containers else units


def offers_paid_tools(answer: Fields) -> bool:
    """Tell whether an answer names tools that would be paid if they were called."""
    return any(text(fields(tool), "type").startswith(_OFFERED) for tool in items(answer, "tools"))


def _count(units: dict[str, int], unit: str) -> None:
    units[unit] = units.get(unit, 0) + 1
