"""The events of an answer: few of them are parsed, those that tell the model and those that tell a usage."""

import re

from addon.conversation.fields import Fields, fields, items, parse
from addon.metering.names import model_name, tier_name
from addon.metering.transcript import MARKS, Transcript
from addon.metering.usage import units_of
from addon.sse import Decoder
from store.usage import Consumption, Units

_DONE = b"[DONE]"
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_TRIES = 8
"""Events in which the model is looked for."""


class EventStream:
    """Reads the events of one answer. The last usage holds: some upstreams tell in each chunk what was used so far."""

    def __init__(self, endpoint: str) -> None:
        self.model: str | None = None
        self.service_tier: str | None = None
        self._units: Units | None = None
        self.is_finished = False
        """Whether the answer said that it is at its end, or a usage that is no interim one."""
        self.transcript = Transcript(endpoint) if endpoint in MARKS else None
        """What was said, until a usage is told; None for endpoints whose tokens cannot be counted."""
        self._decoder = Decoder()
        self._tries = _TRIES

    def feed(self, data: bytes) -> None:
        """Take the next bytes, decoded."""
        for event in self._decoder.feed(data):
            self._take(event.data)

    def consumption(self, model_asked: str | None) -> Consumption | None:
        """Return what was used, or None while it is not told."""
        return None if self._units is None else Consumption(self.model or model_asked, self._units, self.service_tier)

    def _take(self, data: bytes) -> None:
        if data == _DONE:
            self.is_finished = True
            return
        # `in` is several times as fast as the expression, and most events have no usage.
        has_usage = b'"usage"' in data and _USAGE.search(data) is not None
        if has_usage or self._tries:
            self._tries = max(self._tries - 1, 0)
            self._read(parse(data))
        if self.transcript is not None:
            self.transcript.take(data)

    def _read(self, event: Fields) -> None:
        told = fields(event, "response") or event
        model = model_name(told.get("model"))
        if model is not None:
            self.model, self._tries = model, 0
        self.service_tier = tier_name(told.get("service_tier")) or self.service_tier
        units = units_of(fields(told, "usage"))
        if units is not None:
            self._units = units
            self.is_finished = all(fields(choice).get("finish_reason") for choice in items(event, "choices"))
            self.transcript = None
