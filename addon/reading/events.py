"""Reads the models that a client's message over a WebSocket names: of the Realtime API or the Responses API.

Sources: OpenAI's API reference, "Realtime client events" (a session, its transcription, a response) and "Responses
WebSocket events".
"""

import re
import string

from addon.demand import of_body
from addon.protocol.json_fields import fields
from addon.reading.doubt import Doubt
from addon.reading.places import models_of
from addon.reading.strict_json import parsed
from store.request import Reading

_WORDS = (b"model", b"fallbac", b"deployment", b"engine", b"preset", b"agent", b"route")
"""The bytes of a message that names a model, in lower case. Only OpenRouter's and others' field names are beside it."""

_ESCAPED = re.compile(rb"\\u00[4-7]")
"""An ASCII letter that is escaped."""

_BINARY = "A binary message may name a model, and upstreams read it differently. Send it as text."

_BASE64 = string.ascii_letters.encode() + string.digits.encode() + b"+/="
_LONG = 200
"""Bytes of a text that is audio, if it is Base64 throughout: no name of a field is so long."""


def may_name_model(content: bytes) -> bool:
    """Tell whether a message may name a model; False for nearly all, as most are audio."""
    texts = _without_nulls(content).split(b'"')
    lower = b'"'.join([text for text in texts if not _is_audio(text)]).lower()
    return any(word in lower for word in _WORDS) or _ESCAPED.search(lower) is not None


def of_event(content: bytes, *, is_text: bool, has_to_name: bool = False, asks_at: str = "") -> Reading:
    """Return the models that a message names; `generates` is False for one that names none.

    `has_to_name`: it asks for a response and its session has no model, as over a Responses WebSocket. `asks_at` is the
    endpoint where it asks for a response, whose demand is told then.
    """
    if asks_at:
        return _of_ask(content, asks_at, is_text=is_text, has_to_name=has_to_name)
    if not has_to_name and not may_name_model(content):
        return Reading(generates=False)
    if not is_text:
        return Reading(doubt=_BINARY)
    try:
        models = models_of(parsed([content]), has_to_name=has_to_name)
    except Doubt as doubt:
        return Reading(doubt=str(doubt))
    return Reading(models, generates=bool(models))


def _of_ask(content: bytes, endpoint: str, *, is_text: bool, has_to_name: bool) -> Reading:
    if not is_text:
        return Reading(doubt=_BINARY)
    try:
        value = parsed([content], counts=True)
        return Reading(models_of(value, has_to_name=has_to_name), demand=of_body(endpoint, fields(value)))
    except Doubt as doubt:
        return Reading(doubt=str(doubt))


def _is_audio(text: bytes) -> bool:
    return len(text) >= _LONG and not text.translate(None, _BASE64)


def _without_nulls(content: bytes) -> bytes:
    """Return a message without the NULs that UTF-16 and UTF-32 put between the letters."""
    return content.replace(b"\0", b"") if b"\0" in content[:4] else content
