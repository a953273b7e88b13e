"""Sums the usages of a WebSocket (Realtime, Responses), or of one response over it, by their models."""

from addon.metering.consumptions import consumptions_in
from addon.metering.estimates.estimate_request import EstimateRequest, joined, texts_of
from addon.metering.estimates.transcript import MAX_RAW, Transcript
from addon.metering.names import model_name
from addon.protocol.json_fields import Fields, fields, text
from addon.protocol.partial_json import fields_of_event
from addon.protocol.usage_objects import total, usage_in
from addon.protocol.websocket_events import ASKED, CREATED, DONE, ERROR
from store.ledger.usage import Conditions, Consumption, Metered, Source

_MAX_MODELS = 32
"""Models whose sums are kept; the usage of further ones is not."""
_MAX_UNDER_WAY = 256
"""Responses that have not begun, and as many that have not ended."""
_MAX_ID = 64
"""Characters of an id that are kept."""
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_SESSIONS = {"session.created", "session.updated", "transcription_session.created", "transcription_session.updated"}
_MARKS = (b'"usage"', b"response.created", b"session.created", b"session.updated", b'"error"')
"""Bytes that stand in the messages that are parsed, and seldom in others: most messages are deltas, which are not."""


class Session:
    """Reads messages of one WebSocket. `session_model` is the model of all of its responses, where that is known."""

    def __init__(self, endpoint: str, query_model: str | None, session_model: str | None = None) -> None:
        self.model_asked = query_model
        self.session_model = session_model or query_model
        self.model = self.session_model
        self._answered: str | None = None
        """The model of the last response."""
        self._endpoint = endpoint
        self._transcription_model: str | None = None
        self._sums: dict[tuple[str | None, Conditions], Consumption] = {}
        self._asked: list[str] = []
        """The client's own ids, or empty texts, of the responses that it asked for and that have not begun."""
        self._under_way: set[str] = set()
        self._is_partial = False
        """True if some usage is missing in the sums."""
        self._request = b""
        self._transcript = Transcript.of(endpoint)

    def add(self, content: bytes, *, from_client: bool) -> None:
        """Read the next message, a text."""
        if from_client:
            if ASKED.encode() in content:
                self._add_request(content)
        elif any(mark in content for mark in _MARKS):
            self._add_event(fields_of_event(content))
        if self._transcript is not None and not from_client:
            self._transcript.add(content)

    def metered(self) -> Metered:
        """Return the sums so far: an estimate while a response is under way, or where one reported no usage."""
        consumptions = tuple(self._sums.values())
        if not consumptions:
            return Metered(model_asked=self.model_asked, model=self.model)
        is_partial = self._is_partial or bool(self._under_way or self._asked)
        source = Source.ESTIMATED if is_partial else Source.OBSERVED
        answered = self._answered or consumptions[-1].model
        return Metered(source, consumptions, self.model_asked, answered, is_minimum=is_partial)

    def estimate_request(self) -> EstimateRequest | None:
        """Return a request for an estimate of a response that was cut; None where sums exist or nothing was said."""
        transcript = self._transcript
        if self._sums or transcript is None or transcript.is_empty():
            return None
        return EstimateRequest(
            self._endpoint,
            self.model or self.model_asked,
            model_asked=self.model_asked,
            request=self._request,
            events=joined(transcript.events),
            texts=texts_of(transcript.texts),
            beyond=transcript.beyond,
        )

    def begin_response(self, response_id: str) -> None:
        """Expect the end of a response: the first of those that were asked for, if any."""
        del self._asked[:1]
        if len(self._under_way) < _MAX_UNDER_WAY:
            self._under_way.add(response_id[:_MAX_ID])

    def forget_response(self, response_id: str) -> None:
        """Expect no end of a response that has begun."""
        self._under_way.discard(response_id[:_MAX_ID])

    def _add_request(self, content: bytes) -> None:
        message = fields_of_event(content)
        if text(message, "type") == ASKED:
            if len(self._asked) < _MAX_UNDER_WAY:
                self._asked.append(_id(message, "event_id"))
            model = model_name(message.get("model")) or model_name(fields(message, "response").get("model"))
            self.model_asked = self.model_asked or model
            self._request = content if len(content) <= MAX_RAW else b""

    def _add_event(self, event: Fields) -> None:
        kind, response = text(event, "type"), fields(event, "response")
        if not event:
            self._is_partial = True  # no JSON, or too large and in an unusual form
        elif kind in _SESSIONS:
            self._read_session(fields(event, "session"))
        elif kind == CREATED:
            self._begin(response)
        elif kind in DONE:
            self._end(response, usage_in(event, response))
        elif kind == ERROR:
            self._forget(_id(fields(event, "error"), "event_id"))
        elif kind == _TRANSCRIBED and self._transcription_model is not None:
            self._sum_up(consumptions_in({}, fields(event, "usage"), self._transcription_model))
        elif kind == _TRANSCRIBED:
            self._is_partial = True

    def _read_session(self, session: Fields) -> None:
        self.session_model = model_name(session.get("model")) or self.session_model
        self.model = self.session_model
        transcription = fields(fields(fields(session, "audio"), "input"), "transcription")
        transcription = transcription or fields(session, "input_audio_transcription")
        self._transcription_model = model_name(transcription.get("model"))

    def _forget(self, refused: str) -> None:
        if refused in self._asked:
            self._asked.remove(refused)

    def _begin(self, response: Fields) -> None:
        self.begin_response(text(response, "id"))
        self.model = model_name(response.get("model")) or self.model

    def _end(self, response: Fields, usage: Fields) -> None:
        self._under_way.discard(_id(response, "id"))
        model = model_name(response.get("model")) or self.model or self.model_asked
        self._answered = model
        self._sum_up(consumptions_in(response, usage, model))
        self._transcript = Transcript.of(self._endpoint)

    def _sum_up(self, found: tuple[Consumption, ...]) -> None:
        self._is_partial |= not found
        for used in found:
            place = (used.model, used.conditions)
            if place in self._sums:
                self._sums[place] = _together(self._sums[place], used)
            elif len(self._sums) < _MAX_MODELS:
                self._sums[place] = used
            else:
                self._is_partial = True


def _together(one: Consumption, other: Consumption) -> Consumption:
    told = (one.told_cost, other.told_cost)
    costs = [cost for cost in told if cost is not None]
    return one._replace(units=total(one.units, other.units), told_cost=sum(costs) if len(costs) == len(told) else None)


def _id(holder: Fields, name: str) -> str:
    return text(holder, name)[:_MAX_ID]
