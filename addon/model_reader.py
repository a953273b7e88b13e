"""Reads the models of one request for its admission, where a policy asks for them: from its head, or its whole body."""

import functools

from mitmproxy import http

from addon import reading_threads
from addon.exchange import Exchange
from addon.reading import requests
from addon.reading.head import Head
from addon.spool import BodyMissing, too_large
from addon.websocket_handshake import is_upgrade
from store.errors import RequestTooLarge
from store.request import Reading


class ModelReader:
    """Reads one request. `most` is the number of bytes to which its body may decode."""

    def __init__(self, request: http.Request, exchange: Exchange, most: int) -> None:
        self._request = request
        self._exchange = exchange
        self._most = most

    @property
    def is_ready(self) -> bool:
        """True if the body has come whole."""
        return self._request.timestamp_end is not None

    async def read(self, *, with_demand: bool = False) -> Reading:
        """Return the models, and the most that it may use if that is wanted.

        Raises BodyMissing where the body is needed and has not come whole, RequestTooLarge.
        """
        head = head_of(self._request)
        found = requests.of_head(head)
        if found is not None:
            return found
        if not self.is_ready:
            raise BodyMissing
        spool, body = self._exchange.spool, self._request.data.content or b""
        size = len(body) if spool is None and head.coding is None else None  # once it is decoded, if that is known
        pieces = (body,) if spool is None else spool.pieces()
        read = functools.partial(requests.of_body, head, pieces, self._most, with_demand=with_demand)
        try:
            return await reading_threads.run(read, size)
        except RequestTooLarge:
            raise too_large(self._most) from None


def head_of(request: http.Request) -> Head:
    """Return the head of a request."""
    method = request.data.method.decode("latin-1")  # has one spelling, as `validation` lets no other in
    return Head(method, request.data.path, request.headers.fields, is_upgrade=is_upgrade(request))
