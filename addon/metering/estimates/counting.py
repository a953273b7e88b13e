"""Counts the tokens of a request and of its response: an estimate of the usage that the upstream would have reported.

Messages and tools are counted as in OpenAI's cookbook, "How to count tokens with tiktoken". Hidden reasoning cannot be
counted. Neither can an input with images, audio, files, or content that the upstream stores: then no number is better
than a wrong one.
"""

import contextlib
import functools
import json
from collections.abc import Callable

import bpe_openai

from addon.metering.estimates.estimate_request import EstimateRequest, separated
from addon.metering.estimates.text_accumulator import REASONING, TextAccumulator
from addon.protocol.endpoints import Kind, shape_of
from addon.protocol.json_fields import Fields, fields, items, parse, text

type Count = Callable[[str], int]
"""Counts the tokens of a text."""

_OLD, _NEW = "cl100k_base", "o200k_base"
_OLD_MODELS = ("gpt-3.5", "gpt-35", "gpt-4-", "davinci-002", "babbage-002", "text-embedding-")
_AT_ONCE = 50_000
"""Characters that are encoded at once: the library accepts at most 200,000 tokens, and a character can be four."""

_MESSAGE, _NAME, _PRIMING = 3, 1, 3
_TOOL = {_OLD: 10, _NEW: 7}
_PROPERTIES, _PROPERTY, _ENUM, _ENUM_ITEM, _TOOLS_END = 3, 3, -3, 3, 12

_TEXT_PARTS = {"text", "input_text", "output_text", "refusal"}
_KEPT_UPSTREAM = ("previous_response_id", "conversation", "prompt")
"""Fields of a request for a response that refer to content that the upstream stores."""


class Unknown(Exception):
    """Content whose tokens cannot be counted."""


def units(asked: EstimateRequest) -> dict[str, int]:
    """Return the units that can be counted; none where the response will be made later."""
    encoding = encoding_of(asked.model)
    count = counter(encoding)
    texts = _texts(asked)
    if texts.is_pending:
        return {}
    counted = _output(texts, count)
    if asked.request:
        with contextlib.suppress(Unknown):  # the output is known nevertheless
            counted["input_tokens"] = _input(asked, count, encoding)
    return counted


def encoding_of(model: str | None) -> str:
    """Return the name of a model's encoding; the newest for an unknown model."""
    name = (model or "").removeprefix("ft:")
    return _OLD if name == "gpt-4" or name.startswith(_OLD_MODELS) else _NEW


@functools.cache
def counter(encoding: str) -> Count:
    """Return a function that counts the tokens of a text of any length and form."""
    encode = bpe_openai.get_encoding(encoding).encode_ordinary

    def count(value: str) -> int:
        return sum(len(encode(value[start : start + _AT_ONCE])) for start in range(0, len(value), _AT_ONCE))

    return count


def messages_tokens(messages: list[object], count: Count) -> int:
    """Return the tokens of a conversation. Raises Unknown."""
    return _PRIMING + sum(_MESSAGE + _message(fields(message), count) for message in messages)


def tools_tokens(tools: list[object], count: Count, encoding: str) -> int:
    """Return the tokens of the definitions of functions. Raises Unknown for other tools."""
    if not tools:
        return 0
    return _TOOLS_END + sum(_TOOL[encoding] + _function(fields(tool), count) for tool in tools)


def _texts(asked: EstimateRequest) -> TextAccumulator:
    texts = TextAccumulator()
    for name, piece in asked.texts:
        texts.add(name, piece)
    for event in separated(asked.events):
        texts.add_event(parse(event, cut=True))
    texts.beyond += asked.beyond
    return texts


def _output(texts: TextAccumulator, count: Count) -> dict[str, int]:
    """Count the texts; the text that is not kept counts as many tokens a byte as they do."""
    if texts.has_audio:
        return {}
    kept = sum(map(len, texts.texts.values()))
    scale = 1 + texts.beyond / max(kept, 1)
    tokens = {name: count(piece.decode(errors="replace")) for name, piece in texts.texts.items()}
    reasoning = sum(number for name, number in tokens.items() if name.startswith(REASONING))
    counted = {"output_tokens": round(sum(tokens.values()) * scale)}
    if reasoning:
        counted["output_reasoning_tokens"] = round(reasoning * scale)
    return counted


