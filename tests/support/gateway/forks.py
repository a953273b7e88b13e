"""Processes of the program that are forked, by a server of this process's own, rather than started."""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
_lock = threading.Lock()
_state = {"on": False}


def switch_on() -> None:
    """Let processes be forked: a start costs a tenth then. A soak run starts each as an operator does."""
    _state["on"] = True


def is_on() -> bool:
    return _state["on"]


class Forked:
    """A process that behaves as a subprocess.Popen."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path, has_rights: bool = True
    ) -> None:
        self._status, status = os.pipe()
        request = json.dumps([[*command], str(cwd), dict(env), has_rights]).encode()
        with log.open("ab") as output, _lock:
            server = _server()
            socket.send_fds(server, [request], [output.fileno(), status])
            self.pid = int(server.recv(100))
        os.close(status)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout or 0)
            self.returncode = int(os.read(self._status, 100))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@functools.cache
def _server() -> socket.socket:
    """Start the server; it ends with this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = ("PATH", "LANG", "VIRTUAL_ENV")
    env = {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONUNBUFFERED": "1"}
    with there:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(there.fileno())],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            process_group=0,
        )
    atexit.register(process.wait)
    atexit.register(here.close)  # before that: the last is the first
    return here
