"""The responses of one WebSocket: each is admitted as a request is, before it begins.

The opening has paid for the first one, which is checked again and not counted again. Each further one is counted, and
has a row of its own in the ledger. A response that a client asks for is admitted before the client's event is
forwarded; one that the upstream begins by itself (turn detection, idle time, steering) when the upstream tells it.

What is refused is not forwarded, and answered with the API's own `error` event. A response that the upstream has begun
is cancelled there, and its events are dropped. A token or a project that is no longer good closes the WebSocket.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import CloseReason

from addon import answers, websocket_events
from addon.metering.meter import Meter
from addon.websocket_events import CREATED, DONE, ERROR, OUTPUT, RESPONSES, Ask, Told
from store.admission import Admission
from store.errors import GatewayError, InvalidToken, ProjectInactive, ServiceUnavailable, TokenExpired, TokenInactive
from store.ids import new_request_id
from store.ledger import Opened, Opening, Settlement

MAX_TURNS = 64
"""Responses that are waited for, and as many that are under way; of more the oldest are settled as they are."""

MAX_REFUSED = 64
"""Responses that were refused after they had begun, and whose events are dropped."""

FRESH = 1.0
"""Seconds from an admission to the beginning of its response. What begins later is checked again."""

_MAX_REASON = 123
"""Bytes of a close frame's reason (RFC 6455, section 5.5)."""

_ENDS_SESSION = (InvalidToken, TokenInactive, TokenExpired, ProjectInactive)

_log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """A message of the gateway's own."""

    text: str
    to_client: bool


class Closing(NamedTuple):
    """Why the gateway closes a WebSocket: a code and a reason of RFC 6455."""

    code: int
    reason: str


@dataclass(slots=True, eq=False)
class Turn:
    """One response, from its admission to its end. Times are seconds of the monotonic clock.

    `opened` is its row in the ledger; None where the opening's row holds it.
    """

    meter: Meter
    opened: Opened | None = None
    lane: str = ""
    event_id: str = ""
    has_output: bool = True
    """Whether it was admitted as one; otherwise its first output is."""
    admitted: float = field(default_factory=time.monotonic)
    began: float | None = None
    response_id: str = ""
    status: int | None = None
    """The HTTP status of the error that ended it, if one did."""


class Account(NamedTuple):
    """Whose WebSocket it is, and how it was opened."""

    token_id: str
    opening: Opening

    def next_opening(self) -> Opening:
        """Return what the ledger is told of one more response."""
        return self.opening._replace(request_id=new_request_id(), session_id=self.opening.request_id)


