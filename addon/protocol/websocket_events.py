"""The events of the Realtime and Responses APIs over a WebSocket, as far as they begin, end or refuse a response.

Sources: OpenAI's API reference, "Realtime client events" and "server events", and "Responses WebSocket events". A
response is asked for by `response.create`, begins with `response.created`, and ends with one of `DONE`. On a Responses
WebSocket the events of a lane carry its `stream_id`; `generate: false`, or a `prewarm` of the prompt's cache, asks for
a response without output; `response.steer` and `response.inject` make the upstream go on by itself.

JSON has many spellings, and readers that differ. A message that may be an ask to some reader is one here.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from addon.protocol.json_fields import Fields, fields, text
from addon.protocol.json_outline import MAX_EVENT, fields_of_event

REALTIME, RESPONSES = "/v1/realtime", "/v1/responses"
"""The endpoints. Only Realtime knows `response.cancel`; only Responses knows lanes and responses without output."""

ASKED = "response.create"
GOES_ON = frozenset({"response.steer", "response.inject"})
CREATED = "response.created"
OUTPUT = "response.output_item.added"
DONE = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
ERROR = "error"

MAX_ASK = 128 * 1024
"""Bytes of an ask that is read: 20 ms where it is made to be slow. A longer one asks for output, whatever it says."""

MAX_ID = 512
"""Characters of an id. A longer one counts as none: a part of it may be another's id, or a part of a secret."""

IS_ACTIVE = "conversation_already_has_active_response"
"""The code of Realtime's refusal of an ask, also where it does not name the ask."""

REJECTIONS = frozenset({"invalid_api_key", "invalid_authentication", "authentication_error"})
"""The codes and types of an error that is about the upstream's key, and may quote it."""

_ERRORS = range(400, 600)
"""Statuses that an error may name."""


def _spelled(word: str) -> str:
    """Return a pattern for a part of a JSON text, with any of its letters escaped."""
    return "".join(rf"(?:{re.escape(letter)}|(?i:\\u00{ord(letter):02x}))" for letter in word)


_CLIENTS = {kind: re.compile(f'"{_spelled(kind)}"'.encode()) for kind in (ASKED, *sorted(GOES_ON))}
# One look instead of three: most messages are audio.
_ANY_CLIENTS = re.compile(
    f'"{_spelled("response.")}(?:{_spelled("create")}|{_spelled("steer")}|{_spelled("inject")})"'.encode()
)
_UPSTREAMS = re.compile("|".join(f'"{re.escape(kind)}"' for kind in (CREATED, OUTPUT, *sorted(DONE), ERROR)).encode())
_OF_RESPONSE = re.compile(rb'"type"\s*:\s*"response\.')
_CREATED = f'"{CREATED}"'.encode()


class Event(NamedTuple):
    """An event of either side. Texts that are not there are empty."""

    kind: str
    event_id: str = ""
    response_id: str = ""
    item_id: str = ""
    lane: str = ""
    caused_by: str = ""
    """The id of the client's event that an error is about."""
    status: int | None = None
    """The HTTP status that an error names."""
    code: str = ""
    """The code of an error; its type where that alone says that the key is rejected."""
    has_output: bool = True
    """False for an ask without output."""


def asked(content: bytes, *, is_text: bool = True) -> Event | None:
    """Return a client's event of the kinds ASKED and GOES_ON; None for all other messages."""
    if not is_text and b"\0" in content[:4]:
        content = content.replace(b"\0", b"")  # as JSON in UTF-16 and UTF-32 has them between its letters
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


def told(content: bytes) -> Event | None:
    """Return an upstream's event of the kinds CREATED, OUTPUT, DONE and ERROR; None for others, mostly unparsed."""
    if not _UPSTREAMS.search(content):
        return None
    event = read(content)
    if not event.kind and _CREATED in content:  # it cannot be read
        return event._replace(kind=CREATED)
    return event if event.kind in {CREATED, OUTPUT, ERROR} or event.kind in DONE else None


def read(content: bytes) -> Event:
    """Return an upstream's event of any kind."""
    event = fields_of_event(content)
    if not event and len(content) <= MAX_EVENT:
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
    """Return the fields of an object, repeated ones too, and none for other JSON; None for what cannot be read.

    Python's reader takes more than others do: deep nesting and lone surrogates.
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
    """Tell whether an ask is for no output, in each of its fields that say so."""
    generate = _values(pairs, "generate")
    options = [dict(_fields_of(value)) for value in _values(pairs, "prompt_cache_options")]
    prewarm = [option.get("prewarm") is True for option in options]
    return (bool(generate) and all(value is False for value in generate)) or (bool(prewarm) and all(prewarm))


def _id(holder: Fields, name: str) -> str:
    found = text(holder, name)
    return found if len(found) <= MAX_ID else ""
