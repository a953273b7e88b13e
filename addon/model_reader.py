"""Reads the models of one request for its admission, where a policy asks for them: from its head, or its whole body."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mitmproxy import http

from addon.exchange import Exchange
from addon.reading import requests
from addon.reading.head import Head
from addon.spool import BodyMissing, too_large
from addon.websocket_handshake import is_upgrade
from store.errors import RequestTooLarge
from store.request import Reading

AT_ONCE = 32 * 1024
"""Bytes of a body that is read on the event loop. The worst takes 6 ms there; one of 1 MiB takes 450 ms."""

_THREADS = ThreadPoolExecutor(2, "reading")
"""Read larger bodies. They are none of asyncio's own threads: names of hosts are looked up there, and must not wait."""


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

    async def read(self) -> Reading:
        """Return the models. Raises BodyMissing where the body is needed and has not come whole, RequestTooLarge."""
        head = head_of(self._request)
        found = requests.of_head(head)
        if found is not None:
            return found
        if not self.is_ready:
            raise BodyMissing
        try:
            if self._is_small():
                return requests.of_body(head, self._pieces(), self._most)
            loop = asyncio.get_running_loop()  # which goes on with other requests meanwhile
            return await loop.run_in_executor(_THREADS, requests.of_body, head, self._pieces(), self._most)
        except RequestTooLarge:
            raise too_large(self._most) from None

    def _is_small(self) -> bool:
        """Tell whether the body is soon read: it is short, also once it is decoded."""
        coded, content = "content-encoding" in self._request.headers, self._request.raw_content or b""
        return self._exchange.spool is None and not coded and len(content) <= AT_ONCE

    def _pieces(self) -> Iterable[bytes]:
        spool = self._exchange.spool
        return (self._request.raw_content or b"",) if spool is None else spool.pieces()


def head_of(request: http.Request) -> Head:
    """Return the head of a request."""
    return Head(request.method, request.data.path, request.headers.fields, is_upgrade=is_upgrade(request))
