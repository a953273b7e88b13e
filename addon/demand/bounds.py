"""Tells whether the cost of a request is bounded at all: why it is not, in a sentence."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from addon.demand.outputs import SELDOM, is_unread, unread
from addon.demand.picture_scale import scale_of
from addon.protocol.endpoints import REALTIME, RESPONSES
from addon.protocol.json_fields import Fields, fields, text
from addon.remembered import remembered

_ENDPOINTS: Sequence[tuple[str, str]] = (
    (r"/v1/(messages/)?batches", "A batch costs what the requests in its file use."),
    (r"/v1/fine_tuning/(?!jobs/\{id\}/(pause|cancel))", "A fine-tuning job costs what its training uses."),
    (r"/v1/evals/\{id\}/runs", "A run of an eval costs what its data and graders use."),
    (r"/v1/threads/(runs|\{id\}/runs)", "An assistant's run calls its model as often as it needs."),
    (r"/v1/videos", "A video costs what its seconds do, which the answer tells."),
    (r"/v1/conversations", "A conversation's tools and agents are stored upstream."),
)

_PICTURES = "/v1/images/"

_FIELDS: Mapping[str, str] = {
    "background": "A response in the background ends after its request does. Send it without `background`.",
    "web_search_options": "Searches are paid beside tokens. Send the request without `web_search_options`.",
    "search_parameters": "Searches are paid beside tokens. Send the request without `search_parameters`.",
    "enable_search": "Searches are paid beside tokens. Send the request without `enable_search`.",
    "plugins": "Plugins are paid beside tokens. Send the request without `plugins`.",
    "mcp_servers": "Servers of tools add input that nothing bounds. Send the request without `mcp_servers`.",
    "connectors": "Connectors add input that nothing bounds. Send the request without `connectors`.",
    "container": "A container is paid beside tokens. Send the request without `container`.",
}
"""Fields that stand for something unbounded unless they are null, false or an empty list: an empty object switches a
search on."""

TELLING = frozenset({*_FIELDS, *SELDOM, "prompt", "context_management", "tools"})
"""All fields by which a request may be unbounded."""

_SEARCHING = re.compile(r"(^|/)(gpt-[a-z0-9.-]+-search-(preview|api)|sonar|.*deep-research|compound)|:online$")
"""Models that search by themselves: OpenAI's, Perplexity's, Groq's systems, and any at OpenRouter."""

_BOUNDED_TOOL = re.compile(
    r"(function|custom|namespace|tool_search|computer|local_shell|apply_patch|bash|text_editor|memory)(_|$)"
)
"""Types of tools that the caller runs, so that they cost their tokens alone."""


def why_unbounded(endpoint: str, body: Fields, models: Sequence[str]) -> str:
    """Return why nothing bounds the cost of a request to one of these models; an empty text where it is bounded."""
    if TELLING.isdisjoint(body) and not tells_by_name(endpoint, models):
        return ""
    return next(_reasons(endpoint, body, models), "")


def tells_by_name(endpoint: str, models: Sequence[str]) -> bool:
    """Tell whether a request may be unbounded whatever its body says: by its endpoint, or one of its models."""
    return _is_telling(endpoint) or any(map(_searches, models))


@functools.lru_cache(256)
def _is_telling(endpoint: str) -> bool:
    """Tell whether an endpoint has reasons of its own."""
    return bool(_of_endpoint(endpoint)) or endpoint.startswith(_PICTURES)


def _reasons(endpoint: str, body: Fields, models: Sequence[str]) -> Iterator[str]:
    if why := _of_endpoint(endpoint):
        yield why
    is_picture = endpoint.startswith(_PICTURES)  # which has a background of its own
    yield from (
        why
        for name, why in _FIELDS.items()
        if _is_on(name, body.get(name)) and not (is_picture and name == "background")
    )
    if "prompt" in body and _has_stored_prompt(endpoint, body):
        yield _STORED_PROMPT
    if "context_management" in body and _compacts(body["context_management"]):
        yield _COMPACTION
    if any(map(_searches, models)):
        yield "The model searches by itself, which is paid beside tokens. Ask another model."
    if name := unread(body) or _unread_of_picture(endpoint, body):
        yield f"The form of `{name}` is not known, and it may ask for any amount. Send it as its reference says."
    if not _are_bounded(body.get("tools")):
        yield _TOOLS


@functools.lru_cache(256)
def _of_endpoint(endpoint: str) -> str:
    return next((why for pattern, why in _ENDPOINTS if re.match(pattern, endpoint)), "")


@remembered
def _searches(model: str) -> bool:
    return _SEARCHING.search(model.lower()) is not None


_TOOLS = "A tool that the provider runs is paid beside tokens, or adds input that nothing bounds. Send functions alone."
_STORED_PROMPT = "A stored prompt may have tools that the provider runs. Send its messages instead of `prompt`."
_COMPACTION = "A compaction is a further answer that nothing bounds. Send the request without `context_management`."


def _is_on(name: str, value: object) -> bool:
    if value is None or value is False or value == []:
        return False
    return not (name == "search_parameters" and fields(value).get("mode") == "off")


def _unread_of_picture(endpoint: str, body: Fields) -> str:
    if not endpoint.startswith(_PICTURES):
        return ""
    if scale_of(body.get("size")) is None:
        return "size"
    return "partial_images" if is_unread(body.get("partial_images")) else ""


def _has_stored_prompt(endpoint: str, body: Fields) -> bool:
    is_response = endpoint.startswith((RESPONSES, REALTIME))
    return body.get("prompt") is not None if is_response else "id" in fields(body, "prompt")


def _compacts(management: object) -> bool:
    """Tell whether edits of the context, in the form of messages or that of responses, may be a compaction."""
    edits = management.get("edits") if isinstance(management, dict) else management
    if not isinstance(edits, list):
        return edits is not None
    return any(not text(fields(edit), "type") or text(fields(edit), "type").startswith("compact") for edit in edits)


def _are_bounded(tools: object) -> bool:
    return tools is None or (isinstance(tools, list) and all(map(_is_bounded, tools)))


def _is_bounded(tool: object) -> bool:
    described = fields(tool)
    kind = text(described, "type")
    if not kind:
        return "function" in described or "name" in described
    if kind == "shell":  # the provider's, unless it runs at the caller's
        return fields(described, "environment").get("type") == "local"
    return bool(_BOUNDED_TOOL.match(kind)) and _are_bounded(described.get("tools"))