class WebSocketSession:
    """Admits and meters the responses of one WebSocket.

    `end_turn` is called with each response that has a row of its own, when it is over; `refused` with the id and the
    cause of each that was refused.
    """

    def __init__(
        self,
        account: Account,
        meter: Meter,
        admission: Admission,
        end_turn: Callable[[Turn], None],
        refused: Callable[[str, GatewayError], None],
    ) -> None:
        self.closing: Closing | None = None
        """Whether, and why, the WebSocket is to be closed."""
        self._account = account
        self._meter = meter
        self._admission = admission
        self._end_turn = end_turn
        self._tell_refused = refused
        self._replies: list[Reply] = []
        self._has_paid = False
        """Whether the first response, for which the opening has paid, has been admitted."""
        self._asked: list[Turn] = []
        self._under_way: dict[str, Turn] = {}
        self._refused: dict[str, set[str]] = {}
        """The ids of refused responses, and of their items."""
        self._cancels: deque[str] = deque(maxlen=MAX_REFUSED)
        """The ids of the gateway's own events."""
        self._has_ended = False

    async def take(self, message: WebSocketMessage) -> None:
        """Take the next message of either side. One that must not be forwarded is dropped. Raises nothing."""
        try:
            if message.from_client:
                await self._take_from_client(message)
            else:
                await self._take_from_upstream(message)
        except Exception:
            _log.exception("a WebSocket is closed after a fault")
            message.drop()
            self._close(CloseReason.INTERNAL_ERROR, GatewayError().message)

    def take_replies(self) -> list[Reply]:
        """Return the messages of the gateway's own that are to be sent now, in their order."""
        replies, self._replies = self._replies, []
        return replies

    def end(self) -> None:
        """Settle the responses that are not over: the WebSocket has ended."""
        self._has_ended = True
        for turn in [*self._asked, *self._under_way.values()]:
            self._end(turn)
        self._asked, self._under_way = [], {}

    # What the client says.

    async def _take_from_client(self, message: WebSocketMessage) -> None:
        ask = websocket_events.asked(message.content, self._account.opening.endpoint)
        turn = None
        if ask is not None:
            try:
                turn = await self._turn_for(ask)
            except GatewayError as error:
                message.drop()
                self._refuse(error, ask.event_id, ask.lane)
                return
            self._make_room()
            self._asked.append(turn)
        _feed(turn.meter if turn else self._meter, message)

    async def _turn_for(self, ask: Ask) -> Turn:
        """Return the turn that a client asks for, once it is admitted. Raises GatewayError."""
        turn = await self._admit() if ask.has_output else Turn(self._meter, has_output=False)
        turn.lane, turn.event_id = ask.lane, ask.event_id
        return turn

    async def _admit(self) -> Turn:
        """Admit one more response. Raises GatewayError."""
        if not self._has_paid:
            await self._check_again()
            self._has_paid = True
            return Turn(self._meter)
        admitted = await self._admission.admit_again(self._account.token_id, self._account.next_opening())
        if self._has_ended:  # meanwhile, and nothing else would settle it
            self._admission.settle(Settlement(admitted.opened))
            raise ServiceUnavailable
        return Turn(self._meter.for_next_response(), admitted.opened)

    async def _check_again(self) -> None:
        await self._admission.check_again(self._account.token_id)
        if self._has_ended:
            raise ServiceUnavailable

    # What the upstream says.

    async def _take_from_upstream(self, message: WebSocketMessage) -> None:
        told = websocket_events.told(message.content)
        if self._is_refused(message, told):
            message.drop()
            _feed(self._meter, message)
            return
        match told:
            case Told(kind=kind) if kind == CREATED:
                await self._begin(message, told)
            case Told(kind=kind) if kind == OUTPUT:
                await self._take_output(message, told)
            case Told(kind=kind) if kind in DONE:
                self._finish(message, told)
            case Told(kind=kind) if kind == ERROR:
                self._take_error(message, told)
            case _:
                _feed(self._meter_of(message.content), message)

    async def _begin(self, message: WebSocketMessage, told: Told) -> None:
        """Take that a response has begun; admit it now if it was not asked for."""
        if told.response_id and told.response_id in self._under_way:
            _feed(self._under_way[told.response_id].meter, message)
            return
        turn = self._next_asked(told.lane)
        try:
            if turn is None:
                turn = await self._admit()
            elif turn.has_output and time.monotonic() - turn.admitted > FRESH:
                await self._check_again()
        except GatewayError as error:
            message.drop()
            if turn is not None:
                self._end(turn)
            self._refuse_begun(error, told)
            return
        self._end_replaced(told)
        self._make_room()
        turn.lane, turn.began, turn.response_id = told.lane, time.monotonic(), told.response_id
        self._under_way[told.response_id] = turn
        _feed(turn.meter, message)

    async def _take_output(self, message: WebSocketMessage, told: Told) -> None:
        """Take that a response has output; one that was to have none is admitted now."""
        turn = self._turn_of(told.response_id, told.lane)
        if turn is not None and not turn.has_output:
            try:
                admitted = await self._admit()
            except GatewayError as error:
                message.drop()
                self._refuse_begun(error, told._replace(response_id=turn.response_id))
                return
            turn.has_output, turn.opened, turn.meter = True, admitted.opened, admitted.meter
        _feed(turn.meter if turn else self._meter, message)

    def _finish(self, message: WebSocketMessage, told: Told) -> None:
        turn = self._turn_of(told.response_id, told.lane)
        _feed(turn.meter if turn else self._meter, message)
        if turn is not None:
            del self._under_way[turn.response_id]
            self._end(turn)

    def _take_error(self, message: WebSocketMessage, told: Told) -> None:
        """Take that something failed: an ask, where that is certain; or what the gateway itself has said."""
        if told.caused_by in self._cancels:
            message.drop()
            return
        turn = self._failed(told)
        _feed(turn.meter if turn else self._meter, message)
        if turn is not None:
            self._asked.remove(turn)
            turn.status = told.status
            self._end(turn)

    def _failed(self, told: Told) -> Turn | None:
        """Return the ask that an error is about. On a Responses WebSocket a lane does one after the other."""
        if told.caused_by:
            return next((turn for turn in self._asked if turn.event_id == told.caused_by), None)
        if self._account.opening.endpoint != RESPONSES or self._turn_of("", told.lane) is not None:
            return None
        return next((turn for turn in self._asked if turn.lane == told.lane), None)

    # Which turn an event belongs to.

    def _next_asked(self, lane: str) -> Turn | None:
        """Take out the oldest ask of a lane; of any lane where the upstream tells none."""
        for turn in self._asked:
            if lane in {"", turn.lane}:
                self._asked.remove(turn)
                return turn
        return None

    def _turn_of(self, response_id: str, lane: str) -> Turn | None:
        """Return the turn under way that an event names, by its response or its lane; the only one if it names none."""
        if response_id:
            return self._under_way.get(response_id)
        turns = [turn for turn in self._under_way.values() if lane in {"", turn.lane}]
        return turns[0] if len(turns) == 1 else None

    def _meter_of(self, content: bytes) -> Meter:
        """Return the meter that an event is shown to; it is parsed only where several responses are under way."""
        if not self._under_way or b'"response.' not in content:
            return self._meter
        named = websocket_events.place(content) if len(self._under_way) > 1 else ("", "")
        turn = self._turn_of(*named)
        return turn.meter if turn else self._meter

    def _end_replaced(self, told: Told) -> None:
        """End what a new response replaces: one without an id, and what a Responses WebSocket has left in its lane."""
        one_a_lane = self._account.opening.endpoint == RESPONSES
        for turn in [*self._under_way.values()]:
            if turn.response_id == told.response_id or (one_a_lane and turn.lane == told.lane):
                del self._under_way[turn.response_id]
                self._end(turn)

    def _make_room(self) -> None:
        """Settle the oldest of too many turns."""
        while len(self._asked) >= MAX_TURNS:
            self._end(self._asked.pop(0))
        while len(self._under_way) >= MAX_TURNS:
            self._end(self._under_way.pop(next(iter(self._under_way))))

    def _end(self, turn: Turn) -> None:
        if turn.opened is not None:
            self._end_turn(turn)

    # Refusals.

    def _refuse(self, error: GatewayError, event_id: str = "", lane: str = "") -> None:
        """Answer in place of the upstream; close the WebSocket where its token or its project is no longer good."""
        request_id = new_request_id()
        self._tell_refused(request_id, error)
        self._replies.append(Reply(answers.error_event(error, request_id, event_id, lane), to_client=True))
        if isinstance(error, _ENDS_SESSION):
            self._close(CloseReason.POLICY_VIOLATION, error.message)

    def _refuse_begun(self, error: GatewayError, told: Told) -> None:
        """Refuse a response that the upstream has begun: cancel it there, or hang up where that cannot be said."""
        self._refuse(error, lane=told.lane)
        if self._account.opening.endpoint == RESPONSES or not told.response_id:
            self._close(CloseReason.POLICY_VIOLATION, error.message)
        if self.closing is None:
            event_id, cancel = answers.cancel_event(told.response_id)
            self._cancels.append(event_id)
            self._replies.append(Reply(cancel, to_client=False))
            self._refused[told.response_id] = set()
            if len(self._refused) > MAX_REFUSED:
                del self._refused[next(iter(self._refused))]

    def _close(self, code: int, reason: str) -> None:
        self.closing = self.closing or Closing(code, reason[:_MAX_REASON])

    def _is_refused(self, message: WebSocketMessage, told: Told | None) -> bool:
        """Tell whether an event belongs to a refused response, or to one of its items."""
        if not self._refused:
            return False
        response_id, item_id = websocket_events.subject(message.content)
        refused = next(
            (known for known, items in self._refused.items() if known == response_id or item_id in items), None
        )
        if refused is None:
            return False
        if item_id:
            self._refused[refused].add(item_id)
        if told is not None and told.kind in DONE:
            del self._refused[refused]
        return True


def _feed(meter: Meter, message: WebSocketMessage) -> None:
    meter.feed_message(message.content, from_client=message.from_client, is_text=message.is_text)
