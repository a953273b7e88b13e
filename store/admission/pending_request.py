"""A request that waits for the writer, and the rule on who answers it.

Three want to: the writer with an outcome, the deadline with a refusal, and a caller that goes away with nothing. The
first one wins. While a transaction is under way, though, only the writer may answer: it has begun what it has to end.
"""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

from store.errors import GatewayError, StoreUnavailable

_log = logging.getLogger(__name__)


class _State(Enum):
    WAITING = auto()
    IN_FLIGHT = auto()
    """In a transaction."""
    IN_DOUBT = auto()
    """In a transaction whose outcome is not known yet."""
    ENDED = auto()


class PendingRequest[Item, Result]:
    """An item, its deadline (monotonic), and the future of its result. Made in the caller's event loop.

    `settle` is called there with the result of a caller that has gone.
    """

    __slots__ = ("_is_abandoned", "_is_expired", "_lock", "_settle", "_state", "deadline", "future", "item")

    def __init__(
        self, item: Item, timeout: float, loop: asyncio.AbstractEventLoop, settle: Callable[[Result], None]
    ) -> None:
        self.item = item
        self.deadline = time.monotonic() + timeout
        self.future: asyncio.Future[Result] = loop.create_future()
        self._state = _State.WAITING
        self._is_expired = False
        self._is_abandoned = False
        self._settle = settle
        self._lock = threading.Lock()

    def may_begin(self, now: float) -> bool:
        """Tell whether a transaction may take it in, at a time (monotonic)."""
        return self._state is _State.WAITING and now < self.deadline

    def begin(self, now: float) -> bool:
        """Take it into a transaction. Returns False if it has ended, or its deadline has passed."""
        with self._lock:
            if not self.may_begin(now):
                return False
            self._state = _State.IN_FLIGHT
            return True

    def release(self) -> bool:
        """Its transaction wrote nothing: let it be tried again. Returns True if its deadline passed: refuse it."""
        with self._lock:
            if self._state is _State.ENDED:
                return False
            self._state = _State.ENDED if self._is_expired or self._is_abandoned else _State.WAITING
            return self._is_expired

    def doubt(self) -> bool:
        """Let its deadline end it, as the writer may be late. Returns True if that has passed: refuse it."""
        with self._lock:
            self._state = _State.ENDED if self._is_expired else _State.IN_DOUBT
            return self._is_expired

    def finish(self) -> bool:
        """End it for the writer. Returns False if it ended while its transaction was in doubt."""
        with self._lock:
            is_first = self._state is not _State.ENDED
            self._state = _State.ENDED
            return is_first

    def end(self) -> bool:
        """End it. Returns False if it has ended, or is in a transaction."""
        with self._lock:
            return self._end()

    def expire(self) -> None:
        """Refuse it at its deadline; if it is in a transaction, the writer does that when the transaction is over."""
        with self._lock:
            self._is_expired = True
            ended = self._end()
        if ended:
            self.resolve(StoreUnavailable())

    def abandon(self) -> None:
        """End it for a caller that was cancelled; if it may still be written, it is not tried again. In the event loop.

        That has cancelled the future too, unless there was an outcome already.
        """
        with self._lock:
            if self._end():
                return
            self._is_abandoned = True
        if self.future.done() and not self.future.cancelled() and self.future.exception() is None:
            self._settle(self.future.result())

    def resolve(self, outcome: Result | GatewayError) -> None:
        """Wake the caller; settle the result of one that has gone. In the event loop."""
        if self.future.cancelled() and not isinstance(outcome, GatewayError):
            self._settle(outcome)
        if self.future.done():
            return
        if isinstance(outcome, GatewayError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def _end(self) -> bool:
        if self._state in {_State.IN_FLIGHT, _State.ENDED}:
            return False
        self._state = _State.ENDED
        return True


def resolve_all[Item, Result](
    requests: Sequence[PendingRequest[Item, Result]], outcomes: Sequence[Result | GatewayError]
) -> None:
    """Wake the callers of a batch with one call into their event loop; from any thread."""
    if not requests:
        return

    def resolve() -> None:
        for request, outcome in zip(requests, outcomes, strict=True):
            request.resolve(outcome)

    try:
        requests[0].future.get_loop().call_soon_threadsafe(resolve)
    except RuntimeError:
        _log.debug("the event loop ended before its requests were answered")


def refuse_all[Item, Result](requests: Sequence[PendingRequest[Item, Result]], error: GatewayError) -> None:
    """Refuse requests that have ended."""
    resolve_all(requests, [*itertools.repeat(error, len(requests))])
