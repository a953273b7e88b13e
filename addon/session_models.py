"""The models of one WebSocket, for the admissions of its responses: its opening names them, and its events do.

A Realtime session has models of its own: all that its opening and its updates have named count for each response, as
the upstream may have refused an update. On a Responses WebSocket each ask names its model.
"""

from collections.abc import Callable

from addon.protocol.endpoints import RESPONSES, endpoint_of
from addon.reading import events, requests
from addon.reading.head import Head
from store.request import NOTHING, Reading

MOST = 64
"""Models that a session may have named."""


class EventReader:
    """Reads what an event asks for, once that is wanted."""

    is_ready = True

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    async def read(self) -> Reading:
        """Return the models."""
        return self._read()


class SessionModels:
    """The models of a WebSocket, by the head of its opening."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._asks_name_models = endpoint_of(head.path.decode("ascii")) == RESPONSES
        self._updates: Reading = NOTHING
        self._last_ask: tuple[bytes, bool] | None = None

    def present(self) -> EventReader:
        """Return the reader for a response that no event of the client asks for, or that goes on."""
        return EventReader(self._present)

    def of_ask(self, content: bytes, *, is_text: bool) -> EventReader:
        """Return the reader for an event that asks for a response."""

        def read() -> Reading:
            asked = events.of_event(content, is_text=is_text, has_to_name=self._asks_name_models)
            return asked if self._asks_name_models else _together(self._present(), asked)

        return EventReader(read)

    def of_other(self, content: bytes, *, is_text: bool) -> EventReader:
        """Return the reader for any other event of the client: it generates nothing by itself, and may name models."""
        return EventReader(lambda: events.of_event(content, is_text=is_text)._replace(generates=False))

    def keep_ask(self, content: bytes, *, is_text: bool) -> None:
        """Keep an ask that was admitted: the responses after it may continue it."""
        if self._asks_name_models:
            self._last_ask = content, is_text

    def keep_other(self, content: bytes, *, is_text: bool) -> None:
        """Keep the models of an event that goes to the upstream."""
        self._updates = _together(self._updates, events.of_event(content, is_text=is_text))

    def _present(self) -> Reading:
        if not self._asks_name_models:
            return _together(requests.of_head(self._head) or NOTHING, self._updates)
        if self._last_ask is None:
            return self._updates
        content, is_text = self._last_ask
        return _together(events.of_event(content, is_text=is_text, has_to_name=True), self._updates)


def _together(one: Reading, other: Reading) -> Reading:
    models = tuple(dict.fromkeys((*one.models, *other.models)))
    doubt = one.doubt or other.doubt
    if len(models) > MOST:
        models, doubt = (), "The session has named too many models. Open another one."
    return Reading(models, doubt, one.generates or other.generates)
