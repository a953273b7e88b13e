"""Which message is the last of a connection: `Connection: close`, in letters of any size (RFC 9112, section 9.6).

mitmproxy knows it in small letters only: it went on to serve what came after the last request of a client, and used a
connection again that its upstream was about to close.
"""

from mitmproxy import http
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.layers.http._http1 import Http1Connection

_SWITCHING_PROTOCOLS = 101


class Persistence(Http1Connection):
    """What both codecs of HTTP/1 share."""

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """Take note that one side's message is complete; close after the last ones."""
        self.request_done |= request
        self.response_done |= response
        messages = (self.request, self.response)
        if self.request_done and self.response_done and not _switches(self.response) and any(map(_is_last, messages)):
            yield commands.CloseConnection(self.conn)
            self.state = self.done
        else:
            yield from super().mark_done()


def _switches(response: http.Response | None) -> bool:
    return response is not None and response.status_code == _SWITCHING_PROTOCOLS


def _is_last(message: http.Message | None) -> bool:
    if message is None:
        return False
    values = message.headers.get_all("connection")
    return any(option.strip().lower() == "close" for value in values for option in value.split(","))
