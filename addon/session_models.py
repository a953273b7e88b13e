"""The models of one WebSocket, for the admissions of its responses: its opening names them, and its events do.

A Realtime session has models of its own: all that its opening and its updates have named count for each response, as
the upstream may have refused an update. On a Responses WebSocket each ask names its model.
"""

import functools
from collections.abc import Awaitable, Callable

from addon import reading_threads
from addon.protocol.endpoints import REALTIME, RESPONSES, endpoint_of
from addon.reading import events, requests
from addon.reading.head import Head
from store.request import NOTHING, Demand, Reading

_OF_SESSION = Demand(output_tokens=None, refers=True, speaks=True)
"""The demand of a response that the upstream begins by itself, in a session of which it keeps the content."""

MOST = 64
"""Models that a session may have named."""


class EventReader:
    """Reads what an event asks for, once that is wanted, and once."""

    is_ready = True

    def __init__(self, read: Callable[[], Awaitable[Reading]]) -> None:
        self._read = read
        self._found: Reading | None = None

    async def read(self, *, with_demand: bool = False) -> Reading:  # noqa: ARG002 - it is told always
        """Return the models, and the most that a response may use."""
        if self._found is None:
            self._found = await self._read()
        return self._found


class SessionModels:
    """The models of a WebSocket, by the head of its opening."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._asks_name_models = endpoint_of(head.path.decode("ascii")) == RESPONSES
        self._updates: Reading = NOTHING
        self._last_ask: EventReader | None = None

    def present(self) -> EventReader:
        """Return the reader for a response that no event of the client asks for, or that goes on."""
        return EventReader(self._present)

    def of_ask(self, content: bytes, *, is_text: bool) -> EventReader:
        """Return the reader for an event that asks for a response."""
        if self._asks_name_models:
            return _reader(content, is_text=is_text, has_to_name=True, asks_at=RESPONSES)
        event = _reader(content, is_text=is_text, asks_at=REALTIME)

        async def read() -> Reading:
            asked = await event.read()
            return _together(await self._present(), asked)._replace(demand=asked.demand)

        return EventReader(read)

    def of_other(self, content: bytes, *, is_text: bool) -> EventReader:
        """Return the reader for any other event of the client: it generates nothing by itself, and may name models."""
        event = _reader(content, is_text=is_text)

        async def read() -> Reading:
            return (await event.read())._replace(generates=False)

        return EventReader(read)

    def keep_ask(self, ask: EventReader) -> None:
        """Keep an ask that was admitted: the responses after it may continue it."""
        if self._asks_name_models:
            self._last_ask = ask

    async def keep_other(self, event: EventReader) -> None:
        """Keep the models of an event that goes to the upstream."""
        self._updates = _together(self._updates, await event.read())

    async def _present(self) -> Reading:
        if not self._asks_name_models:
            return _together(requests.of_head(self._head) or NOTHING, self._updates)._replace(demand=_OF_SESSION)
        if self._last_ask is None:
            return self._updates
        asked = await self._last_ask.read()
        return _together(asked, self._updates)._replace(demand=asked.demand)


def _reader(content: bytes, *, is_text: bool, has_to_name: bool = False, asks_at: str = "") -> EventReader:
    """Return the reader of an event's own models."""
    read = functools.partial(events.of_event, content, is_text=is_text, has_to_name=has_to_name, asks_at=asks_at)
    return EventReader(lambda: reading_threads.run(read, len(content)))


def _together(one: Reading, other: Reading) -> Reading:
    models = tuple(dict.fromkeys((*one.models, *other.models)))
    doubt = one.doubt or other.doubt
    if len(models) > MOST:
        models, doubt = (), "The session has named too many models. Open another one."
    return Reading(models, doubt, one.generates or other.generates)
