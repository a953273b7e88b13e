"""The gateway in this process, made as the launcher makes it, on a free port and in the test's own event loop."""

import asyncio
import atexit
import contextlib
import functools
import json
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitmproxy import http
from mitmproxy.addons.onboarding import Onboarding
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.test import taddons

from addon.gateway import Gateway
from addon.layers.keyed_layer import KeyedLayer
from addon.patches import dispatch
from addon.replacing import restore_all
from addon.serving import config_files, listening
from addon.serving.lean_master import LeanMaster
from addon.serving.startup import add_addons
from store.admission.admission import Admission
from store.errors import TokenInactive
from store.management.tokens import TokenRecord
from store.runtime.settings import Settings
from store.store import Store
from support.gateway.processes import DEADLINE
from support.stores.stores import make_settings, make_token, opened

if TYPE_CHECKING:
    from addon.exchange import Exchanges

CLOSE = "Connection: close\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n" + CLOSE


class _Watch:
    """An addon that reports when the master runs, and its flows as they begin and end."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.flows: list[http.HTTPFlow] = []
        self.ended: asyncio.Queue[http.HTTPFlow] = asyncio.Queue()

    def running(self) -> None:
        self.started.set()

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self.flows.append(flow)

    def response(self, flow: http.HTTPFlow) -> None:
        self.ended.put_nowait(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self.ended.put_nowait(flow)


class Hooks:
    """An addon that notes which hooks are called, in order."""

    OF_CLIENTS = ("client_connected", "client_disconnected")
    OF_UPSTREAMS = ("server_connect", "server_connected", "server_connect_error", "server_disconnected")
    OF_TLS = ("tls_start_server", "tls_established_server", "tls_failed_server")
    OF_FLOWS = ("requestheaders", "request", "responseheaders", "response", "error")

    def __init__(self) -> None:
        self.called: list[str] = []
        for name in (*self.OF_CLIENTS, *self.OF_UPSTREAMS, *self.OF_TLS, *self.OF_FLOWS):
            setattr(self, name, functools.partial(self._note, name))

    def of(self, names: Sequence[str]) -> list[str]:
        return [name for name in self.called if name in names]

    def _note(self, name: str, _: object) -> None:
        self.called.append(name)


class CutAt:
    """An addon that cuts each request at a hook."""

    def __init__(self, hook: str) -> None:
        self.exchanges: Exchanges | None = None
        setattr(self, hook, self._cut)

    def _cut(self, flow: http.HTTPFlow) -> None:
        found = self.exchanges.get(flow.id) if self.exchanges else None
        if found is not None:
            found.cut(TokenInactive())


class HoldConnections:
    """An addon that holds up every connection to the upstream until `go_on` is set."""

    def __init__(self) -> None:
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def server_connect(self, _: object) -> None:
        self.held.set()
        await self.go_on.wait()


class _Errors(logging.Handler):
    """Keeps the messages at ERROR: a crash of a layer shows there only."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


class Proxy:
    """A running proxy, its store and a token."""

    def __init__(self, master: Master, gateway: Gateway, store: Store, token: TokenRecord, watch: _Watch) -> None:
        self.master = master
        self.gateway = gateway
        self.exchanges = gateway.exchanges
        self.store = store
        self.token = token
        self.flows = watch.flows
        self.ended = watch.ended
        self.errors = _Errors()

    @property
    def port(self) -> int:
        proxyserver = self.master.addons.get("proxyserver")
        assert isinstance(proxyserver, Proxyserver)
        port: int = proxyserver.listen_addrs()[0][1]
        return port

    @contextlib.asynccontextmanager
    async def connection(
        self, receive_buffer: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 2**16)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, request: str | bytes) -> bytes:
        """Send bytes on a new connection, and return all that comes until the proxy closes it."""
        async with self.connection() as (reader, writer):
            writer.write(request.encode() if isinstance(request, str) else request)
            return await asyncio.wait_for(reader.read(), DEADLINE)

    async def ask_and_stay(self, request: str | bytes) -> bytes:
        """Send bytes, and return one response with a length, without waiting for the proxy to close."""
        async with self.connection() as (reader, writer):
            writer.write(request.encode() if isinstance(request, str) else request)
            return await asyncio.wait_for(read_answer(reader), DEADLINE)

    def request(self, line: str = "GET /v1/models", *, headers: str = CLOSE, body: str = "") -> str:
        """Return a request with the token."""
        return (
            f"{line} HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer {self.token.value}\r\n"
            f"{f'Content-Length: {len(body)}\r\n' if body else ''}{headers}\r\n{body}"
        )

    @property
    def served(self) -> int:
        """Requests that the plain path has served."""
        return self.gateway.plain_path.served

    @property
    def handler(self) -> ConnectionHandler:
        """The handler of the only client connection that is open."""
        proxyserver = self.master.addons.get("proxyserver")
        assert isinstance(proxyserver, Proxyserver)
        (handler,) = proxyserver.connections.values()
        return handler

    @property
    def layer(self) -> KeyedLayer:
        """The keyed layer of that connection."""
        layer = self.handler.layer.context.layers[-1]
        assert isinstance(layer, KeyedLayer)
        return layer

    async def end_of_flow(self) -> http.HTTPFlow:
        return await asyncio.wait_for(self.ended.get(), DEADLINE)


