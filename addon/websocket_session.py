"""The responses of one WebSocket: each is admitted as a request is, before it begins.

The opening has paid for the first one, which is checked again and not counted again. Each further one is counted, and
has a row of its own in the ledger. A response that a client asks for is admitted before the client's event is
forwarded; one that the upstream begins by itself (turn detection, idle time, steering) once its first event comes.

A refused event is not forwarded, and is answered with the API's own `error` event. A response that the upstream has
begun is cancelled there, and its events are dropped; where it cannot be cancelled, the WebSocket is closed. It is also
closed once its token or its project is no longer valid.
"""

import functools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import CloseReason, Opcode

from addon import responses
from addon.growth import Growth, growth_of
from addon.metering.meter import Meter
from addon.protocol import websocket_events
from addon.protocol.endpoints import REALTIME, RESPONSES
from addon.protocol.websocket_events import (
    CREATED,
    DONE,
    ERROR,
    GOES_ON,
    IS_ACTIVE,
    OUTPUT,
    REJECTIONS,
    Event,
)
from addon.reading import events
from addon.session_models import EventReader, SessionModels
from store.admission.admission import Admission
from store.errors import (
    EndpointNotAllowed,
    GatewayError,
    InvalidToken,
    IpNotAllowed,
    ProjectInactive,
    ServiceUnavailable,
    TokenExpired,
    TokenInactive,
    TokenRefused,
    UpstreamKeyRejected,
)
from store.ids import new_request_id
from store.ledger.ledger import NEVER_SENT, Settlement
from store.request import Opened, Opening

MAX_TURNS = 64
"""Responses that are awaited, and as many that are under way; if there are more, the oldest are settled as they are."""

MAX_ASKED = 1024
"""Responses that are awaited, settled or not."""

MAX_DROPPED = 64
"""Responses that were refused after they had begun; their events are dropped."""

FRESH = 1.0
"""Seconds from an admission to the beginning of its response. A response that begins later is checked again."""

_ENDS_SESSION = (InvalidToken, TokenInactive, TokenExpired, ProjectInactive, IpNotAllowed, EndpointNotAllowed)

_log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """A message of the gateway's own."""

    text: str
    to_client: bool


class Closing(NamedTuple):
    """The code and the reason of a close frame (RFC 6455, section 7.4)."""

    code: int
    reason: str


@dataclass(slots=True, eq=False)
class Turn:
    """One response, from its admission to its end. Times are seconds of the monotonic clock.

    `opened` is its row in the ledger; None where the opening's row holds it.
    """

    meter: Meter
    opened: Opened | None = None
    growth: Growth | None = None
    """Reserves more for it, where its reservation may have to grow."""
    lane: str = ""
    event_id: str = ""
    has_output: bool = True
    """False for a response without output, which is not counted."""
    has_failed: bool = False
    """True once an error seems to have ended it; its row is settled by then."""
    admitted: float = field(default_factory=time.monotonic)
    began: float | None = None
    response_id: str = ""
    status: int | None = None
    """The HTTP status of the error that ended it, if one did."""
    cut: GatewayError | None = None
    """The error with which the gateway has ended it."""


class Account(NamedTuple):
    """The token of a WebSocket, its opening, and the models that it asks for.

    `extend` checks that the token may make one more use of the opening's row, and reserves for that. It returns whether
    it has, as the row may be of a former period of a budget, and what has to watch the response. It raises the refusal.
    """

    token_id: str
    opening: Opening
    models: SessionModels
    extend: Callable[[Opening, EventReader], Awaitable[tuple[bool, Growth | None]]]
    wake: Callable[[], None]
    """Has the session's own messages sent, though none of either side comes."""

    def next_opening(self) -> Opening:
        """Return the opening of one more response's row."""
        return self.opening._replace(request_id=new_request_id(), session_id=self.opening.request_id)


