"""The fields of a JSON object that name models.

Every field is looked at whose name says so (`names.names_models`), wherever it stands outside of free content: a
router's field of tomorrow is judged too. Free content is what users write, or what describes data.

Sources, beside OpenAI's reference: https://openrouter.ai/docs/guides/routing (models, presets, plugins, server tools),
https://docs.litellm.ai/docs/proxy/client_side_fallbacks, https://vercel.com/docs/ai-gateway (providerOptions),
https://console.groq.com/docs/compound (compound_custom), https://docs.litellm.ai/docs/completion/anthropic_advisor_tool
and https://portkey.ai/docs/product/ai-gateway/configs.
"""

from collections.abc import Mapping
from enum import Enum, auto

from addon.demand import Cut
from addon.protocol.json_fields import Fields
from addon.reading.doubt import Doubt
from addon.reading.names import MODEL, checked_model, folded, names_models
from addon.reading.outline import CUT
from addon.remembered import remembered

_FREE = frozenset({
    "$defs", "content", "contents", "defs", "definitions", "documents", "examples", "format", "grammar", "guidedjson",
    "inputs", "item", "items", "json", "messages", "metadata", "prediction", "prompt", "properties", "queries", "query",
    "system", "systeminstruction", "texts", "variables",
})  # fmt: skip
"""Folded names of fields that hold free content. `input` and `parameters` depend on where they stand."""
_SCHEMA = "schema"
"""Fields that end so describe data."""

_STORED = frozenset({"agentid", "preset", "promptid", "route"})
"""Top-level fields that let something stored upstream choose the model: Mistral's agents, OpenRouter's presets and
automatic route, LiteLLM's prompts.
"""
_CONFIG = "config"
"""Portkey's: an object is looked at, a text names one that is stored."""

_DESCRIBING = frozenset({"custom", "function", "namespace", "object"})
"""Types of tools, and of schemas, whose `parameters` describe data. Those of OpenRouter's own tools configure them."""

_OWN_MODEL: Mapping[str, tuple[str, ...]] = {
    "image_generation": ("model",),
    "advisor": ("model",),
    "fusion": ("model", "analysismodels"),
    "subagent": ("model",),
}
"""Starts of the names of tools and plugins that run models of their own, and the fields that have to name these:
otherwise the upstream chooses. A prefix as in `openrouter:fusion` makes no difference.
"""

_TOO_LONG = "The name of a model is too long."

_MAX_FIELDS = 20_000
"""Fields and elements that are looked at."""


def models_of(body: object, *, has_to_name: bool) -> tuple[str, ...]:
    """Return the models that a JSON object names, the one in `model` first.

    Raises Doubt if it cannot be told, or if it `has_to_name` one in its top-level `model` and does not.
    """
    if not isinstance(body, dict):
        raise Doubt("The body is no JSON object. Send one, with its model in the field 'model'.")
    model = body.get(MODEL)
    if isinstance(model, str) and model != CUT and _is_plain(body):
        return (checked_model(model),)
    _check_stored(body)
    if has_to_name and not isinstance(model, str):
        raise Doubt(_why_none(body))
    search = _Search()
    if isinstance(model, str):
        search.add(model)
    search.fields(body, "")
    return tuple(dict.fromkeys(search.models))


def _is_plain(body: Fields) -> bool:
    """Tell whether nothing but `model` can name models in a body, as in most: by the names of its fields alone."""
    if len(body) > _MAX_FIELDS:
        return False
    for name, value in body.items():
        part = _part_of(name)
        if part is not _Part.NONE and (part is _Part.TELLING or isinstance(value, dict | list)):
            return False
    return True


class _Part(Enum):
    """The part that a top-level field has in naming models."""

    NONE = auto()
    """It is `model` itself, or holds free content."""
    HOLDING = auto()
    """Its value may name models, if that is an object or a list."""
    TELLING = auto()
    """It may name models, whatever it is."""


@remembered
def _part_of(name: str) -> _Part:
    fold = folded(name)
    if name == MODEL:
        return _Part.NONE
    if names_models(fold) or fold in _STORED or fold == _CONFIG:
        return _Part.TELLING
    return _Part.NONE if fold in _FREE or fold.endswith(_SCHEMA) else _Part.HOLDING


