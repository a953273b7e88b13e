import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest
from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpRequestHook, HttpResponseHook
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO
from mitmproxy.test.tflow import tflow

from addon.seams import turns

THEIRS = (ConnectionHandler.server_event, ConnectionHandler.drain_writers)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    turns.install()
    yield
    ConnectionHandler.server_event, ConnectionHandler.drain_writers = THEIRS  # type: ignore[method-assign]


class Script(layer.Layer):
    """Yields what a test wants for each event, and notes the events."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.seen: list[events.Event] = []
        self.answers: list[list[commands.Command] | Exception] = []

    def _handle_event(self, _: events.Event) -> layer.CommandGenerator[None]:
        raise AssertionError("`handle_event` does all")

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.seen.append(event)
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        yield from answer


class Handler(ConnectionHandler):
    """Notes what happens to it."""

    def __init__(self, hook: Callable[[commands.StartHook], Awaitable[None]] | None = None) -> None:
        client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
        options = Options()
        options.add_option("tcp_timeout", int, 600, "") if "tcp_timeout" not in options else None
        context = Context(client, options)
        super().__init__(context)
        self.script = self.layer = Script(context)
        self.done: list[str] = []
        self._hook = hook
        self.server = Server(address=("127.0.0.1", 3))
        for name, connection in (("client", client), ("server", self.server)):
            self.transports[connection] = ConnectionIO(writer=Writer(name, self.done))  # type: ignore[arg-type]

    async def handle_hook(self, hook: commands.StartHook) -> None:
        self.done.append(hook.name)
        if self._hook:
            await self._hook(hook)

    def close_connection(self, connection: Connection, half_close: bool = False) -> None:
        self.done.append(f"close {'half ' * half_close}{'client' if connection is self.client else 'server'}")


class Writer:
    def __init__(self, name: str, done: list[str]) -> None:
        self._name, self._done = name, done
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self._done.append(f"{self._name}: {data.decode()}")


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_what_goes_to_a_peer_in_a_turn_goes_at_once() -> None:
    async def test() -> None:
        handler = Handler()
        client, server = handler.client, handler.server
        handler.script.answers = [
            [commands.SendData(client, b"a"), commands.SendData(server, b"x"), commands.SendData(client, b"b")],
            [commands.SendData(client, b"c")],
        ]
        await handler.server_event(events.Start())
        await handler.server_event(events.Start())
        assert handler.done == ["client: ab", "server: x", "client: c"]

    run(test)


@pytest.mark.parametrize("half", [False, True])
def test_what_is_sent_before_a_close_goes_before_it_and_nothing_goes_after_it(half: bool) -> None:
    async def test() -> None:
        handler = Handler()
        close = (
            commands.CloseTcpConnection(handler.client, half_close=True)
            if half
            else commands.CloseConnection(handler.client)
        )
        handler.script.answers = [[commands.SendData(handler.client, b"last"), close]]
        await handler.server_event(events.Start())
        del handler.transports[handler.client]
        handler.script.answers = [
            [commands.SendData(handler.client, b"more"), commands.CloseConnection(handler.client)]
        ]
        await handler.server_event(events.Start())
        assert handler.done == ["client: last", f"close {'half ' * half}client"]

    run(test)


def test_nothing_is_written_to_who_is_about_to_be_closed() -> None:
    async def test() -> None:
        handler = Handler()
        handler.transports[handler.client].writer.closing = True  # type: ignore[union-attr]
        handler.script.answers = [[commands.SendData(handler.client, b"late")]]
        await handler.server_event(events.Start())
        assert handler.done == []

    run(test)


def test_a_hook_that_is_done_at_once_goes_on_in_the_same_turn() -> None:
    async def test() -> None:
        handler = Handler()
        first, second = HttpRequestHook(tflow()), HttpResponseHook(tflow())
        sent = commands.SendData(handler.client, b"answer")
        handler.script.answers = [[first, commands.SendData(handler.server, b"x")], [second], [sent]]
        started = events.Start()
        await handler.server_event(started)
        assert [type(event) for event in handler.script.seen] == [
            events.Start,
            events.HookCompleted,
            events.HookCompleted,
        ]
        assert handler.done == ["request", "response", "server: x", "client: answer"]

    run(test)


def test_a_hook_that_waits_goes_on_later_and_holds_nobody_up() -> None:
    async def test() -> None:
        go_on = asyncio.Event()
        handler = Handler(lambda _: go_on.wait())  # type: ignore[arg-type,return-value]
        handler.script.answers = [[HttpRequestHook(tflow())], [commands.SendData(handler.client, b"other")]]
        await handler.server_event(events.Start())
        await handler.server_event(events.Start())
        assert handler.done == ["request", "client: other"]
        go_on.set()
        while len(handler.script.seen) < 3:
            await asyncio.sleep(0)
        assert isinstance(handler.script.seen[-1], events.HookCompleted)

    run(test)


def test_a_layer_that_fails_is_logged_and_the_next_event_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        handler = Handler()
        unknown = commands.Command()
        handler.script.answers = [ValueError("a fault"), [unknown], [commands.SendData(handler.client, b"fine")]]
        for _ in range(3):
            await handler.server_event(events.Start())
        assert handler.done == ["client: fine"]

    with caplog.at_level(logging.ERROR):
        run(test)
    assert caplog.text.count("mitmproxy has crashed!") == 2


def test_timers_and_logs_are_as_before(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        handler = Handler()
        handler.script.answers = [[commands.RequestWakeup(0.001), commands.Log("a line", logging.WARNING)]]
        await handler.server_event(events.Start())
        assert len(handler.wakeup_timer) == 1
        while len(handler.script.seen) < 2:
            await asyncio.sleep(0)
        assert isinstance(handler.script.seen[-1], events.Wakeup)
        assert not handler.wakeup_timer

    with caplog.at_level(logging.WARNING):
        run(test)
    assert "a line" in caplog.text


def test_slow_peers_are_waited_for_and_others_are_not() -> None:
    async def test() -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await taken.wait()
            writer.close()

        taken = asyncio.Event()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            _, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            handler = Handler()
            handler.transports = {handler.client: ConnectionIO(writer=writer)}
            await handler.drain_writers()  # type: ignore[no-untyped-call]
            writer.write(bytes(64 * 1024 * 1024))
            waiting = asyncio.create_task(handler.drain_writers())  # type: ignore[no-untyped-call]
            await asyncio.sleep(0)
            assert not waiting.done()
            taken.set()
            writer.transport.abort()
            await waiting  # what cannot be sent is no fault of the reader's
            writer.close()

    run(test)
