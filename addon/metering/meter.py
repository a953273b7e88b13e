"""Reads one request and its response from copies of their bytes, and reports the usage."""

import logging
from collections.abc import Callable

from addon.metering.body import EVENT_STREAM, FORM, Body, is_json, media_type
from addon.metering.consumptions import conditions_of, consumptions_of
from addon.metering.estimates.estimate_request import EstimateRequest, joined, texts_of
from addon.metering.estimates.transcript import MAX_RAW
from addon.metering.event_stream import EventStream
from addon.metering.names import model_name
from addon.metering.session import Session
from addon.metering.shown_output import ShownOutput
from addon.metering.unknown_usages import unknown_usages
from addon.protocol.endpoints import Kind, shape_of
from addon.protocol.form_fields import model_in_form
from addon.protocol.head_and_tail import EDGE, HeadAndTail
from addon.protocol.json_fields import Fields, fields, items, number, parse, text
from addon.protocol.objects import ended_id, pending_id
from addon.protocol.paid_calls import offers_paid_tools
from addon.protocol.partial_json import fields_of
from addon.protocol.usage_objects import usage_in
from store.ledger.usage import Consumption, Metered, Source, Told

_log = logging.getLogger(__name__)

_BY_CHARACTER = "tts-1"
"""Prefix of the models of speech that are paid by the character."""
_OK = range(200, 300)


