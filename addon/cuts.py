"""Cuts: ends what runs for tokens that may make no more requests: revoked, expired, deleted, replaced, switched off.

One query of the store each INTERVAL answers for all requests of the process, however many there are; a request itself
is not made dearer. While the store does not answer, everything goes on.
"""

import asyncio
import logging

from addon.exchange import Exchanges
from addon.serving import listening
from store.admission.admission import Admission
from store.errors import GatewayError

INTERVAL = 0.5
"""Seconds from one query to the next: with PATIENCE, a cut is over within a second."""

_log = logging.getLogger(__name__)


class Cuts:
    """The addon that watches the requests of one process, from the opening of its port to its end."""

    def __init__(self, admission: Admission, exchanges: Exchanges) -> None:
        self._admission = admission
        self._exchanges = exchanges
        self._watching: asyncio.Task[None] | None = None

    def running(self) -> None:
        """Begin to watch."""
        self._watching = listening.spawn(self._watch())

    def done(self) -> None:
        """Watch no longer."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._cut_ended()
            except GatewayError as error:
                _log.debug("running requests are not checked: %s", error.message)
            except Exception:
                _log.exception("running requests are not checked")
            await asyncio.sleep(max(began + INTERVAL - loop.time(), 0.0))

    async def _cut_ended(self) -> None:
        """Cut the requests under way whose tokens are not valid any more. Raises StoreUnavailable."""
        running = self._exchanges.running()
        if not running:
            return
        for held, error in (await self._admission.ended(frozenset(running))).items():
            for exchange in running[held]:
                exchange.cut(error)
            _log.info(
                "requests are cut",
                extra={"token_id": held.token_id, "code": error.code, "requests": len(running[held])},
            )
