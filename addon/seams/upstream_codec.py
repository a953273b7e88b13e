"""Passes over interim answers of an upstream (100 Continue, 103 Early Hints).

mitmproxy takes the first answer for the final one, and then the final one for the answer to the next request on the
connection: to somebody else's, perhaps.
"""

import re

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import Http1Client

# 101 Switching Protocols is final.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")


class UpstreamCodec(Http1Client):
    """The codec of an upstream's HTTP/1 connection."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read the headers of the final answer to a request."""
        while self.request and _INTERIM.match(bytes(self.buf)):
            if self.buf.maybe_extract_lines() is None:
                break  # the rest is to come
        yield from super().read_headers(event)


def install() -> None:
    """Have mitmproxy use this codec for every HTTP/1 upstream of the process."""
    http.Http1Client = UpstreamCodec  # type: ignore[misc]  # it has no other place to say so