class Meter:
    """Reads one request and its response, piece by piece.

    No method raises, as hooks, streams, WebSockets and the settlement call them directly. A fault is logged and ends
    the reading, so that a usage may stay unknown; the bytes that follow are still counted (`_guard`).

    It holds 128 KiB of each body at most; where something can be counted 1 MiB of the request, and where tokens can be
    of the response 1 MiB of events and 4 MiB of text until a usage is known; in addition two events of 4 MiB at most:
    an incomplete one, and the last one that has a usage. Where output is counted, it holds 32 KiB for that.
    """

    def __init__(self, method: str, endpoint: str, query_model: str | None) -> None:
        """Take an endpoint (`endpoint_of`), and the model that a WebSocket's address names."""
        self.request_bytes = 0
        """Bytes of the request's body so far, or of the client's messages."""
        self.response_bytes = 0
        self._method = method
        self._endpoint = endpoint
        self._shape = shape_of(endpoint)
        self._rereads = self._shape.rereads(method)
        self._query_model = model_name(query_model)
        self._most = MAX_RAW if self._shape.is_countable or self._shape.kind is Kind.SPEECH else EDGE
        self._status = 0
        self._request_type = ""
        self._request = HeadAndTail(self._most)
        self._request_body: Body | None = None
        self._model_asked: tuple[int, str | None] = (0, self._query_model)
        self._document: HeadAndTail | None = None
        self._answered: tuple[tuple[int, bool], Fields] | None = None
        self._events: EventStream | None = None
        self._answer_body: Body | None = None
        self._has_ended = False
        self._counts_shown = False
        self._shown: ShownOutput | None = None
        """Counts the output that is shown, once there are events, if that is wanted."""
        self._session: Session | None = None

    def begin_request(self, content_type: str, content_coding: str) -> None:
        """Read a request's headers; an empty text stands for an absent one."""
        self._guard(self._begin_request, content_type, content_coding)

    def feed_request(self, data: bytes) -> None:
        """Read the next bytes of a request's body, as they are on the wire."""
        self.request_bytes += len(data)
        if self._request_body is not None:
            self._guard(self._request_body.feed, data)

    def begin_answer(self, status: int, content_type: str, content_coding: str) -> None:
        """Read a response's status and headers."""
        self._guard(self._begin_answer, status, content_type, content_coding)

    def feed_answer(self, data: bytes) -> None:
        """Read the next bytes of a response's body, as they are on the wire."""
        self.response_bytes += len(data)
        if self._answer_body is not None:
            self._guard(self._answer_body.feed, data)

    def count_shown_output(self) -> None:
        """Have the output counted that the events of the response show; before it begins."""
        self._counts_shown = True
        if self._session is not None:
            self._shown = ShownOutput(self._endpoint)

    def shows_more_than(self, tokens: int) -> bool:
        """Tell whether the events have shown more than so many tokens of output, by an upper bound."""
        if self._shown is None or self._shown.at_most <= tokens:
            return False
        model = self._asked() if self._session is None else self._session.model or self._session.model_asked
        return bool(self._guard(self._shown.is_more_than, tokens, model or ""))

    def end_answer(self) -> None:
        """Note that the response is complete; not called for one that was cut."""
        self._has_ended = True

    def begin_socket(self) -> None:
        """Note that the response is a 101: a WebSocket."""
        self._session = Session(self._endpoint, self._query_model)

    def for_next_response(self) -> "Meter":
        """Return a meter for one more response over the same WebSocket, which knows the models that this one knows."""
        meter = Meter(self._method, self._endpoint, self._query_model)
        session_model = None if self._session is None else self._session.session_model
        meter._session = Session(self._endpoint, self._query_model, session_model)
        return meter

    def begin_response(self, response_id: str) -> None:
        """Expect the end of a response over a WebSocket whose beginning another meter has read."""
        if self._session is not None:
            self._session.begin_response(response_id)

    def forget_response(self, response_id: str) -> None:
        """Expect no end of a response over a WebSocket that another meter continues to read."""
        if self._session is not None:
            self._session.forget_response(response_id)

    def feed_message(self, content: bytes, *, from_client: bool, is_text: bool) -> None:
        """Read the next message of a WebSocket."""
        if from_client:
            self.request_bytes += len(content)
        else:
            self.response_bytes += len(content)
        if self._session is not None and is_text:
            self._guard(self._session.add, content, from_client=from_client)
            if self._shown is not None and not from_client:
                self._guard(self._shown.add, content)

    def read(self) -> Metered:
        """Return the usage so far, without counting any tokens. It may be called at any time, and repeatedly."""
        return self._guard(self._read) or Metered()

    def estimate_request(self) -> EstimateRequest | None:
        """Return a request for an estimate, once all is over; None where a usage is known or nothing was said."""
        return self._guard(self._estimate_request)

    def stop(self) -> None:
        """Stop reading, and forget everything but the request and the numbers of bytes."""
        self._request_body = self._answer_body = self._session = self._document = self._events = self._shown = None

    def _guard[**P, T](self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run one step of the reading. Returns None where it fails, and stops the reading then."""
        try:
            return step(*args, **kwargs)
        except Exception as error:
            # No traceback: it may quote the body.
            _log.error("metering failed, a usage may stay unknown: %s", type(error).__name__)
            self.stop()
            return None

    def _begin_request(self, content_type: str, content_coding: str) -> None:
        self._request_type = content_type
        if is_json(content_type) or media_type(content_type) == FORM:
            self._request_body = Body(content_coding, self._request.feed, growth=0)

    def _begin_answer(self, status: int, content_type: str, content_coding: str) -> None:
        self._status = status
        if status not in _OK:
            return  # nothing was used
        if media_type(content_type) == EVENT_STREAM:
            self._shown = ShownOutput(self._endpoint) if self._counts_shown else None
            self._events = EventStream(self._endpoint, self._shown)
            self._answer_body = Body(content_coding, self._events.feed)
        elif is_json(content_type):
            self._document = HeadAndTail(self._most)
            self._answer_body = Body(content_coding, self._document.feed)

    def _read(self) -> Metered:
        if self._session is not None:
            return self._session.metered()
        if self._rereads:
            return Metered(told=self._told())
        asked = self._asked()
        metered = self._metered_events(asked) or self._metered_document(asked) or self._metered_media(asked)
        metered = metered or Metered(model_asked=asked, model=self._model_answered())
        return metered if metered.source is Source.OBSERVED else metered._replace(pending_id=self._pending_id())

    def _told(self) -> tuple[Told, ...]:
        """Return the usages of objects that other requests made, and that have ended."""
        if self._events is not None:
            used, ended = self._events.consumptions(None), self._events.ended_id
            return () if ended is None else (Told(ended, used, self._events.model),)
        answer = self._answer_fields() if self._has_all() else {}
        found = [(ended_id(each), each) for each in (answer, *map(fields, items(answer, "data")))]
        return tuple(
            Told(ended, consumptions_of(each, model), model)
            for ended, each in found
            if ended is not None
            for model in [model_name(each.get("model"))]
        )

    def _pending_id(self) -> str | None:
        """Return the id of the object that the request made, if its usage is to be told later."""
        if self._endpoint.endswith("/extensions"):  # of videos: the new one tells the seconds of both
            return None
        return self._events.pending_id if self._events is not None else pending_id(self._answer_fields())

    def _estimate_request(self) -> EstimateRequest | None:
        if self._session is not None:
            return self._session.estimate_request()
        if self._rereads or not self._shape.is_countable or self.read().source is not Source.UNKNOWN:
            return None
        return self._request_for_events() or self._request_for_document()

    def _asked(self) -> str | None:
        """Return the model that the request names. It is searched again only when more of the request has arrived."""
        if self._model_asked[0] != self.request_bytes:
            self._model_asked = (self.request_bytes, self._asked_in_body() or self._query_model)
        return self._model_asked[1]

    def _asked_in_body(self) -> str | None:
        if is_json(self._request_type):
            return model_name(fields_of(self._request, is_whole=self._is_readable(self._request_body)).get("model"))
        return model_name(model_in_form(self._request, self._request_type))

    def _metered_events(self, asked: str | None) -> Metered | None:
        consumptions = () if self._events is None else self._events.consumptions(asked)
        if self._events is None or not consumptions:
            return None
        is_last = (self._events.is_finished or self._has_all()) and not self._events.is_partial
        source = Source.OBSERVED if is_last else Source.ESTIMATED
        return Metered(source, consumptions, asked, self._events.model or asked, is_minimum=not is_last)

    def _metered_document(self, asked: str | None) -> Metered | None:
        answer = self._answer_fields() if self._has_all() else {}
        model = model_name(answer.get("model")) or asked
        used = consumptions_of(answer, model, makes_no_tokens=not self._shape.is_countable)
        if not used:
            unknown_usages.note(self._endpoint, usage_in(answer, answer))
            return None
        if self._shape.kind is Kind.IMAGES:
            used = (used[0]._replace(units={**used[0].units, "output_images": self._images()}),)
        lacks_calls = "tools" in answer and "output" not in answer and offers_paid_tools(answer)
        return Metered(Source.OBSERVED, used, asked, model or used[-1].model, is_minimum=lacks_calls)

    def _model_answered(self) -> str | None:
        return self._events.model if self._events else model_name(self._answer_fields().get("model"))

    def _has_all(self) -> bool:
        """Tell whether the response is complete and all of it was read."""
        return self._has_ended and self._is_readable(self._answer_body)

    @staticmethod
    def _is_readable(body: Body | None) -> bool:
        return body is not None and body.is_readable

    def _answer_fields(self) -> Fields:
        """Return the response's fields. They are parsed again only when more of it has arrived."""
        if self._document is None:
            return {}
        state = (self.response_bytes, self._has_all())
        if self._answered is None or self._answered[0] != state:
            self._answered = (state, fields_of(self._document, is_whole=state[1]))
        return self._answered[1]

    def _metered_media(self, asked: str | None) -> Metered | None:
        """Return the usage of speech that is paid by its characters, or of images; None where it is not known."""
        if asked is None or self._status not in _OK:
            return None
        if self._shape.kind is Kind.SPEECH and asked.startswith(_BY_CHARACTER):
            unit, count = "input_characters", len(text(parse(self._countable_request()), "input"))
        elif self._shape.kind is Kind.IMAGES and self._has_all():
            unit, count = "output_images", self._images()
        else:
            return None
        source = Source.OBSERVED if self._shape.kind is Kind.IMAGES else Source.ESTIMATED
        return Metered(source, (Consumption(asked, {unit: count}),), asked, asked) if count else None

    def _images(self) -> int:
        """Return the number of images in the response; as it was asked for, where not all of the response is kept."""
        answer = self._answer_fields()
        return len(items(answer, "data")) or number(fields_of(self._request, is_whole=True), "n") or 1

    def _request_for_events(self) -> EstimateRequest | None:
        events = self._events
        if events is None or events.transcript is None or events.transcript.is_empty():
            return None
        return EstimateRequest(
            self._endpoint,
            events.model or self._asked(),
            events.conditions,
            self._asked(),
            self._countable_request(),
            joined(events.transcript.events),
            texts_of(events.transcript.texts),
            events.transcript.beyond,
        )

    def _request_for_document(self) -> EstimateRequest | None:
        answer = None if self._document is None else self._document.whole()
        if not answer:
            return None
        found = self._answer_fields()
        model, conditions = model_name(found.get("model")) or self._asked(), conditions_of(found, {})
        return EstimateRequest(self._endpoint, model, conditions, self._asked(), self._countable_request(), answer)

    def _countable_request(self) -> bytes:
        """Return the request's JSON; nothing where not all of it is kept."""
        is_readable = self._is_readable(self._request_body)
        return (self._request.whole() or b"") if is_readable and is_json(self._request_type) else b""
