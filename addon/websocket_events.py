"""The events of the Realtime and Responses APIs over a WebSocket, as far as they begin, end or refuse a response.

Sources: OpenAI's API reference, "Realtime client events" and "server events", and "Responses WebSocket events". A
response is asked for by `response.create`, begins with `response.created`, and ends with one of `DONE`. On a Responses
WebSocket the events of a lane carry its `stream_id`; `generate: false`, or a `prewarm` of the prompt's cache, asks for
a response without output.
"""

import re
from typing import NamedTuple

from addon.conversation.fields import Fields, fields, text
from addon.metering.outline import MAX_EVENT, fields_of_event

RESPONSES = "/v1/responses"
"""The endpoint whose WebSockets know lanes and responses without output, and no `response.cancel`."""

ASKED = "response.create"
CREATED = "response.created"
OUTPUT = "response.output_item.added"
DONE = frozenset(
    {"response.done", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
ERROR = "error"

MAX_ID = 64
"""Characters of an id that are compared."""

_TOLD = (*(f'{kind}"'.encode() for kind in (CREATED, OUTPUT, *sorted(DONE))), b'"error"')
"""Marks of the events that are read. The others, deltas most of all, are not parsed."""

# The last field of an object that is too large to be read whole.
_LAST_FIELD = re.compile(rb'"type"\s*:\s*"([a-z_.]{1,64})"\s*\}\s*\Z')
_LONGEST_LAST_FIELD = 128


class Ask(NamedTuple):
    """A client's event that asks for a response. Texts that are not there are empty."""

    event_id: str
    lane: str
    has_output: bool


class Told(NamedTuple):
    """An upstream's event. Texts that are not there are empty."""

    kind: str
    response_id: str
    lane: str
    caused_by: str
    """The id of the client's event that an error is about."""
    status: int | None
    """The HTTP status that an error names."""


def asked(content: bytes, endpoint: str) -> Ask | None:
    """Return what a client's message asks for, or None where it asks for no response."""
    if ASKED.encode() not in content and b"\\u" not in content:
        return None  # in JSON these letters have no other spelling
    event = fields_of_event(content)
    if _kind(event, content) != ASKED:
        return None
    warms_up = event.get("generate") is False or fields(event, "prompt_cache_options").get("prewarm") is True
    return Ask(_id(event, "event_id"), _id(event, "stream_id"), not (warms_up and endpoint == RESPONSES))


def told(content: bytes) -> Told | None:
    """Return what an upstream's message tells of the beginning, the output or the end of a response, or None."""
    if not any(mark in content for mark in _TOLD):
        return None
    event = fields_of_event(content)
    kind = _kind(event, content)
    if kind not in {CREATED, OUTPUT, ERROR} and kind not in DONE:
        return None
    status = event.get("status")
    return Told(
        kind,
        _response_id(event),
        _id(event, "stream_id"),
        _id(fields(event, "error"), "event_id"),
        status if isinstance(status, int) else None,
    )


def place(content: bytes) -> tuple[str, str]:
    """Return the id of the response, and the lane, that an upstream's event names; empty texts for none."""
    event = fields_of_event(content)
    return _response_id(event), _id(event, "stream_id")


def subject(content: bytes) -> tuple[str, str]:
    """Return the ids of the response and of the item that an upstream's event names; empty texts for none."""
    event = fields_of_event(content)
    return _response_id(event), _id(event, "item_id") or _id(fields(event, "item"), "id")


def _response_id(event: Fields) -> str:
    return _id(event, "response_id") or _id(fields(event, "response"), "id")


def _kind(event: Fields, content: bytes) -> str:
    """Return the type of an event; of a large one also where it is the last field."""
    kind = text(event, "type")
    if not kind and len(content) > MAX_EVENT:
        last = _LAST_FIELD.search(content[-_LONGEST_LAST_FIELD:])
        return last[1].decode() if last else ""
    return kind


def _id(holder: Fields, name: str) -> str:
    return text(holder, name)[:MAX_ID]
