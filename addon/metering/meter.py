"""What the gateway feeds with a copy of a request and of its answer, and asks what was used."""

import functools
import logging
from collections.abc import Callable
from typing import Concatenate

from addon.metering.body import EVENT_STREAM, FORM, Body, is_json, media_type
from addon.metering.estimates.question import Question, joined, texts_of
from addon.metering.estimates.transcript import MARKS, MAX_RAW
from addon.metering.event_stream import EventStream
from addon.metering.names import model_name, tier_name
from addon.metering.session import Session
from addon.protocol.excerpt import EDGE, Excerpt, model_in_form
from addon.protocol.json_fields import Fields, fields, parse, text
from addon.protocol.json_outline import fields_of
from addon.protocol.usage_objects import units_of
from store.ledger.usage import Consumption, Metered, Source

_log = logging.getLogger(__name__)

_SPEECH = "/v1/audio/speech"
_BY_CHARACTER = "tts-1"
"""How the names begin of the models of speech that are paid by the character."""
_OK = range(200, 300)
_RE_READING = {"GET", "HEAD", "DELETE"}
_RE_READ = ("/cancel", "/completions/{id}", "/runs/{id}")
"""How the endpoints end where a POST gives what was made before, with what it used then."""
_UNKNOWN = Metered()
_NO_QUESTION: Question | None = None


