"""The fields that name models, however they are spelled, and the names that a model may have."""

from addon.reading.doubt import Doubt
from addon.remembered import remembered

MAX_MODEL = 256
"""Bytes of a model's name."""

MODEL = "model"
"""The field that an upstream of OpenAI's kind reads."""

_PARTS = ("model", "fallback", "deployment")
"""A field whose name contains one names models: `model_id`, `fallback_models`, Groq's `answering_model`, Together's
`safety_model`, OpenRouter's `models` and `analysis_models`, LiteLLM's and Anthropic's `fallbacks`, Azure's
`deployment_name`.
"""
_TOP = frozenset({"engine", "engineid"})
"""Top-level names of OpenAI's oldest API. Elsewhere an engine is one that searches."""

_LAST_OF_THREE_BYTES = "\uffff"
"""A character beyond takes a pair of escapes in JSON, which readers of YAML take for two characters, and four bytes in
UTF-8, at which some databases cut a text.
"""
_LIST = ","
"""LiteLLM asks several models that are named in one text."""
_PRESET = "@preset/"
"""OpenRouter adds what is stored under a name, which may hold other models."""


@remembered
def folded(name: str) -> str:
    """Return the name of a field as the laxest reader compares it.

    Go compares without case, and since encoding/json/v2 without `_` and `-`; C ends a name at NUL.
    """
    return name.partition("\0")[0].strip().casefold().replace("_", "").replace("-", "")


def names_models(fold: str, *, is_top: bool = True) -> bool:
    """Tell whether a field of this folded name names models. `is_top`: of a body, a form or a query itself."""
    return _has_part(fold) or (is_top and fold in _TOP)


@remembered
def _has_part(fold: str) -> bool:
    return any(part in fold for part in _PARTS)


@remembered
def checked_model(name: str) -> str:
    """Return a model's name that is the same to all readers. Raises Doubt for any other."""
    if not name or name != name.strip() or not name.isprintable():
        raise Doubt("The name of a model is empty, or has blanks at its ends or control characters. Send it plainly.")
    if len(name.encode(errors="surrogatepass")) > MAX_MODEL:
        raise Doubt(f"The name of a model is longer than {MAX_MODEL} bytes.")
    if max(name) > _LAST_OF_THREE_BYTES:
        raise Doubt("The name of a model holds a character that some readers split or cut. Send it without symbols.")
    if _LIST in name:
        raise Doubt("The name of a model holds a comma, which some upstreams read as a list. Name one model.")
    if _PRESET in name[1:]:
        raise Doubt("The name of a model refers to a preset, which may hold other models. Name the model alone.")
    return name
