"""Reads the events of the Realtime and Responses APIs that request, begin, end or refuse a response over a WebSocket.

Sources: OpenAI's API reference, "Realtime client events" and "server events", and "Responses WebSocket events". A
`response.create` asks for a response, `response.created` begins it, and one of `DONE` ends it. On a Responses WebSocket
the events of a lane carry its `stream_id`; `generate: false`, or a `prewarm` of the prompt's cache, asks for a response
without output; `response.steer` and `response.inject` make the upstream continue by itself.

Parsers of JSON differ, and JSON has many spellings. A message that any parser may take for an ask is an ask here.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from addon.protocol.json_fields import Fields, fields, text
from addon.protocol.partial_json import MAX_WHOLE, fields_of_event

ASKED = "response.create"
GOES_ON = frozenset({"response.steer", "response.inject"})
CREATED = "response.created"
OUTPUT = "response.output_item.added"
DONE = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
ERROR = "error"

MAX_ASK = 128 * 1024
"""Bytes of an ask that is parsed; the worst case takes 20 ms. A longer one counts as an ask for output."""

MAX_ID = 512
"""Characters of an id. A longer one counts as absent: a part of it may be another id, or a part of a secret."""

IS_ACTIVE = "conversation_already_has_active_response"
"""The code with which Realtime refuses an ask; the error may not name the ask."""

REJECTIONS = frozenset({"invalid_api_key", "invalid_authentication", "authentication_error"})
"""Codes and types of errors that reject the upstream's key, and may quote it."""

_ERRORS = range(400, 600)
"""Statuses that an error may carry."""


def _spelled(word: str) -> str:
    """Return a pattern for a part of a JSON text in which any letter may be escaped."""
    return "".join(rf"(?:{re.escape(letter)}|(?i:\\u00{ord(letter):02x}))" for letter in word)


_CLIENTS = {kind: re.compile(f'"{_spelled(kind)}"'.encode()) for kind in (ASKED, *sorted(GOES_ON))}
# One search instead of three: most messages are audio.
_ANY_CLIENTS = re.compile(
    f'"{_spelled("response.")}(?:{_spelled("create")}|{_spelled("steer")}|{_spelled("inject")})"'.encode()
)
_UPSTREAMS = re.compile("|".join(f'"{re.escape(kind)}"' for kind in (CREATED, OUTPUT, *sorted(DONE), ERROR)).encode())
_OF_RESPONSE = re.compile(rb'"type"\s*:\s*"response\.')
_CREATED = f'"{CREATED}"'.encode()


class Event(NamedTuple):
    """An event of either side. Absent texts are empty."""

    kind: str
    event_id: str = ""
    response_id: str = ""
    item_id: str = ""
    lane: str = ""
    caused_by: str = ""
    """The id of the client's event that caused an error."""
    status: int | None = None
    """The HTTP status that an error carries."""
    code: str = ""
    """The code of an error; its type where only that shows that the key was rejected."""
    has_output: bool = True
    """False for an ask without output."""


def client_event(content: bytes, *, is_text: bool = True) -> Event | None:
    """Return a client's event of the kinds ASKED and GOES_ON; None for every other message."""
    if not is_text and b"\0" in content[:4]:
        content = content.replace(b"\0", b"")  # UTF-16 and UTF-32 put them between the letters
    if not _ANY_CLIENTS.search(content):
        return None
    meant = [kind for kind, spelled in _CLIENTS.items() if spelled.search(content)]
    pairs = _pairs(content)
    if pairs is None:
        seen = fields_of_event(content)
        return Event(meant[0], event_id=_id(seen, "event_id"), lane=_id(seen, "stream_id"))
    kind = next((kind for kind in meant if kind in _values(pairs, "type")), None)
    if kind is None:
        return None
    event = dict(pairs)
    return Event(
        kind, event_id=_id(event, "event_id"), lane=_id(event, "stream_id"), has_output=not _only_warms_up(pairs)
    )


def upstream_event(content: bytes) -> Event | None:
    """Return an upstream's event of the kinds CREATED, OUTPUT, DONE and ERROR; None for others, most unparsed."""
    if not _UPSTREAMS.search(content):
        return None
    event = any_upstream_event(content)
    if not event.kind and _CREATED in content:  # it cannot be parsed
        return event._replace(kind=CREATED)
    return event if event.kind in {CREATED, OUTPUT, ERROR} or event.kind in DONE else None


def any_upstream_event(content: bytes) -> Event:
    """Return an upstream's event of any kind."""
    event = fields_of_event(content)
    if not event and len(content) <= MAX_WHOLE:
        event = dict(_pairs(content, nested=dict) or ())
    error, response = fields(event, "error"), fields(event, "response")
    status = event.get("status")
    return Event(
        text(event, "type"),
        event_id=_id(event, "event_id"),
        response_id=_id(event, "response_id") or _id(response, "id"),
        item_id=_id(event, "item_id") or _id(fields(event, "item"), "id"),
        lane=_id(event, "stream_id"),
        caused_by=_id(error, "event_id"),
        status=status if isinstance(status, int) and status in _ERRORS else None,
        code=_id(error, "type") if _id(error, "type") in REJECTIONS else _id(error, "code"),
    )


def is_of_response(content: bytes) -> bool:
    """Tell whether an upstream's event is about a response."""
    return _OF_RESPONSE.search(content) is not None


def _pairs(content: bytes, nested: type = list) -> Sequence[tuple[str, object]] | None:
    """Return the fields of an object, repeated ones too, and none for other JSON; None for what cannot be parsed.

    Python's own parser accepts more than the usual one: deep nesting and lone surrogates.
    """
    if len(content) > MAX_ASK:
        return None
    try:
        return _fields_of(json.loads(content, object_pairs_hook=nested))
    except (ValueError, RecursionError):
        return None


def _fields_of(found: object) -> Sequence[tuple[str, object]]:
    if isinstance(found, dict):
        return list(found.items())
    return [pair for pair in found if isinstance(pair, tuple)] if isinstance(found, list) else []


def _values(pairs: Iterable[tuple[str, object]], name: str) -> list[object]:
    return [value for field, value in pairs if field == name]


def _only_warms_up(pairs: Sequence[tuple[str, object]]) -> bool:
    """Tell whether an ask is for no output according to every occurrence of the fields that say so."""
    generate = _values(pairs, "generate")
    options = [dict(_fields_of(value)) for value in _values(pairs, "prompt_cache_options")]
    prewarm = [option.get("prewarm") is True for option in options]
    return (bool(generate) and all(value is False for value in generate)) or (bool(prewarm) and all(prewarm))


def _id(holder: Fields, name: str) -> str:
    found = text(holder, name)
    return found if len(found) <= MAX_ID else ""
