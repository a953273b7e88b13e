"""Answers in JSON, not with mitmproxy's HTML page, where a client's bytes are no HTTP/1."""

from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import Http1Server

from addon import answers
from addon.exchange import Exchange
from store.errors import InvalidRequest

MALFORMED = "The request is malformed HTTP."


class ClientCodec(Http1Server):
    """The codec of a client's HTTP/1 connection."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request's headers. All that this step itself ever sends is the answer to malformed ones."""
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):
                yield commands.SendData(self.conn, _malformed())
            else:
                yield command


def _malformed() -> bytes:
    response = answers.error(InvalidRequest(MALFORMED), Exchange().request_id, "GET")
    response.headers["connection"] = "close"
    raw: bytes = http1.assemble_response(response)
    return raw