def _guarded[**P, T](
    default: T,
) -> Callable[[Callable[Concatenate["Meter", P], T]], Callable[Concatenate["Meter", P], T]]:
    """Let a fault of a method end the reading: what raises in a stream hangs the client."""

    def guard(method: Callable[Concatenate["Meter", P], T]) -> Callable[Concatenate["Meter", P], T]:
        @functools.wraps(method)
        def guarded(self: "Meter", /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                _log.error("usage could not be read: %s", type(error).__name__)  # no traceback: it may quote
                self.stop()
                return default

        return guarded

    return guard


class Meter:
    """Reads along one request and its answer. None of its methods raises.

    It holds 128 KiB of each body at most; where something can be counted 1 MiB of the request, and where tokens can be
    of the answer 1 MiB of events and 4 MiB of text until a usage is told; besides that two events of 4 MiB at most: one
    that is on its way, and the last one that has a usage.
    """

    def __init__(self, method: str, endpoint: str, query_model: str | None) -> None:
        """Take the endpoint's path, with names in braces for ids, and the model that a WebSocket's address names."""
        self.request_bytes = 0
        """Bytes of the body that came, or of the client's messages."""
        self.response_bytes = 0
        self._method = method
        self._endpoint = endpoint
        self._re_reads = method in _RE_READING or endpoint.endswith(_RE_READ)
        self._query_model = model_name(query_model)
        self._most = MAX_RAW if endpoint in MARKS or endpoint == _SPEECH else EDGE
        self._status = 0
        self._request_type = ""
        self._request = Excerpt(self._most)
        self._request_body: Body | None = None
        self._model_asked: tuple[int, str | None] = (0, self._query_model)
        self._document: Excerpt | None = None
        self._answered: tuple[tuple[int, bool], Fields] | None = None
        self._events: EventStream | None = None
        self._answer_body: Body | None = None
        self._has_ended = False
        self._session: Session | None = None

    @_guarded(None)
    def begin_request(self, content_type: str, content_coding: str) -> None:
        """Take a request's headers; an empty text for one that is not there."""
        self._request_type = content_type
        if is_json(content_type) or media_type(content_type) == FORM:
            self._request_body = Body(content_coding, self._request.feed, growth=0)

    @_guarded(None)
    def feed_request(self, data: bytes) -> None:
        """Take the next bytes of a request's body, as they are on the wire."""
        self.request_bytes += len(data)
        if self._request_body is not None:
            self._request_body.feed(data)

    @_guarded(None)
    def begin_answer(self, status: int, content_type: str, content_coding: str) -> None:
        """Take an answer's status and headers."""
        self._status = status
        if self._re_reads or status not in _OK:
            return  # it tells what was used before and counted then, or nothing was
        if media_type(content_type) == EVENT_STREAM:
            self._events = EventStream(self._endpoint)
            self._answer_body = Body(content_coding, self._events.feed)
        elif is_json(content_type):
            self._document = Excerpt(self._most)
            self._answer_body = Body(content_coding, self._document.feed)

    @_guarded(None)
    def feed_answer(self, data: bytes) -> None:
        """Take the next bytes of an answer's body, as they are on the wire."""
        self.response_bytes += len(data)
        if self._answer_body is not None:
            self._answer_body.feed(data)

    def end_answer(self) -> None:
        """Take that the answer came whole; one that was cut has no end."""
        self._has_ended = True

    @_guarded(None)
    def begin_socket(self) -> None:
        """Take that the answer is a 101: a WebSocket."""
        self._session = Session(self._endpoint, self._query_model)

    def for_next_response(self) -> "Meter":
        """Return a meter for one more response over the same WebSocket, which knows the models that this one knows."""
        meter = Meter(self._method, self._endpoint, self._query_model)
        told = None if self._session is None else self._session.session_model
        meter._session = Session(self._endpoint, self._query_model, told)
        return meter

    def begin_response(self, response_id: str) -> None:
        """Expect the end of a response that another meter has begun to read."""
        if self._session is not None:
            self._session.begin_response(response_id)

    def forget_response(self, response_id: str) -> None:
        """Expect no end of a response that another meter reads on."""
        if self._session is not None:
            self._session.forget_response(response_id)

    @_guarded(None)
    def feed_message(self, content: bytes, *, from_client: bool, is_text: bool) -> None:
        """Take the next message of a WebSocket."""
        if from_client:
            self.request_bytes += len(content)
        else:
            self.response_bytes += len(content)
        if self._session is not None and is_text:
            self._session.take(content, from_client=from_client)

    @_guarded(_UNKNOWN)
    def read(self) -> Metered:
        """Return what is known by now, without counting anything. It may be asked at any time, and again."""
        if self._session is not None:
            return self._session.metered()
        asked = self._asked()
        told = self._told_by_events(asked) or self._told_by_document(asked) or self._characters(asked)
        return told or Metered(model_asked=asked, model=self._model_answered())

    @_guarded(_NO_QUESTION)
    def open_question(self) -> Question | None:
        """Return what is to be counted when all is over; None where there is nothing, or a usage is known."""
        if self._session is not None:
            return self._session.question()
        if self._endpoint not in MARKS or self.read().source is not Source.UNKNOWN:
            return None
        return self._question_of_events() or self._question_of_document()

    def stop(self) -> None:
        """Read no further, and forget what was read."""
        self._request_body = self._answer_body = self._session = self._document = self._events = None

    def _asked(self) -> str | None:
        """Return the model that the request names. It is looked for again only when more of the request has come."""
        if self._model_asked[0] != self.request_bytes:
            self._model_asked = (self.request_bytes, self._asked_in_body() or self._query_model)
        return self._model_asked[1]

    def _asked_in_body(self) -> str | None:
        if is_json(self._request_type):
            return model_name(fields_of(self._request, is_whole=self._is_readable(self._request_body)).get("model"))
        return model_name(model_in_form(self._request, self._request_type))

    def _told_by_events(self, asked: str | None) -> Metered | None:
        consumption = None if self._events is None else self._events.consumption(asked)
        if self._events is None or consumption is None:
            return None
        is_last = (self._events.is_finished or self._has_all()) and not self._events.is_partial
        return Metered(Source.OBSERVED if is_last else Source.ESTIMATED, (consumption,), asked, consumption.model)

    def _told_by_document(self, asked: str | None) -> Metered | None:
        answer = self._answer_fields() if self._has_all() else {}
        units = units_of(fields(answer, "usage"))
        if units is None:
            return None
        model, tier = model_name(answer.get("model")) or asked, tier_name(answer.get("service_tier"))
        return Metered(Source.OBSERVED, (Consumption(model, units, tier),), asked, model)

    def _model_answered(self) -> str | None:
        return self._events.model if self._events else model_name(self._answer_fields().get("model"))

    def _has_all(self) -> bool:
        """Tell whether the answer came whole and all of it was read."""
        return self._has_ended and self._is_readable(self._answer_body)

    @staticmethod
    def _is_readable(body: Body | None) -> bool:
        return body is not None and body.is_readable

    def _answer_fields(self) -> Fields:
        """Return the answer's fields. They are looked for again only when more of it has come."""
        if self._document is None:
            return {}
        came = (self.response_bytes, self._has_all())
        if self._answered is None or self._answered[0] != came:
            self._answered = (came, fields_of(self._document, is_whole=came[1]))
        return self._answered[1]

    def _characters(self, asked: str | None) -> Metered | None:
        """Return what speech costs that is paid by the characters of its text; None where not all of that is known."""
        if self._endpoint != _SPEECH or self._status not in _OK or asked is None or not asked.startswith(_BY_CHARACTER):
            return None
        characters = len(text(parse(self._countable_request()), "input"))
        if not characters:
            return None
        return Metered(Source.ESTIMATED, (Consumption(asked, {"input_characters": characters}),), asked, asked)

    def _question_of_events(self) -> Question | None:
        events = self._events
        if events is None or events.transcript is None or events.transcript.is_empty():
            return None
        said = events.transcript.said
        return Question(
            self._endpoint,
            events.model or self._asked(),
            events.service_tier,
            self._asked(),
            self._countable_request(),
            joined(events.transcript.events),
            texts_of(said),
            events.transcript.beyond,
        )

    def _question_of_document(self) -> Question | None:
        answer = None if self._document is None else self._document.whole()
        if not answer:
            return None
        told = self._answer_fields()
        model, tier = model_name(told.get("model")) or self._asked(), tier_name(told.get("service_tier"))
        return Question(self._endpoint, model, tier, self._asked(), self._countable_request(), answer)

    def _countable_request(self) -> bytes:
        """Return the request's JSON, where all of it is kept."""
        is_readable = self._is_readable(self._request_body)
        return (self._request.whole() or b"") if is_readable and is_json(self._request_type) else b""
