import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator

import pytest
from support.processes import clean_environment
from support.signals import signals_kept

from manage_api.cli import supervisor
from store.settings import Listen

SLEEPING = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); print(signal.pause())",
]


@pytest.fixture(autouse=True)
def _signals_kept() -> Iterator[None]:
    with signals_kept():
        yield


def run(*commands: list[str], drain_timeout: float = 5, on_start: Callable[[], None] | None = None) -> int:
    async def supervise() -> int:
        if on_start:
            asyncio.get_running_loop().call_later(0.5, on_start)  # once the signal handlers are there
        named = {f"process {number}": command for number, command in enumerate(commands)}
        return await supervisor.run(
            named, env=clean_environment(), ports=[], drain_timeout=drain_timeout, on_ready=lambda: None
        )

    return asyncio.run(supervise())


@pytest.mark.parametrize("status", [0, 3])
def test_the_first_end_ends_all_and_is_told(capfd: pytest.CaptureFixture[str], status: int) -> None:
    assert run([sys.executable, "-c", f"exit({status})"], SLEEPING) == 1
    assert f"The process 0 ended with status {status}; stopping." in capfd.readouterr().err


def test_a_signal_ends_all_cleanly() -> None:
    assert run(SLEEPING, SLEEPING, on_start=lambda: os.kill(os.getpid(), signal.SIGTERM)) == 0


def test_a_process_that_does_not_end_is_killed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_GRACE", 0)
    deaf = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()",
    ]
    assert run(deaf, on_start=lambda: os.kill(os.getpid(), signal.SIGTERM), drain_timeout=0.2) == 1
    assert "which did not end" in capfd.readouterr().err


def test_a_port_that_resets_its_first_connections_is_asked_again() -> None:
    resets = 3

    async def supervise() -> int:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            if connections <= resets:  # closed with a request unread: the peer gets a reset
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                await reader.readline()
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            listen = Listen(*server.sockets[0].getsockname())
            ready: list[int] = []

            def on_ready() -> None:
                ready.append(connections)
                os.kill(os.getpid(), signal.SIGTERM)

            status = await supervisor.run(
                {"one": SLEEPING}, env=clean_environment(), ports=[listen], drain_timeout=5, on_ready=on_ready
            )
        assert ready == [resets + 1]
        return status

    assert asyncio.run(supervise()) == 0


def test_an_announcement_that_fails_ends_all() -> None:
    def fail() -> None:
        raise RuntimeError("no token")

    async def supervise() -> int:
        return await supervisor.run(
            {"one": SLEEPING}, env=clean_environment(), ports=[], drain_timeout=5, on_ready=fail
        )

    with pytest.raises(RuntimeError, match="no token"):
        asyncio.run(supervise())
