"""The port: waitress, with our answers where it would give its own, and a stop that loses no request."""

import json
import logging
import signal
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask

from manage_api import request_ids
from store.errors import (
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    RequestTooLarge,
    StartupError,
    TransferEncodingUnknown,
)
from store.lifecycle import STOP_SIGNALS, ignore_stop_signals
from store.settings import Listen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from waitress.parser import HTTPRequestParser

THREADS = 8
MAX_HEADERS = 64 * 1024

MAX_READ = 16 * 1024 * 1024
"""Bytes of a body that are read at all. More than the application takes, because a client that still sends
when its connection is closed may never see its 413."""

DRAIN_TIMEOUT = 10
"""Seconds that requests under way get at a stop. Only a client that does not read its answer takes longer."""

_LOG = logging.getLogger(__name__)


_ERRORS: Mapping[int, GatewayError] = {
    400: InvalidRequest("The request is not valid HTTP."),
    413: RequestTooLarge(),
    431: HeadersTooLarge(),
    501: TransferEncodingUnknown(),
}


class _ErrorTask(ErrorTask):
    """Answers what does not get as far as the application."""

    def execute(self) -> None:
        """Write the error as JSON, with a request id, and close the connection."""
        fault = cast("HTTPRequestParser", self.request).error
        error = _ERRORS.get(fault.code if fault else 0, GatewayError())
        body = json.dumps(error.body()).encode()
        request_id = request_ids.new_id()
        self.status = f"{error.status} {HTTPStatus(error.status).phrase}"
        headers = {"Content-Type": "application/json", **error.headers, **request_ids.headers(request_id)}
        self.response_headers = [*headers.items()]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        _LOG.info("refused", extra={"status": error.status, "request_id": request_id})


class _Channel(HTTPChannel):
    error_task_class = _ErrorTask


class Server(TcpWSGIServer):
    """A port with an application behind it. Raises StartupError when the port cannot be opened."""

    channel_class = _Channel

    def __init__(self, app: "WSGIApplication", listen: Listen) -> None:
        self._stopping = False
        self._sockets: dict[int, Any] = {}
        try:
            super().__init__(
                app,
                map=self._sockets,
                host=listen.host,
                port=listen.port,
                ipv6=":" in listen.host,
                threads=THREADS,
                ident=None,
                max_request_header_size=MAX_HEADERS,
                max_request_body_size=MAX_READ,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such address"
            raise StartupError(f"Cannot listen on {listen} (MANAGE_LISTEN): {reason}.") from error

    def run(self) -> None:
        """Serve until `stop` is called, then finish the requests under way."""
        while not self._stopping:
            self._turn()
        self.accepting = False
        deadline = time.monotonic() + DRAIN_TIMEOUT
        while self._under_way() and time.monotonic() < deadline:
            self._turn()

    def stop(self) -> None:
        """End `run`; from a signal handler or another thread, any number of times."""
        self._stopping = True
        self.pull_trigger()

    def shut_down(self) -> None:
        """Close the port and every connection, after `run`."""
        self.task_dispatcher.shutdown()
        wasyncore.close_all(self._sockets)

    def _turn(self) -> None:
        wasyncore.loop(timeout=self.adj.asyncore_loop_timeout, map=self._sockets, count=1)

    def _under_way(self) -> bool:
        channels = [one for one in list(self._sockets.values()) if isinstance(one, HTTPChannel)]
        return any(channel.requests or channel.total_outbufs_len for channel in channels)


def serve(app: flask.Flask, listen: Listen) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, and return when the requests under way are answered.

    Raises StartupError when the port cannot be opened. Only for the main thread.
    """
    server = Server(app, listen)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: server.stop())
    _LOG.info("listening", extra={"url": f"http://{listen}"})
    server.run()
    ignore_stop_signals()
    server.shut_down()
