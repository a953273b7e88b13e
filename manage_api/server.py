"""Serves the application with waitress: errors in the API's own form, and a stop that loses no request."""

import contextlib
import json
import logging
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import RequestEntityTooLarge

from manage_api import request_ids
from manage_api.contract import MAX_BODY
from store.errors import (
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    RequestTooLarge,
    StartupError,
    TransferEncodingUnknown,
)
from store.ids import new_request_id
from store.network.addresses import Network, plain
from store.network.client_address import client_address
from store.network.sockets import bound_to_ipv6, keep_alive
from store.runtime.lifecycle import STOP_SIGNALS, given_sockets, ignore_stop_signals, tell_ready
from store.runtime.settings import Listen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

THREADS = 8
MAX_HEADERS = 64 * 1024

MAX_READ = 16 * 1024 * 1024
"""Bytes of a body that are read at most. This is more than MAX_BODY, because a client that is still sending when its
connection is closed may never see its 413."""

_READ = 64 * 1024

LAST_REQUESTS = 1
"""Seconds at a stop that idle connections stay open: a request may be on its way."""

LONGEST_DRAIN = 10.0
"""Seconds at a stop for requests under way, at most. Only a client that does not read its response needs more."""

_LOG = logging.getLogger(__name__)


_ERRORS: Mapping[int, GatewayError] = {
    400: InvalidRequest("The request is not valid HTTP."),
    413: RequestTooLarge(),
    431: HeadersTooLarge(),
    501: TransferEncodingUnknown(),
}


class _ErrorTask(ErrorTask):
    """Answers requests that waitress rejects before they reach the application."""

    def execute(self) -> None:
        """Write the error as JSON, with a request id, and close the connection."""
        fault = cast("HTTPRequestParser", self.request).error
        error = _ERRORS.get(fault.code if fault else 0, GatewayError())
        body = json.dumps(error.body()).encode()
        request_id = new_request_id()
        self.status = f"{error.status} {HTTPStatus(error.status).phrase}"
        headers = {"Content-Type": "application/json", **error.headers, **request_ids.headers(request_id)}
        self.response_headers = [*headers.items()]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        _LOG.info("refused", extra={"client": self._client(), "status": error.status, "request_id": request_id})

    def _client(self) -> str:
        channel = cast("_Channel", self.channel)
        forwarded = cast("HTTPRequestParser", self.request).headers.get("X_FORWARDED_FOR")
        return client_address(channel.addr[0], forwarded, cast("_Port", channel.server).trusted_proxies)


class _Parser(HTTPRequestParser):
    """Reads requests. Rejects those that waitress accepts, or fails on, although they are invalid."""

    def received(self, data: bytes) -> int:
        """Read more data. `Expect: 100-continue` is answered only where a body that is not too large follows."""
        consumed = super().received(data)
        if self.expect_continue and self.content_length > MAX_BODY:
            self.error, self.completed = RequestEntityTooLarge("refused before it was sent"), True
        if self.completed:  # waitress would wait for more data forever
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Read the headers. Raises ParsingError, also where a proxy in front may read them differently (RFC 9112)."""
        try:
            super().parse_header(header_plus)
        except ValueError:  # a length of thousands of digits, a URL with half a bracket
            raise ParsingError("unreadable number or address") from None
        if self.chunked and "CONTENT_LENGTH" in self.headers:  # section 6.3
            raise ParsingError("two lengths")
        if self.version == "1.1" and ("HOST" not in self.headers or "," in self.headers["HOST"]):  # section 3.2
            raise ParsingError("not one Host")


class _Channel(HTTPChannel):
    error_task_class = _ErrorTask
    parser_class = _Parser

    def handle_close(self) -> None:
        """Read what has arrived, then close: closing over unread bytes resets the connection and loses the response."""
        with contextlib.suppress(OSError):  # nothing more has arrived, or the client is gone
            for _ in range(MAX_READ // _READ):
                if self.socket is None or not self.socket.recv(_READ):
                    break
        super().handle_close()


class _Port(TcpWSGIServer):
    channel_class = _Channel
    trusted_proxies: Sequence[Network] = ()

    def set_socket_options(self, conn: socket.socket) -> None:
        """Set the options of an accepted connection."""
        super().set_socket_options(conn)
        keep_alive(conn)

    def fix_addr(self, addr: tuple[str, int]) -> tuple[str, int]:
        """Return the client's address in the form for logs."""
        return (plain(addr[0]), *addr[1:])


