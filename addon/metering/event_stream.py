"""Reads the events of a response. Only those that may hold the model or a usage are parsed: few of them."""

import re
from typing import TYPE_CHECKING

from addon.metering.consumptions import by_model, calls_of, conditions_of
from addon.metering.estimates.transcript import Transcript
from addon.metering.names import model_name
from addon.metering.unknown_usages import unknown_usages
from addon.protocol.json_fields import Fields, fields, items, text
from addon.protocol.objects import ended_id, pending_id
from addon.protocol.paid_calls import units_of_items
from addon.protocol.partial_json import MAX_WHOLE, fields_of_event, start_of_event
from addon.protocol.sse import Decoder, Event
from addon.protocol.usage_objects import told_cost, total, units_of, usage_in
from addon.protocol.usages_by_model import Shares, served_by, shares_of
from store.ledger.usage import Conditions, Consumption, Units

if TYPE_CHECKING:
    from addon.metering.shown_output import ShownOutput

_DONE = b"[DONE]"
_CALL, _ITEM_DONE = b'_call"', b"response.output_item.done"
_IMAGE_DONE = {"image_generation.completed", "image_edit.completed"}
_USAGE = re.compile(rb'"(?:usage|billed_units)"\s*:\s*\{')
_TRIES = 8
"""Events in which the model is searched."""
_MAX_READ = 2 * 1024 * 1024
_LEAST = 2 * 1024
"""Bytes of events that are parsed at once, and the least that each of them counts for: 1,024 events. Of later ones only
the last matters, which is parsed when the usage is asked for."""
_STARTED = "message_start"
"""Anthropic's event that begins a usage; the events that complete it hold only what has changed."""
_INTERIM = {_STARTED, "response.created", "response.queued", "response.in_progress", "thread.run.step"}
"""Types of events and objects whose usage may not be the final one."""


class EventStream:
    """Reads the events of one response. The last usage counts: some upstreams send a running usage in each chunk."""

    def __init__(self, endpoint: str, shown: "ShownOutput | None" = None) -> None:
        """Take an endpoint (`endpoint_of`), and what counts the output that the events show, if that is wanted."""
        self._endpoint = endpoint
        self.model: str | None = None
        self.conditions: Conditions = ()
        self.pending_id: str | None = None
        """The id of the object that the response tells of, while that is under way."""
        self.ended_id: str | None = None
        """Its id, once it has ended."""
        self._told_cost: int | None = None
        self._calls: Units = {}
        self._shares: Shares = {}
        self._usage: Fields = {}
        """The usage of _STARTED."""
        self.is_finished = False
        """True once the response has marked its end, or sent a usage that is not an interim one."""
        self.is_partial = False
        """True while the usage may be outdated: later events were not parsed, and the last of them holds no usage."""
        self.transcript = Transcript.of(endpoint)
        """The texts so far, until a usage is known; None for endpoints whose tokens cannot be counted."""
        self._shown = shown
        self._decoder = Decoder()
        self._tries = _TRIES
        self._room = _MAX_READ
        self._unread: Event | None = None

    def feed(self, data: bytes) -> None:
        """Read the next bytes, decoded."""
        for event in self._decoder.feed(data):
            self._add(event)

    def consumptions(self, model_asked: str | None) -> tuple[Consumption, ...]:
        """Return the usage of each model; nothing while none is known."""
        self._parse_last()
        answered = self.model or model_asked
        return by_model(self._shares, answered, self._calls, self.conditions, self._told_cost)

    def _add(self, event: Event) -> None:
        data = event.data
        if data == _DONE:
            self.is_finished = True
            return
        # `in` is several times as fast as the expression, and most events have no usage.
        has_usage = (b'"usage"' in data or b'"billed_units"' in data) and _USAGE.search(data) is not None
        if has_usage or self._tries:
            self._tries = max(self._tries - 1, 0)
            self._parse_or_keep(event, has_usage=has_usage)
        elif _CALL in data and _ITEM_DONE in data:
            self._read_item(start_of_event(data))
        if self.transcript is not None:
            self.transcript.add(data)
        if self._shown is not None:
            self._shown.add(data)

    def _parse_or_keep(self, event: Event, *, has_usage: bool) -> None:
        if self._room > 0:
            self._room -= min(max(len(event.data), _LEAST), MAX_WHOLE)
            self._read(fields_of_event(event.data, is_cut=event.is_cut))
        elif has_usage:
            self._unread = event

    def _parse_last(self) -> None:
        if self._unread is not None:
            was_finished = self.is_finished
            self.is_partial = not self._read(fields_of_event(self._unread.data, is_cut=self._unread.is_cut))
            self.is_finished |= was_finished
            self._unread = None

    def _read(self, event: Fields) -> bool:
        """Read the model, the tier and the usage in an event. Returns whether it holds a usage."""
        holder = fields(event, "response") or _message(event) or event
        model = model_name(holder.get("model"))
        if model is not None:
            self.model, self._tries = model, 0
        self.pending_id = pending_id(holder) or self.pending_id
        self.ended_id = ended_id(holder) or self.ended_id
        if text(event, "type") in _IMAGE_DONE:
            self._calls = total(self._calls, {"output_images": 1})
        usage = _without_null(usage_in(event, holder))
        self._read_item(event)
        if isinstance(holder.get("service_tier"), str):
            self.conditions = conditions_of(holder, usage)
        units = units_of(usage)
        if units is None:
            unknown_usages.note(self._endpoint, usage)
            return False
        if text(event, "type") == _STARTED:
            self._usage = usage
        elif self._usage:
            usage = {**self._usage, **usage}
            units = units_of(usage) or units
        self.model = model_name(served_by(usage)) or self.model
        self._shares = shares_of(holder, usage, units)
        self._told_cost = told_cost(usage)
        self.conditions = conditions_of(holder, usage) or self.conditions
        self._calls = calls_of(holder, self.model) or self._calls
        self.is_finished = _is_last(event)
        self.transcript = None
        return True

    def _read_item(self, event: Fields) -> None:
        """Count an item of the output, if it is a call: the last event, which repeats them all, may be too large."""
        calls = units_of_items([event.get("item")]) if text(event, "type") == _ITEM_DONE.decode() else {}
        if calls:
            self._calls = total(self._calls, calls)


def _message(event: Fields) -> Fields:
    return fields(event, "message") if text(event, "type") == _STARTED else {}


def _without_null(usage: Fields) -> Fields:
    return {name: value for name, value in usage.items() if value is not None}


def _is_last(event: Fields) -> bool:
    """Tell whether the usage of an event is the response's final one."""
    if text(event, "type") in _INTERIM or text(event, "object") in _INTERIM:
        return False
    if text(event, "type") == "message_delta":
        return bool(text(fields(event, "delta"), "stop_reason"))
    return all(fields(choice).get("finish_reason") for choice in items(event, "choices"))
