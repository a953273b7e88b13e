"""Adds messages, and the items of a response's input, to a tally.

The forms: https://platform.openai.com/docs/api-reference/chat/create, .../responses/create, and
https://platform.claude.com/docs/en/api/messages.
"""

import re
from collections.abc import Callable, Mapping

from addon.demand.cut import TEXTS, Cut
from addon.demand.media import add_audio, add_file, add_picture
from addon.demand.tally import Tally
from addon.demand.vocabularies import Vocabulary
from addon.protocol.json_fields import Fields, fields, items, text

_MESSAGE: Mapping[Vocabulary, int] = {Vocabulary.O200K: 4, Vocabulary.OTHER: 6, Vocabulary.CLAUDE: 6}
"""Tokens around a message: its role, its beginning and its end, in OpenAI's, Llama's and ChatML's form."""
_NAME = 1
_CALL: Mapping[Vocabulary, int] = {Vocabulary.O200K: 4, Vocabulary.OTHER: 24, Vocabulary.CLAUDE: 40}
"""Tokens around a call of a function, or its result."""

_USUAL = 2
"""Fields of most messages: the role, and a text."""
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "model"})
"""Roles that count with the message. Others are texts, which templates of open models write out."""
_UNREAD = frozenset({"type", "id", "status", "tool_call_id", "call_id", "tool_use_id", "cache_control", "phase"})
"""Fields that the model does not read, or that count with the message."""
_UNREAD_OF_TEXT = frozenset({"type", "id", "cache_control", "signature", "annotations", "citations", "logprobs"})
"""Fields beside a text that its model does not read."""
_CALLS = frozenset({"function_call", "custom_tool_call", "function_call_output", "custom_tool_call_output"})
_WRITTEN = re.compile(
    r"(message|reasoning|\w+_call(_output)?|\w*tool_(use|result)|redacted_thinking|search_result|compaction|"
    r"summary|tool_reference|mcp_list_tools)?"
)
"""Types of parts and items whose content is written in the body. Those of unknown types may refer to something."""
_BODIES = ("content", "arguments", "input", "output", "result", "encrypted_content")
"""Fields with what an item is. The upstream takes one with an id and none of these from what it has stored."""
_REFERENCES = frozenset({"item_reference", "container_upload", "video_url", "video", "input_video"})


def add_item(tally: Tally, item: object) -> None:
    """Add an item of a response's input."""
    add_message(tally, item)
    of_item = fields(item)
    tally.refers |= of_item.get("id") is not None and all(of_item.get(name) in (None, []) for name in _BODIES)


def add_message(tally: Tally, message: object) -> None:
    """Add a message, or what an item of a response's input has in the body."""
    if not isinstance(message, dict):
        add_content(tally, message)
        return
    tally.add_tokens(_MESSAGE[tally.vocabulary])
    if len(message) == _USUAL and isinstance(content := message.get("content"), str) and _is_known(message.get("role")):
        tally.add_text(content)
        return
    kind = text(message, "type")
    if kind in _PARTS:
        add_content(tally, message)
        return
    if kind:
        tally.refers |= not _WRITTEN.fullmatch(kind)
    if kind in _CALLS:
        tally.add_tokens(_CALL[tally.vocabulary])
    tally.add_cache_control(message)
    for name, value in message.items():
        if name not in _UNREAD and not (name == "role" and _is_known(value)):
            _add_field(tally, name, value)


def _is_known(role: object) -> bool:
    return isinstance(role, str) and role in _ROLES


def add_content(tally: Tally, content: object) -> None:
    """Add the content of a message: a text, a part, or several."""
    match content:
        case str() | Cut():
            tally.add_text(content)
        case list():
            for part in content:
                add_content(tally, part)
        case dict():
            tally.add_cache_control(content)
            kind = text(content, "type")
            _PARTS.get(kind, Tally.add_json)(tally, content)
            tally.refers |= kind not in _PARTS and not _WRITTEN.fullmatch(kind)