def _why_none(body: Fields) -> str:
    if MODEL in body:
        return "The field 'model' is no text. Send the name of one model."
    if "prompt" in body and isinstance(body["prompt"], dict):
        return "The model is only named by a prompt that is stored upstream. Name it in the field 'model', too."
    return "The body does not name its model. Send it in the top-level field 'model'."


def _check_stored(body: Fields) -> None:
    for name, value in body.items():
        fold = folded(name)
        if (fold in _STORED and value is not None) or (fold == _CONFIG and isinstance(value, str)):
            raise Doubt(
                "The body lets something that is stored upstream choose the model: a preset, a route, an agent, a "
                "prompt or a configuration. Leave it out, and name the model in the field 'model'."
            )


class _Search:
    """Looks through one body."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self._left = _MAX_FIELDS

    def add(self, name: str) -> None:
        if name == CUT:
            raise Doubt(_TOO_LONG)
        self.models.append(checked_model(name))

    def fields(self, holder: Fields, place: str) -> None:
        """Look through an object; `place` is the folded name of the field that holds it."""
        self._spend(len(holder))
        _check_own_models(holder, place)
        folds = [(folded(name), value) for name, value in holder.items()]
        naming = [fold for fold, _ in folds if names_models(fold, is_top=not place)]
        if len(set(naming)) < len(naming):
            raise Doubt("The body names a model twice in one object, in two spellings of a field. Send one.")
        for fold, value in folds:
            if fold in naming:
                self._named(value, fold)
            elif fold == "input":
                self._input(value, place)
            elif isinstance(value, dict | list) and not _is_free(fold, holder):
                self._any(value, fold)

    def _any(self, value: object, place: str) -> None:
        match value:
            case dict():
                self.fields(value, place)
            case list():
                self._spend(len(value))
                for item in value:
                    self._any(item, place)

    def _named(self, value: object, place: str) -> None:
        """Take the value of a field that names models: a name, several, or objects that hold them.

        An object without such a field maps names to names, as LiteLLM's `fallbacks` do.
        """
        match value:
            case Cut():
                raise Doubt(_TOO_LONG)
            case str():
                self.add(value)
            case list():
                self._spend(len(value))
                for item in value:
                    self._named(item, place)
            case dict() if any(names_models(folded(name), is_top=False) for name in value):
                self.fields(value, place)
            case dict():
                self._spend(len(value))
                for item in value.values():
                    self._named(item, place)

    def _input(self, value: object, place: str) -> None:
        """Take a field `input`: settings of audio's in a session, else free content whose items may bring tools."""
        if place == "audio":
            self._any(value, "input")
        for item in value if isinstance(value, list) else ():
            self._spend(1)
            for tools in _folded_values(item, "tools") if isinstance(item, dict) else ():
                self._any(tools, "tools")

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Doubt("The body has too many fields to be read with certainty. Send fewer in one request.")


def _is_free(fold: str, holder: Fields) -> bool:
    if fold == "parameters":
        return all(isinstance(kind, str) and kind in _DESCRIBING for kind in _folded_values(holder, "type"))
    return fold in _FREE or fold.endswith(_SCHEMA)


def _folded_values(holder: Fields, *folds: str) -> list[object]:
    return [value for name, value in holder.items() if folded(name) in folds]


def _check_own_models(holder: Fields, place: str) -> None:
    """Raise Doubt for a tool or a plugin whose own model the upstream would choose."""
    if place not in {"tools", "plugins"}:
        return
    for kind in _folded_values(holder, "type", "id"):
        name = kind.rpartition(":")[2] if isinstance(kind, str) else ""
        for start, fields in _OWN_MODEL.items():
            if name.startswith(start) and not set(fields) <= _named_in(holder):
                raise Doubt(
                    f"The tool '{start}' runs a model of its own, which the upstream chooses unless it is named. "
                    "Name it in the tool's field 'model'."
                )


def _named_in(tool: Fields) -> set[str]:
    holders = [tool, *(value for value in _folded_values(tool, "parameters") if isinstance(value, dict))]
    return {folded(name) for holder in holders for name, value in holder.items() if isinstance(value, str | list)}
