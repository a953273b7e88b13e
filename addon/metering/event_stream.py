"""The events of an answer: few of them are parsed, those that tell the model and those that tell a usage."""

import re

from addon.metering.estimates.transcript import MARKS, Transcript
from addon.metering.names import model_name, tier_name
from addon.protocol.json_fields import Fields, fields, items, text
from addon.protocol.json_outline import MAX_EVENT, fields_of_event
from addon.protocol.sse import Decoder
from addon.protocol.usage_objects import units_of
from store.ledger.usage import Consumption, Units

_DONE = b"[DONE]"
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_TRIES = 8
"""Events in which the model is looked for."""
_MAX_READ = 2 * 1024 * 1024
_LEAST = 2 * 1024
"""Bytes of events that are read as they come, and what each of them counts for at least: 1,024 events. Later ones only
matter if they are the last one, which is read when the usage is asked for."""
_STARTED = "message_start"
"""The event of Anthropic's that begins a usage; those that end it tell no more than what is new."""
_INTERIM = {_STARTED, "response.created", "response.queued", "response.in_progress", "thread.run.step"}
"""Types of events and objects that may tell a usage without being the last to do so."""


class EventStream:
    """Reads the events of one answer. The last usage holds: some upstreams tell in each chunk what was used so far."""

    def __init__(self, endpoint: str) -> None:
        self.model: str | None = None
        self.service_tier: str | None = None
        self._units: Units | None = None
        self._usage: Fields = {}
        """The one of _STARTED."""
        self.is_finished = False
        """Whether the answer said that it is at its end, or a usage that is no interim one."""
        self.is_partial = False
        """Whether the usage may be an old one: those that came later were left unread, and the last one tells none."""
        self.transcript = Transcript(endpoint) if endpoint in MARKS else None
        """What was said, until a usage is told; None for endpoints whose tokens cannot be counted."""
        self._decoder = Decoder()
        self._tries = _TRIES
        self._room = _MAX_READ
        self._unread: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes, decoded."""
        for event in self._decoder.feed(data):
            self._take(event.data)

    def consumption(self, model_asked: str | None) -> Consumption | None:
        """Return what was used, or None while it is not told."""
        self._read_last()
        return None if self._units is None else Consumption(self.model or model_asked, self._units, self.service_tier)

    def _take(self, data: bytes) -> None:
        if data == _DONE:
            self.is_finished = True
            return
        # `in` is several times as fast as the expression, and most events have no usage.
        has_usage = b'"usage"' in data and _USAGE.search(data) is not None
        if has_usage or self._tries:
            self._tries = max(self._tries - 1, 0)
            self._read_or_keep(data, has_usage=has_usage)
        if self.transcript is not None:
            self.transcript.take(data)

    def _read_or_keep(self, data: bytes, *, has_usage: bool) -> None:
        if self._room > 0:
            self._room -= min(max(len(data), _LEAST), MAX_EVENT)
            self._read(fields_of_event(data))
        elif has_usage:
            self._unread = data

    def _read_last(self) -> None:
        if self._unread is not None:
            was_finished = self.is_finished
            self.is_partial = not self._read(fields_of_event(self._unread))
            self.is_finished |= was_finished
            self._unread = None

    def _read(self, event: Fields) -> bool:
        """Take what an event tells. Returns whether that is a usage."""
        told = fields(event, "response") or _message(event) or event
        model = model_name(told.get("model"))
        if model is not None:
            self.model, self._tries = model, 0
        self.service_tier = tier_name(told.get("service_tier")) or self.service_tier
        usage = _told(fields(told, "usage"))
        units = units_of(usage)
        if units is None:
            return False
        if text(event, "type") == _STARTED:
            self._usage = usage
        elif self._usage:
            units = units_of({**self._usage, **usage})
        self._units = units
        self.is_finished = _is_last(event)
        self.transcript = None
        return True


def _message(event: Fields) -> Fields:
    return fields(event, "message") if text(event, "type") == _STARTED else {}


def _told(usage: Fields) -> Fields:
    return {name: value for name, value in usage.items() if value is not None}


def _is_last(event: Fields) -> bool:
    """Tell whether the usage of an event is the answer's last one."""
    if text(event, "type") in _INTERIM or text(event, "object") in _INTERIM:
        return False
    if text(event, "type") == "message_delta":
        return bool(text(fields(event, "delta"), "stop_reason"))
    return all(fields(choice).get("finish_reason") for choice in items(event, "choices"))