@functools.cache
def _authority() -> str:
    """Return a folder with mitmproxy's CA, made once a process: making it takes longer than most tests."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    upstream_url: str,
    options: dict[str, Any] | None = None,
    addons: Sequence[object] = (),
    **values: Any,
) -> AsyncIterator[Proxy]:
    """Run a proxy until the block ends. Fails if anything was logged as an error.

    `addons` come after the launcher's. Everything that the gateway has replaced in mitmproxy is restored at the end.
    """
    settings = make_settings(folder, upstream_url=upstream_url, **values)
    with opened(settings) as store:
        master = LeanMaster()
        gateway = add_addons(master, settings, store)
        watch = _Watch()
        master.addons.add(*addons, watch)
        config_files.use(master, Path(_authority()))
        listening.wait_to_serve([])
        origin = settings.upstream._replace(prefix="").origin
        master.options.update(mode=[f"reverse:{origin}@127.0.0.1:0"])
        master.options.update(**(options or {}))
        proxy = Proxy(master, gateway, store, make_token(store), watch)
        logging.getLogger().addHandler(proxy.errors)
        task = asyncio.create_task(master.run())
        try:
            await asyncio.wait_for(watch.started.wait(), DEADLINE)
            yield proxy
        finally:
            await listening.stop(master)
            proxyserver = master.addons.get("proxyserver")
            while proxyserver.connections:  # they close one tick after their clients
                await asyncio.sleep(0)
            master.shutdown()  # type: ignore[no-untyped-call]
            await asyncio.wait_for(task, DEADLINE)
            logging.getLogger().removeHandler(proxy.errors)
            restore_all()
        assert proxy.errors.messages == []


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one response with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(head_and_body(head)[1]["content-length"]))


def head_and_body(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Split an HTTP/1 response: status, headers (lower case), body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


def run(main: Coroutine[object, object, None]) -> None:
    """Run a test's coroutine, for a limited time."""
    asyncio.run(asyncio.wait_for(main, 2 * DEADLINE))


def assert_json_error(answer: bytes, status: int, code: str) -> dict[str, str]:
    """Check that a response is the gateway's own, and return its headers."""
    answered, headers, body = head_and_body(answer)
    assert answered == status, answer
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["code"] == code
    assert headers["x-llm-proxy-request-id"]
    return headers


@contextlib.contextmanager
def hooked(
    settings: Settings, store: Store, mode: str = "reverse:http://upstream:1234"
) -> Iterator[tuple[Gateway, taddons.context]]:
    """Yield a gateway whose hooks a test calls itself, and the context of mitmproxy's that it runs in."""
    admission = Admission(store)
    gateway = Gateway(settings, admission)
    try:
        with taddons.context(Proxyserver(), Onboarding()) as context:
            context.options.update(mode=[f"{mode}@127.0.0.1:0"])
            dispatch.install(context.master)
            context.master.addons.add(gateway)
            gateway.reverse_mode.running()
            yield gateway, context
    finally:
        admission.close()
