"""Adds the tools that a request offers, and the schema that its answer must follow, to a tally.

OpenAI's models read functions in a syntax of their own, of which its cookbook gives the tokens ("How to count tokens
with tiktoken"); all others read JSON.
"""

import json
from collections.abc import Mapping

from addon.demand.cut import TEXTS, Cut
from addon.demand.tally import Tally
from addon.demand.vocabularies import Vocabulary
from addon.protocol.json_fields import Fields, fields, items, text

_TOOL, _PIECE = 10, 2
_PREAMBLE: Mapping[Vocabulary, int] = {Vocabulary.O200K: 16, Vocabulary.OTHER: 200, Vocabulary.CLAUDE: 740}
"""Tokens that tell a model how to call: templates of open models; of Claude at most 530 until 4.6, and 35 % more since
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing)."""
_BUILT_IN = 1500
"""Tokens of a tool that the model knows, such as a computer or an editor, at most."""
_SCHEMA = 24
FORMATS = frozenset({"response_format", "text", "output_format", "output_config"})
"""Fields that hold the schema of an answer."""
_UNREAD = frozenset({"type", "cache_control"})
_READ_APART = frozenset({"name", "description", "parameters", "strict"})
_SYNTAX = frozenset(
    {"type", "properties", "items", "required", "additionalProperties", "strict", "enum", "description"}
)
"""Names in a schema that are not written where OpenAI's models read it."""


def add_tools(tally: Tally, body: Fields) -> None:
    """Add `tools`, and OpenAI's former `functions`."""
    tools = [*items(body, "tools"), *items(body, "functions")]
    if not tools:
        return
    tally.add_tokens(_PREAMBLE[tally.vocabulary])
    for tool in map(fields, tools):
        tally.add_cache_control(tool)
        _add_tool(tally, tool)


def add_schema(tally: Tally, body: Fields) -> None:
    """Add the schema of the answer, from chat completions, responses or messages."""
    if FORMATS.isdisjoint(body):
        return
    formats = (body.get("response_format"), fields(body, "text").get("format"), body.get("output_format"),
               fields(body, "output_config").get("format"))  # fmt: skip
    for form in formats:
        if isinstance(form, dict) and form.keys() - {"type"}:
            _add_as_json(tally, form)
            tally.add_tokens(_SCHEMA)


def _add_tool(tally: Tally, tool: Fields) -> None:
    carrier = next((name for name in ("function", "custom") if fields(tool, name)), "")
    function = fields(tool, carrier) if carrier else tool
    tally.add_tokens(_TOOL)
    if text(tool, "type") not in {"", "function", "custom"}:
        tally.add_tokens(_BUILT_IN)
    if carrier:
        _add_further(tally, tool, _UNREAD | {carrier})
    if tally.vocabulary is not Vocabulary.O200K or "parameters" not in function:
        _add_as_json(tally, function)
        return
    for name in ("name", "description"):
        _add_piece(tally, function.get(name))
    _add_schema(tally, function.get("parameters"))
    _add_further(tally, function, _UNREAD | _READ_APART)


def _add_further(tally: Tally, tool: Fields, known: frozenset[str]) -> None:
    """Add the fields that are not known: a template of an open model writes them out."""
    if further := {name: value for name, value in tool.items() if name not in known}:
        _add_as_json(tally, further)


def _add_schema(tally: Tally, schema: object) -> None:
    """Add the names, types and descriptions in a schema."""
    match schema:
        case dict():
            for name, value in schema.items():
                if name == "properties" and isinstance(value, dict):
                    for of_property, inner in value.items():
                        _add_piece(tally, of_property)
                        _add_schema(tally, inner)
                elif name in _SYNTAX:
                    if name not in {"required", "additionalProperties", "strict"}:
                        _add_schema(tally, value)
                else:
                    _add_piece(tally, name)
                    _add_schema(tally, value)
        case list():
            for value in schema:
                _add_schema(tally, value)
        case _:
            _add_piece(tally, schema)


def _add_piece(tally: Tally, piece: object) -> None:
    tally.add_tokens(_PIECE)
    if piece is not None:
        tally.add_text(piece if isinstance(piece, TEXTS) else str(piece))


def _add_as_json(tally: Tally, value: Fields) -> None:
    """Add a value as it is written in JSON; of texts that are cut their counts."""

    def add_cut(one: object) -> str:
        if isinstance(one, Cut):
            tally.add_text(one)
        return ""

    tally.add_text(json.dumps(value, ensure_ascii=False, default=add_cut))
