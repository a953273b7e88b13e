"""Stops by terminals, service managers and accidents: requests under way are finished, and no process stays."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN, bearer
from support.gateway.installation import Installation, children, started
from support.gateway.processes import DEADLINE, ROOT, Process, listens, python, running, tool, wait_until
from support.stores.stores import foreign_lock, opened
from support.upstreams.upstreams import KEY, DemoUpstream

from store.runtime.settings import Settings

CTRL_C, CTRL_BACKSLASH = b"\x03", b"\x1c"
STOPS = pytest.mark.soak("addon/serving", "manage_api/cli", "manage_api/server.py", "store/runtime")
"""A mark for further cases of a kind: the suite has one of each."""
AUTHORIZED = {"Authorization": f"Bearer {MANAGEMENT_TOKEN}"}


# Makes standard input the controlling terminal, as for a login: its Ctrl-C and its end become signals. The tests may
# themselves have been started by a shell that has them ignored.
_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGQUIT)];"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture
def installation(tmp_path: Path, upstream: DemoUpstream) -> Installation:
    return Installation(tmp_path, UPSTREAM_URL=upstream.url, MANAGEMENT_TOKEN=MANAGEMENT_TOKEN)


class Terminal:
    """A terminal in which `./run.sh` runs. Its output is read, as a screen does, until it is closed."""

    def __init__(self, installation: Installation) -> None:
        self._master, slave = pty.openpty()
        self._output = b""
        self._ready = threading.Event()
        self._closed = threading.Event()
        self.process = subprocess.Popen(
            [*python("-c", _TAKE_TERMINAL), str(ROOT / "run.sh")],
            env=installation.env,
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._screen = threading.Thread(target=self._read)
        self._screen.start()

    def wait_until_up(self) -> None:
        assert self._ready.wait(DEADLINE), self._output

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def close(self) -> None:
        self._closed.set()
        self._screen.join()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _read(self) -> None:
        while not self._closed.is_set():
            if select.select([self._master], [], [], 0.02)[0]:
                try:
                    self._output += os.read(self._master, 65536)
                except OSError:  # the last process that had it is gone
                    return
                if b"is up" in self._output:
                    self._ready.set()


@contextlib.contextmanager
def stream_under_way(installation: Installation, words: int = 25) -> Iterator[Iterator[str]]:
    """Give the rest of an event stream of 50 words a second, whose first line has come."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "drain"}]}
    headers = {**bearer(make_token(installation)), "X-Demo-Words": str(words), "X-Demo-Chunk-Delay": "0.02"}
    url = f"http://127.0.0.1:{installation.proxy}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=DEADLINE) as response:
        lines = response.iter_lines()
        next(lines)
        yield lines


def make_token(installation: Installation) -> dict[str, str]:
    url = f"http://127.0.0.1:{installation.manage}/manage"
    project = httpx.post(f"{url}/projects", json={"name": "Tests", "api_key": KEY}, headers=AUTHORIZED).json()
    token: dict[str, str] = httpx.post(f"{url}/tokens", json={"project_id": project["id"]}, headers=AUTHORIZED).json()
    return token


def counted(installation: Installation) -> int:
    """Return how many requests the store has counted."""
    with opened(Settings(_env_file=None, data_dir=installation.data)) as store:
        ((count,),) = store.database.execute("SELECT sum(request_count) FROM token", ())
    return int(count)


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda terminal: [terminal.type(CTRL_C) for _ in range(3)], 0),
        pytest.param(lambda terminal: terminal.close(), 0, marks=STOPS),
        pytest.param(lambda terminal: terminal.type(CTRL_BACKSLASH), -signal.SIGQUIT, marks=STOPS),
    ],
    ids=["ctrl-c three times", "closed", "ctrl-backslash"],
)
def test_a_stream_is_finished_when_its_terminal_ends(
    installation: Installation, act: Callable[[Terminal], object], status: int
) -> None:
    terminal = Terminal(installation)
    try:
        terminal.wait_until_up()
        with stream_under_way(installation) as lines:
            act(terminal)
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert terminal.process.wait(DEADLINE) == status
    finally:
        terminal.close()
        terminal.process.kill()
        terminal.process.wait()
        installation.wait_until_nothing_runs()
    assert counted(installation) == 1


@STOPS  # in the suite: test_ways.py has it for a process
def test_no_connections_are_accepted_while_a_stream_is_finished(installation: Installation) -> None:
    with started(installation) as process:
        with stream_under_way(installation, words=125) as lines:
            process.signal(signal.SIGTERM)
            wait_until(lambda: not listens(installation.proxy) and not listens(installation.manage))
            rest = list(lines)
            assert len(rest) > 2
            assert rest[-2:] == ["data: [DONE]", ""]
        assert process.wait() == 0


@pytest.mark.parametrize(
    "output",
    [
        "<&- >&- 2>&-",
        *(pytest.param(other, marks=STOPS) for other in ("> >(true) 2>&1", "2>&-", "web >/dev/full 2>/dev/full")),
    ],
)
def test_closed_outputs_stop_nothing(installation: Installation, output: str) -> None:
    shell = Process(
        ["/bin/bash", "-c", f"exec ./run.sh {output}"],
        env=installation.env,
        log=installation.folder / "shell.log",
    )
    try:
        shell.wait_for_port(installation.proxy)
        shell.wait_for_port(installation.manage)
        with stream_under_way(installation) as lines:
            shell.signal(signal.SIGTERM)
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert shell.wait() == 0
    finally:
        shell.kill()
        installation.wait_until_nothing_runs()
    assert "Traceback" not in shell.output()
    assert counted(installation) == 1


def test_a_management_request_under_way_is_answered_and_committed(installation: Installation) -> None:
    installation.env["STORE_TIMEOUT"] = str(DEADLINE)
    body = json.dumps({"name": "Late", "api_key": KEY})
    request = (
        f"POST /manage/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {MANAGEMENT_TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    with started(installation) as process, opened(Settings(_env_file=None, data_dir=installation.data)) as store:
        with socket.create_connection(("127.0.0.1", installation.manage), timeout=DEADLINE) as client:
            with foreign_lock(store):
                client.sendall(request.encode())
                wait_until_read(client)
                process.signal(signal.SIGTERM)
                process.wait_for_output("Stopping")
            assert client.recv(4096).startswith(b"HTTP/1.1 201 ")
        assert process.wait() == 0
        assert store.database.execute("SELECT name FROM project", ()) == [("Late",)]
    installation.wait_until_nothing_runs()


def wait_until_read(client: socket.socket) -> None:
    """Wait until the process at the other end has read all data sent to it."""
    ends = [f"0100007F:{port:04X}" for _, port in (client.getpeername(), client.getsockname())]
    deadline = time.monotonic() + DEADLINE
    while True:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (queues,) = [row[4] for row in rows if row[1:3] == ends]
        if queues.endswith(":00000000"):
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)  # no event reports that a socket is read


def test_a_stop_while_the_processes_start_is_clean(installation: Installation) -> None:
    process = installation.start(
        [tool("llm-proxy"), "start"], forked=True
    )  # not ./run.sh: its shell has children of its own
    with running(process):
        deadline = time.monotonic() + DEADLINE
        while not children(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # no event reports another process's child
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 0
    assert "Traceback" not in process.output()
    installation.wait_until_nothing_runs()
