"""Starting and ending real processes."""

import contextlib
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from support.gateway import forks
from support.gateway.forks import Forked

ROOT = Path(__file__).parents[3]
DEADLINE = 20.0


# Below the ports that the kernel gives to clients, so that none takes one between its choice and its use; and apart
# from those of another worker of the same run.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(12_000 + 4_000 * (_worker % 5), 16_000 + 4_000 * (_worker % 5)))
for _ in range(os.getpid() * 97 % 4_000):
    next(_ports)  # two runs at once begin apart


def wait_until(condition: Callable[[], bool], timeout: float = DEADLINE) -> None:
    """Poll a condition, less often the longer it takes, as that costs time. Raises TimeoutError after some seconds."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > timeout:
            raise TimeoutError
        time.sleep(min(0.005 + waited / 10, 0.05))


def free_port() -> int:
    """Return a port that is free, and that was not returned before."""
    for port in _ports:
        if not listens(port):
            return port
    raise AssertionError("unreachable: the ports are a cycle")


def listens(port: int) -> bool:
    """Tell whether connections to a port are accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_files(pid: int) -> list[str]:
    """Return the names of what a process has open."""
    names = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now
            names.append(str(file.readlink()))
    return sorted(names)


def clean_environment() -> dict[str, str]:
    """The environment without what could change the processes under test, or slow them down.

    They run this folder's sources, even if the virtual environment is another folder's.
    """
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PLAIN_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
    }


def runs_other_sources(env: Mapping[str, str]) -> bool:
    """Tell whether a process with this environment runs other sources than those of this folder, or differently."""
    return env.get("PYTHONPATH") != str(ROOT) or bool({"PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE"} & env.keys())


# Drops the rights to ignore permissions and take low ports (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,
# CAP_NET_BIND_SERVICE), so that a test of them means the same for every user. For others than root it does nothing.
_WITHOUT_RIGHTS = (
    "import ctypes, os, sys; drop = ctypes.CDLL(None).prctl; [drop(24, right, 0, 0, 0) for right in (1, 2, 10)];"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def without_rights(command: Sequence[str]) -> list[str]:
    """Return a command that runs another without the rights that let root ignore permissions."""
    return [sys.executable, "-c", _WITHOUT_RIGHTS, *command]


class Process:
    """A process whose output goes to a file.

    With `forked` the command is one of the program's own, and the process may be a fork of one that has imported it:
    the same in all but its start. Without its rights a process is stopped by permissions, even where it is root's.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path = ROOT,
        forked: bool = False,
        has_rights: bool = True,
    ) -> None:
        self.log = log
        self._popen: subprocess.Popen[bytes] | Forked
        if forked and forks.is_on() and not runs_other_sources(env):
            self._popen = Forked(command, env=env, log=log, cwd=cwd, has_rights=has_rights)
        else:
            self._popen = _start(command if has_rights else without_rights(command), env, log, cwd)
        self.pid = self._popen.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, timeout: float = DEADLINE) -> int:
        return self._popen.wait(timeout)

    def stop(self, timeout: float = DEADLINE) -> int:
        """End it as an operator does, and return its exit status. One that does not end is killed, and is a failure."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        return self.wait_stopped(timeout)

    def wait_stopped(self, timeout: float = DEADLINE) -> int:
        """Wait for its end after a signal, and return its exit status, as `stop` does."""
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it and its descendants at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def wait_for_port(self, port: int, path: str = "/health", timeout: float = DEADLINE) -> None:
        """Wait until the process answers on a port. Fails with its output when it ends before."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.is_running():
                raise AssertionError(f"ended with {self.wait()}:\n{self.output()}")
            if _answers(port, path):
                return
            time.sleep(0.02)  # no event reports that another process listens
        raise AssertionError(f"no answer on {port}:\n{self.output()}")

    def wait_for_output(self, text: str, times: int = 1) -> str:
        """Wait until `text` is in the output so many times, and return the output."""
        deadline = time.monotonic() + DEADLINE
        while (output := self.output()).count(text) < times:
            if time.monotonic() > deadline or not self.is_running():
                raise AssertionError(f"{text!r} did not come:\n{output}")
            time.sleep(0.02)  # no event reports that a file grows
        return output


def _start(command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
        )


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    """End the process with the block."""
    try:
        yield process
    finally:
        if process.is_running():
            process.stop()


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def tool(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