def _add_field(tally: Tally, name: str, value: object) -> None:
    """Add a field of a message."""
    if name in {"content", "output"}:
        add_content(tally, value)
    elif name in {"tool_calls", "function_call"}:
        _add_calls(tally, value)
    elif name == "audio":
        tally.refers = True
    elif isinstance(value, TEXTS):
        tally.add_text(value)
        tally.add_tokens(_NAME)
    elif isinstance(value, list | dict):
        tally.add_json(value)


def _add_calls(tally: Tally, calls: object) -> None:
    for call in calls if isinstance(calls, list) else [calls]:
        called = fields(call, "function") or fields(call, "custom") or fields(call)
        tally.add_tokens(_CALL[tally.vocabulary])
        for name in ("name", "arguments", "input"):
            value = called.get(name)
            if isinstance(value, TEXTS):
                tally.add_text(value)
            elif value is not None:
                tally.add_json(value)


def _add_text(tally: Tally, part: Fields) -> None:
    for name, value in part.items():
        if name not in _UNREAD_OF_TEXT:
            add_content(tally, value)


def _add_thinking(tally: Tally, part: Fields) -> None:
    """Add thinking with its signature, from which the upstream restores more of it than is shown."""
    _add_text(tally, part)
    add_content(tally, part.get("signature"))


def _add_image(tally: Tally, part: Fields) -> None:
    """Add an image in OpenAI's forms: a URL in an object, or beside `detail`, or a file's id."""
    image = part.get("image_url")
    described = image if isinstance(image, dict) else part
    add_picture(tally, image.get("url") if isinstance(image, dict) else image, text(described, "detail"))


def _add_source(tally: Tally, part: Fields) -> None:
    """Add an image or a document in Anthropic's form."""
    source = fields(part, "source")
    kind = text(source, "type")
    if part.get("type") == "image":
        add_picture(tally, source.get("data") if kind == "base64" else None)
        return
    for name in ("title", "context"):
        add_content(tally, part.get(name))
    if kind in {"text", "content"}:
        add_content(tally, source.get("data") or source.get("content"))
    elif kind == "base64":
        add_file(tally, source.get("data"), text(source, "media_type"))
    else:
        tally.refers = True


def _add_file(tally: Tally, part: Fields) -> None:
    """Add a file in OpenAI's forms. Its name is read as well."""
    file = fields(part, "file") or part
    add_content(tally, file.get("filename"))
    add_file(tally, file.get("file_data"))


def _add_audio(tally: Tally, part: Fields) -> None:
    audio = part.get("input_audio")
    if isinstance(audio, dict):
        add_audio(tally, audio.get("data"), text(audio, "format"))
    else:  # Mistral's is the data itself, or a URL
        add_audio(tally, audio, "")


def _add_result(tally: Tally, part: Fields) -> None:
    tally.add_tokens(_CALL[tally.vocabulary])
    add_content(tally, part.get("content"))


def _add_screenshot(tally: Tally, part: Fields) -> None:
    add_picture(tally, part.get("image_url"), text(part, "detail"))


def _add_output_of_computer(tally: Tally, part: Fields) -> None:
    for output in [part.get("output"), *items(part, "output")]:
        if isinstance(output, dict):
            _add_screenshot(tally, output)


def _add_reference(tally: Tally, _part: Fields) -> None:
    tally.refers = True


_PARTS: Mapping[str, Callable[[Tally, Fields], None]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal", "summary_text"), _add_text),
    "thinking": _add_thinking,
    **dict.fromkeys(("image_url", "input_image"), _add_image),
    **dict.fromkeys(("image", "document"), _add_source),
    **dict.fromkeys(("file", "input_file"), _add_file),
    "input_audio": _add_audio,
    "tool_use": _add_calls,
    "tool_result": _add_result,
    "computer_screenshot": _add_screenshot,
    "computer_call_output": _add_output_of_computer,
    **dict.fromkeys(_REFERENCES, _add_reference),
}
"""By the type of a part. Of another one all texts count."""