class WebSocketSession:
    """Admits and meters the responses of one WebSocket.

    `on_turn_end` is called with each response that has a row of its own, and with that row, when it is over;
    `on_refused` with the id and the error of each refusal.
    """

    def __init__(
        self,
        account: Account,
        meter: Meter,
        admission: Admission,
        on_turn_end: Callable[[Turn, Opened], None],
        on_refused: Callable[[str, GatewayError], None],
    ) -> None:
        self.closing: Closing | None = None
        """The close frame for the client, once the WebSocket is to be closed."""
        self._account = account
        self._meter = meter
        self._admission = admission
        self._on_turn_end = on_turn_end
        self._on_refused = on_refused
        self._has_lanes = account.opening.endpoint == RESPONSES
        self._can_cancel = account.opening.endpoint == REALTIME
        self._replies: list[Reply] = []
        self._has_paid = False
        """True once the first response, for which the opening has paid, is admitted."""
        self._asked: list[Turn] = []
        self._under_way: list[Turn] = []
        self._dropped: dict[str, set[str]] = {}
        """The ids of the items of each refused response whose events are dropped, by its own id."""
        self._cancels: deque[str] = deque(maxlen=MAX_DROPPED)
        """The ids of the gateway's own events."""
        self._has_ended = False
        self._is_cut = False

    async def handle(self, message: WebSocketMessage) -> None:
        """Handle the next message of either side. One that must not be forwarded is dropped. Raises nothing."""
        if self._has_ended:
            message.drop()
            return
        try:
            if message.from_client:
                await self._handle_client(message)
            else:
                await self._handle_upstream(message)
        except Exception:
            _log.exception("a WebSocket is closed after a fault")
            message.drop()
            self._close(CloseReason.INTERNAL_ERROR, GatewayError().message)

    def cut(self, error: GatewayError) -> None:
        """Have the WebSocket closed with an error, and settle its responses: it may go on no longer. Raises nothing."""
        if self._has_ended:
            return
        for turn in (*self._asked, *self._under_way):
            turn.cut = error
        self._is_cut = True
        self.end()
        self._replies.append(Reply(responses.error_event(error, new_request_id(), "", ""), to_client=True))
        self._close(CloseReason.POLICY_VIOLATION, error.message)

    def pop_replies(self) -> list[Reply]:
        """Remove and return the gateway's own messages that are to be sent now, in order."""
        replies, self._replies = self._replies, []
        return replies

    def end(self) -> None:
        """Settle the responses that are not over: the WebSocket has ended. Raises nothing."""
        self._has_ended = True
        turns, self._asked, self._under_way = [*self._asked, *self._under_way], [], []
        for turn in turns:
            try:
                self._end(turn)
            except Exception:
                _log.exception("a response over a WebSocket could not be settled")

    # The client's messages.

    async def _handle_client(self, message: WebSocketMessage) -> None:
        event = websocket_events.client_event(message.content, is_text=message.type is Opcode.TEXT)
        turn = None
        try:
            if event is not None:
                turn = await self._turn_for(event, message)
            if event is None or event.kind in GOES_ON:
                await self._check_models(message)
        except GatewayError as error:
            message.drop()
            self._refuse(error, event.event_id if event else "", event.lane if event else "")
            return
        self._feed(message, turn)

    async def _turn_for(self, event: Event, message: WebSocketMessage) -> Turn | None:
        """Admit the response that a client asks for, and await its beginning. Raises GatewayError.

        A response that is not counted is only checked.
        """
        if event.kind in GOES_ON:
            await self._check_again(self._account.models.present())
            return None
        asked = self._account.models.of_ask(message.content, is_text=message.is_text)
        if event.has_output or not self._has_lanes:
            turn = await self._admit(asked)
        else:
            await self._check_again(asked)
            turn = Turn(self._meter, has_output=False)
        self._account.models.keep_ask(asked)
        turn.lane, turn.event_id = self._lane(event), event.event_id
        self._asked = self._asked[1 - MAX_ASKED :]
        self._settle_oldest_asked()
        self._asked.append(turn)
        return turn

    async def _check_models(self, message: WebSocketMessage) -> None:
        """Check an event that may name models, such as an update of the session. Raises GatewayError."""
        content, is_text, models = message.content, message.is_text, self._account.models
        if events.may_name_model(content):
            event = models.of_other(content, is_text=is_text)
            await self._check_again(event)
            await models.keep_other(event)

    async def _admit(self, reader: EventReader) -> Turn:
        """Admit one more response. Raises GatewayError."""
        if not self._has_paid:
            is_extended, growth = await self._account.extend(self._account.next_opening(), reader)
            if self._has_ended:
                raise ServiceUnavailable
            self._has_paid = True
            if is_extended:
                return self._growing(Turn(self._meter), growth)
        admitted = await self._admission.admit_again(self._account.token_id, self._account.next_opening(), reader)
        if self._has_ended:  # while the store decided: nothing else would settle it
            self._admission.settle(Settlement(admitted.opened, NEVER_SENT))
            raise ServiceUnavailable
        turn = Turn(self._meter.for_next_response(), admitted.opened)
        return self._growing(turn, growth_of(self._admission, turn, admitted.bounds, admitted.opened.reserved))

    def _growing(self, turn: Turn, growth: Growth | None) -> Turn:
        """Return a turn whose reservation grows; it is cut once nothing is left for it."""
        if growth is not None:
            turn.growth, growth.cut = growth, functools.partial(self._cut_turn, turn)
        return turn

    def _cut_turn(self, turn: Turn, error: GatewayError) -> None:
        """End one response under way with an error."""
        if turn not in self._under_way:
            return
        self._under_way.remove(turn)
        turn.cut = error
        self._replies.append(
            Reply(responses.error_event(error, new_request_id(), turn.event_id, turn.lane), to_client=True)
        )
        self._drop_response(turn.response_id, error)
        self._end(turn)
        self._account.wake()

    async def _check_again(self, reader: EventReader) -> None:
        await self._admission.check_again(self._account.token_id, self._account.next_opening(), reader)
        if self._has_ended:
            raise ServiceUnavailable

    # The upstream's messages.

    async def _handle_upstream(self, message: WebSocketMessage) -> None:
        read = websocket_events.any_upstream_event if self._dropped else websocket_events.upstream_event
        event = read(message.content)
        if event is None:
            self._feed(message, self._turn_of_part(message.content))
        elif self._is_to_drop(event):
            message.drop()
            self._feed(message)
        elif event.kind == CREATED:
            await self._begin(message, event)
        elif event.kind == OUTPUT:
            await self._handle_output(message, event)
        elif event.kind in DONE:
            self._finish(message, event)
        elif event.kind == ERROR:
            self._handle_error(message, event)
        else:
            self._feed(message, self._turn_of_part(message.content))

    async def _begin(self, message: WebSocketMessage, event: Event) -> None:
        """Handle the beginning of a response; admit it now if no client asked for it."""
        known = self._turn_with(event.response_id)
        if known is not None:
            self._feed(message, known)
            return
        turn = self._next_asked(self._lane(event))
        try:
            if turn is None:
                turn = await self._admit(self._account.models.present())
            else:
                await self._check_late(turn)
        except GatewayError as error:
            message.drop()
            self._refuse_begun(error, event, turn.event_id if turn else "")
            return
        self._end_replaced(event)
        while len(self._under_way) >= MAX_TURNS:
            self._end(self._under_way.pop(0))
        turn.lane, turn.began, turn.response_id = self._lane(event), time.monotonic(), event.response_id
        self._under_way.append(turn)
        self._feed(message, turn)

    async def _check_late(self, turn: Turn) -> None:
        """Check a response again that was admitted a while ago; end it if it is refused now. Raises GatewayError.

        A failure of the store does not end what was admitted.
        """
        if time.monotonic() - turn.admitted <= FRESH:
            return
        try:
            await self._check_again(self._account.models.present())
        except Exception as error:
            if isinstance(error, GatewayError) and not isinstance(error, _ENDS_SESSION) and not self._has_ended:
                return
            self._end(turn)
            raise

    async def _handle_output(self, message: WebSocketMessage, event: Event) -> None:
        """Handle output of a response. It has begun then, even if no event said so; and it has to be admitted."""
        turn = self._turn_of(event)
        if turn is None:
            await self._begin(message, event)
            return
        if not turn.has_output:
            try:
                admitted = await self._admitted_instead(turn)
            except GatewayError as error:
                message.drop()
                self._refuse_begun(error, event, turn.event_id)
                return
            turn.meter.forget_response(turn.response_id)
            admitted.meter.begin_response(turn.response_id)
            admitted.lane, admitted.began, admitted.response_id = turn.lane, turn.began, turn.response_id
            self._under_way = [admitted if each is turn else each for each in self._under_way]
            turn = admitted
        self._feed(message, turn)

    def _finish(self, message: WebSocketMessage, event: Event) -> None:
        turn = self._turn_of(event)
        if turn is not None:
            self._under_way.remove(turn)  # before its end is read: it cannot be cut any more
        self._feed(message, turn)
        if turn is not None:
            self._end(turn)

    def _handle_error(self, message: WebSocketMessage, event: Event) -> None:
        """Handle an error of the upstream: about an ask, or about an event of the gateway's own."""
        if event.caused_by and event.caused_by in self._cancels:
            message.drop()
            return
        if event.code in REJECTIONS or event.status == HTTPStatus.UNAUTHORIZED:
            self._hide_rejection(message, event)
        turn = self._failed(event)
        self._feed(message, turn)
        if turn is not None:
            turn.status, turn.has_failed = event.status, True
            if event.caused_by or not turn.has_output:
                self._asked.remove(turn)
                self._end(turn)
            else:  # it may be about something else: the response may yet begin, and is paid for
                self._settle_asked(turn)

    def _failed(self, event: Event) -> Turn | None:
        """Return the ask that an error is about: the one that it names, or on a Responses WebSocket the next of a lane.

        A lane does one response after the other: while none is under way, nothing else can fail.
        """
        if event.caused_by:
            return next((turn for turn in self._asked if turn.event_id == event.caused_by), None)
        if event.code == IS_ACTIVE:
            unnamed = (turn for turn in reversed(self._asked) if not turn.event_id and not turn.has_failed)
            return next(unnamed, None)
        lane = self._lane(event)
        if not self._has_lanes or any(turn.lane == lane for turn in self._under_way):
            return None
        return next((turn for turn in self._asked if turn.lane == lane and not turn.has_failed), None)

    # The turn that an event belongs to.

    def _lane(self, event: Event) -> str:
        return event.lane if self._has_lanes else ""

    def _next_asked(self, lane: str) -> Turn | None:
        """Remove the oldest ask of a lane, or of all lanes if the upstream names none, and return it.

        One that has failed comes last. Those that failed before the returned one are removed too: they do not begin.
        """
        asked = [turn for turn in self._asked if turn.lane == lane] or ([] if lane else self._asked)
        found = next((turn for turn in asked if not turn.has_failed), asked[0] if asked else None)
        if found is not None:
            self._asked = [
                turn for turn in self._asked if turn is not found and not (turn.has_failed and turn.lane == found.lane)
            ]
        return found

    async def _admitted_instead(self, turn: Turn) -> Turn:
        """Return the oldest ask for output of a turn's lane, or admit one. Raises GatewayError."""
        paid = next((asked for asked in self._asked if asked.lane == turn.lane and asked.has_output), None)
        if paid is None:
            return await self._admit(self._account.models.present())
        self._asked.remove(paid)
        await self._check_late(paid)
        return paid

    def _turn_with(self, response_id: str) -> Turn | None:
        return next((turn for turn in self._under_way if response_id and turn.response_id == response_id), None)

    def _turn_of(self, event: Event) -> Turn | None:
        """Return the turn under way that an event belongs to: by its response, or else as the only one of its lane."""
        found = self._turn_with(event.response_id)
        if found is not None or (event.response_id and not self._has_lanes):
            return found
        turns = [turn for turn in self._under_way if turn.lane == self._lane(event)]
        return turns[0] if len(turns) == 1 else None

    def _turn_of_part(self, content: bytes) -> Turn | None:
        """Return the turn that an event is a part of; it is parsed only if several are under way."""
        if not self._under_way or not websocket_events.is_of_response(content):
            return None
        several = len(self._under_way) > 1
        return self._turn_of(websocket_events.any_upstream_event(content)) if several else self._under_way[0]

    def _feed(self, message: WebSocketMessage, turn: Turn | None = None) -> None:
        """Have a message read by the meter of its turn, or of the WebSocket, and the turn's reservation follow it."""
        meter = self._meter if turn is None else turn.meter
        meter.feed_message(message.content, from_client=message.from_client, is_text=message.is_text)
        if turn is not None and turn.growth is not None:
            turn.growth.watch()

    def _end_replaced(self, event: Event) -> None:
        """End what a new response replaces: one without an id, and on a Responses WebSocket those of its lane."""
        for turn in [*self._under_way]:
            if turn.response_id == event.response_id or (self._has_lanes and turn.lane == event.lane):
                self._under_way.remove(turn)
                self._end(turn)

    def _settle_oldest_asked(self) -> None:
        """Settle the oldest asks with rows of their own, if there are too many."""
        waiting = [turn for turn in self._asked if turn.opened is not None]
        for turn in waiting[: max(0, len(waiting) + 1 - MAX_TURNS)]:
            self._settle_asked(turn)

    def _settle_asked(self, turn: Turn) -> None:
        """Settle the row of an ask. Its response is paid for: if it begins after all, the opening's row holds it."""
        self._end(turn)
        turn.opened, turn.growth, turn.meter = None, None, self._meter

    def _end(self, turn: Turn) -> None:
        if turn.opened is not None:
            self._on_turn_end(turn, turn.opened)

    # Refusals.

    def _refuse(self, error: GatewayError, event_id: str, lane: str) -> None:
        """Answer in place of the upstream; close the WebSocket if its token or its project is no longer valid."""
        if self._is_cut:
            return  # its client gets the error that it was cut with
        refused = error.refused if isinstance(error, TokenRefused) else None
        request_id = refused.opening.request_id if refused else new_request_id()
        self._on_refused(request_id, error)
        self._replies.append(Reply(responses.error_event(error, request_id, event_id, lane), to_client=True))
        if isinstance(error, _ENDS_SESSION):
            self._close(CloseReason.POLICY_VIOLATION, error.message)

    def _refuse_begun(self, error: GatewayError, event: Event, event_id: str) -> None:
        """Refuse a response that the upstream has begun: cancel it there, or close the WebSocket."""
        self._refuse(error, event_id, event.lane)
        self._drop_response(event.response_id, error)

    def _drop_response(self, response_id: str, error: GatewayError) -> None:
        """Cancel a response upstream and drop its events, or close the WebSocket."""
        if not self._can_cancel or not response_id:
            is_ours = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            self._close(CloseReason.TRY_AGAIN_LATER if is_ours else CloseReason.POLICY_VIOLATION, error.message)
        if self.closing is None:
            cancel_id, cancel = responses.cancel_event(response_id)
            self._cancels.append(cancel_id)
            self._replies.append(Reply(cancel, to_client=False))
            self._dropped[response_id] = set()
            if len(self._dropped) > MAX_DROPPED:
                del self._dropped[next(iter(self._dropped))]

    def _hide_rejection(self, message: WebSocketMessage, event: Event) -> None:
        """Replace an error that rejects the project's key with one of the gateway's: it may quote the key."""
        code = event.code if event.code in REJECTIONS else None
        error, request_id = UpstreamKeyRejected(description=code), new_request_id()
        fields = {"request_id": request_id, "session_id": self._account.opening.request_id, "code": code}
        _log.warning("the upstream rejected a project's key over a WebSocket", extra=fields)
        self._on_refused(request_id, error)
        message.content = responses.error_event(error, request_id, event.caused_by, event.lane).encode()

    def _close(self, code: int, reason: str) -> None:
        self.closing = self.closing or Closing(code, reason)

    def _is_to_drop(self, event: Event) -> bool:
        """Tell whether an event belongs to a refused response, or to one of its items, which are noted as they come."""
        for response_id, items in self._dropped.items():
            if event.response_id == response_id or event.item_id in items:
                if event.item_id:
                    items.add(event.item_id)
                if event.kind in DONE:
                    del self._dropped[response_id]
                return True
        return False