def _input(asked: EstimateRequest, count: Count, encoding: str) -> int:
    request, kind = parse(asked.request), shape_of(asked.endpoint).kind
    if not request:
        raise Unknown
    if kind is Kind.COMPLETION:
        return _prompt(request.get("prompt"), count)
    tools = tools_tokens(items(request, "tools") + items(request, "functions"), count, encoding)
    return tools + _schema(request, count) + messages_tokens(_messages(kind, request), count)


def _messages(kind: Kind, request: Fields) -> list[object]:
    if kind is Kind.CHAT:
        return items(request, "messages")
    if any(request.get(name) is not None for name in _KEPT_UPSTREAM):
        raise Unknown
    given = request.get("input")
    turns = given if isinstance(given, list) else [{"role": "user", "content": given}]
    instructions = text(request, "instructions")
    return [{"role": "system", "content": instructions}, *turns] if instructions else turns


def _schema(request: Fields, count: Count) -> int:
    """Count the schema that the response must follow: the model reads it too."""
    schema = fields(request, "response_format").get("json_schema") or fields(fields(request, "text"), "format").get(
        "schema"
    )
    return count(json.dumps(schema, separators=(",", ":"), ensure_ascii=False)) if schema else 0


def _prompt(prompt: object, count: Count) -> int:
    """Count the prompt of a legacy completion: a text, tokens, or a list of either. Raises Unknown."""
    match prompt:
        case str():
            return count(prompt)
        case int():
            return 1
        case list():
            return sum(_prompt(item, count) for item in prompt)
    raise Unknown


def _message(message: Fields, count: Count) -> int:
    """Count the content of a message, or of an item of a response's input. Raises Unknown."""
    if message.get("type", "message") not in {"message", "function_call", "function_call_output"} or message.get(
        "audio"
    ):
        raise Unknown
    calls = [*items(message, "tool_calls"), message.get("function_call")]
    called = [fields(call, "function") or fields(call) for call in calls]
    plain = [text(part, name) for part in called for name in ("name", "arguments")]
    plain += [text(message, name) for name in ("role", "name", "arguments", "reasoning_content")]
    contents = _content(message.get("content"), count) + _content(message.get("output"), count)
    return sum(map(count, plain)) + contents + (_NAME if text(message, "name") else 0)


def _content(content: object, count: Count) -> int:
    if isinstance(content, str):
        return count(content)
    parts = [fields(part) for part in content] if isinstance(content, list) else []
    if any(part.get("type") not in _TEXT_PARTS for part in parts):
        raise Unknown
    return sum(count(text(part, "text") or text(part, "refusal")) for part in parts)


def _function(tool: Fields, count: Count) -> int:
    function = fields(tool, "function") or tool
    if tool.get("type", "function") != "function":
        raise Unknown
    line = f"{text(function, 'name')}:{text(function, 'description').removesuffix('.')}"
    return count(line) + _properties(fields(function, "parameters"), count)


def _properties(schema: Fields, count: Count) -> int:
    """Count the properties of an object and, as the cookbook leaves open, those of nested objects in the same way."""
    properties = fields(schema, "properties")
    own = sum(_PROPERTY + _property(name, fields(one), count) for name, one in properties.items())
    return own + (_PROPERTIES if properties else 0)


def _property(name: str, schema: Fields, count: Count) -> int:
    enum = items(schema, "enum")
    of_enum = sum(_ENUM_ITEM + count(str(item)) for item in enum) + (_ENUM if enum else 0)
    line = f"{name}:{text(schema, 'type')}:{text(schema, 'description').removesuffix('.')}"
    return of_enum + count(line) + _properties(schema, count) + _properties(fields(schema, "items"), count)
