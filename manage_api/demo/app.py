"""The demo upstream's routes and server."""

import asyncio
from typing import Any

import click
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from manage_api.demo.chat import ChatCompletions
from manage_api.demo.embeddings import Embeddings
from manage_api.demo.files import FileContent, Files, OneFile
from manage_api.demo.handler import NotFound, Upstream
from manage_api.demo.models import Models, OneModel
from manage_api.demo.realtime import Realtime
from manage_api.demo.record import RecordedRequests
from manage_api.demo.responses import Responses
from store.runtime.lifecycle import tell_ready

LOOPBACK = "127.0.0.1"
DEFAULT_CHUNK_DELAY = 0.02
MAX_BODY_BYTES = 1024**3

ROUTES: list[tuple[str, type[RequestHandler]]] = [
    (r"/v1/models", Models),
    (r"/v1/models/([^/]+)", OneModel),
    (r"/v1/chat/completions", ChatCompletions),
    (r"/v1/responses", Responses),
    (r"/v1/embeddings", Embeddings),
    (r"/v1/files", Files),
    (r"/v1/files/([^/]+)", OneFile),
    (r"/v1/files/([^/]+)/content", FileContent),
    (r"/v1/realtime", Realtime),
]


def make_app(api_key: str, chunk_delay: float) -> Application:
    """Make an application with an empty state: no files, nothing recorded.

    `api_key` is the only key that it accepts, `chunk_delay` the pause before each streamed word, in seconds.
    """
    upstream = Upstream(api_key, chunk_delay)
    routes: list[Any] = [(path, handler, {"upstream": upstream}) for path, handler in ROUTES]
    routes.append((r"/_demo/requests", RecordedRequests, {"record": upstream.record}))
    return Application(
        routes,
        default_handler_class=NotFound,
        default_handler_args={"upstream": upstream},
        log_function=lambda _handler: None,
    )


async def serve(host: str, port: int, api_key: str, chunk_delay: float) -> None:
    """Serve until cancelled, then close the connections that are left.

    Once it listens, it prints `demo upstream on http://HOST:PORT/v1` with its actual port.
    """
    sockets = bind_sockets(port, host)
    app = make_app(api_key, chunk_delay)
    server = HTTPServer(app, max_body_size=MAX_BODY_BYTES, max_buffer_size=MAX_BODY_BYTES)
    server.add_sockets(sockets)
    click.echo(f"demo upstream on http://{host}:{sockets[0].getsockname()[1]}/v1")
    tell_ready(drain_timeout=0)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()
        await server.close_all_connections()
