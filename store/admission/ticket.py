"""An item on its way through the writer, and who may answer for it.

Three want to: the writer, with an outcome; the deadline, with a refusal; and a caller that goes away, with nothing. The
first one wins, except that nobody but the writer may answer for what is just being written.
"""

import asyncio
import threading
from enum import Enum, auto

from store.errors import GatewayError


class _State(Enum):
    WAITING = auto()
    TAKEN = auto()
    """It is in a transaction."""
    DOUBTED = auto()
    """It was in a transaction of which nobody knows yet whether it was committed."""
    ENDED = auto()


class Ticket[Item, Result]:
    """An item, its deadline (monotonic), and the future of its result."""

    __slots__ = ("_is_left", "_lock", "_state", "deadline", "future", "item")

    def __init__(self, item: Item, deadline: float, future: asyncio.Future[Result]) -> None:
        self.item = item
        self.deadline = deadline
        self.future = future
        self._state = _State.WAITING
        self._is_left = False
        self._lock = threading.Lock()

    @property
    def is_waiting(self) -> bool:
        """Whether it may be taken."""
        return self._state is _State.WAITING

    def take(self) -> bool:
        """Take it into a transaction; False if it has ended."""
        with self._lock:
            if self._state is not _State.WAITING:
                return False
            self._state = _State.TAKEN
            return True

    def put_back(self) -> None:
        """Its transaction wrote nothing: it may be taken again."""
        with self._lock:
            if self._state is not _State.ENDED:
                self._state = _State.ENDED if self._is_left else _State.WAITING

    def doubt(self) -> None:
        """Let its deadline answer, as the writer may not be able to in time."""
        with self._lock:
            self._state = _State.DOUBTED

    def end(self) -> bool:
        """End it for the deadline or the caller; False if only the writer may."""
        with self._lock:
            if self._state in {_State.TAKEN, _State.ENDED}:
                return False
            self._state = _State.ENDED
            return True

    def leave(self) -> bool:
        """End it, as its caller has gone; False if it may yet be written. Then it is not taken another time."""
        ended = self.end()
        self._is_left = not ended
        return ended

    def finish(self) -> bool:
        """End it for the writer; False if it was answered while its transaction was in doubt."""
        with self._lock:
            is_first = self._state is not _State.ENDED
            self._state = _State.ENDED
            return is_first

    def settle(self, outcome: Result | GatewayError) -> None:
        """Wake the caller, in its event loop."""
        if self.future.done():
            return
        if isinstance(outcome, GatewayError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