class Server(_Port):
    """Serves an application on a port. Raises StartupError when the port cannot be opened.

    `drain_timeout` is the number of seconds that requests under way get at a stop. `sockets` are the port's, if it is
    open already. The log takes clients' addresses from the `X-Forwarded-For` of `trusted_proxies`.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        listen: Listen,
        drain_timeout: float,
        sockets: Sequence[socket.socket] = (),
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._drain_timeout = drain_timeout
        self._stopping = False
        self._sockets: dict[int, Any] = {}
        try:
            first, *others = sockets or bound_to_ipv6(*listen) or (None,)
            super().__init__(
                app,
                map=self._sockets,
                _sock=first,
                bind_socket=first is None,
                host=listen.host,
                port=listen.port,
                ipv6=":" in listen.host,
                threads=THREADS,
                ident=None,
                max_request_header_size=MAX_HEADERS,
                max_request_body_size=MAX_READ,
                clear_untrusted_proxy_headers=False,  # `client_address` decides which proxies to trust
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such address"
            raise StartupError(f"Cannot listen on {listen} (MANAGE_LISTEN): {reason}.") from error
        self._ports = [self, *(self._also(app, other) for other in others)]
        for port in self._ports:
            port.trusted_proxies = trusted_proxies

    def run(self) -> None:
        """Serve until `stop` is called, then finish the requests under way within the drain timeout."""
        while not self._stopping:
            self._turn()
        for port in self._ports:
            port.accepting = False
        began = time.monotonic()
        while self._channels() and time.monotonic() < began + LAST_REQUESTS:
            self._turn()
        while self._under_way() and time.monotonic() < began + self._drain_timeout:
            self._turn()

    def stop(self) -> None:
        """End `run`. May be called from a signal handler or another thread, and more than once."""
        self._stopping = True
        self.pull_trigger()

    def shut_down(self) -> None:
        """Close the port and every connection. Called after `run`."""
        self.task_dispatcher.shutdown()
        wasyncore.close_all(self._sockets)

    def _also(self, app: "WSGIApplication", other: socket.socket | None) -> _Port:
        """Serve on another socket of the port too."""
        return _Port(
            app, map=self._sockets, _sock=other, dispatcher=self.task_dispatcher, adj=self.adj, bind_socket=False
        )

    def _turn(self) -> None:
        wasyncore.loop(timeout=self.adj.asyncore_loop_timeout, map=self._sockets, count=1)

    def _channels(self) -> list[HTTPChannel]:
        return [one for one in list(self._sockets.values()) if isinstance(one, HTTPChannel)]

    def _under_way(self) -> bool:
        return any(channel.requests or channel.total_outbufs_len for channel in self._channels())


def serve(app: flask.Flask, listen: Listen, drain_timeout: float, trusted_proxies: Sequence[Network] = ()) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP. Returns when the requests under way are answered or have timed out.

    Raises StartupError when the port cannot be opened. For the main thread only.
    """
    drain_timeout = min(drain_timeout, LONGEST_DRAIN)
    server = Server(app, listen, drain_timeout, given_sockets(), trusted_proxies)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: server.stop())
    _LOG.info("listening", extra={"url": f"http://{listen}"})
    tell_ready(drain_timeout)
    server.run()
    ignore_stop_signals()
    server.shut_down()
