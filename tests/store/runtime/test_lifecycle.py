import os
import signal
import socket
import subprocess
from subprocess import PIPE

import pytest
from support.gateway.processes import DEADLINE, python
from support.gateway.signals import signals_kept

from store.runtime import lifecycle
from store.runtime.lifecycle import STOP_SIGNALS, note_stop_signals

COUNT_FILES = """
import os, resource
from store.runtime.lifecycle import allow_many_open_files
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (32, most))
allow_many_open_files()
print(len([os.open(os.devnull, os.O_RDONLY) for _ in range(100)]))
"""

STOP_HALF_MADE = """
import os, signal
from store.runtime.lifecycle import begin
class Part:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGINT)
        self.whole = True
    def __del__(self):
        self.whole
begin()
Part()
"""

STOP_MADE_ANOTHER = """
import os, signal
from store.runtime.lifecycle import begin
begin()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except SystemExit:
    raise TypeError("not an instance of 'tuple'")
"""

STOP_SWALLOWED = """
import signal, sys, time
from store.runtime import lifecycle
lifecycle.begin()
signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)))
print("set", flush=True)
time.sleep(60)
"""


def test_more_files_can_be_open_than_by_default() -> None:
    done = subprocess.run(python("-c", COUNT_FILES), capture_output=True, text=True, check=True)
    assert done.stdout == "100\n"


@pytest.mark.parametrize("code", [STOP_HALF_MADE, STOP_MADE_ANOTHER])
def test_a_stop_at_any_moment_of_a_start_is_clean(code: str) -> None:
    done = subprocess.run(python("-c", code), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_process_without_its_supervisor_stops_though_a_signal_was_swallowed() -> None:
    environment = {**os.environ, lifecycle.SUPERVISED: "1"}
    with subprocess.Popen(python("-c", STOP_SWALLOWED), stdin=PIPE, stdout=PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"set\n"
        process.stdin.close()
        assert process.wait(DEADLINE) == 7


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_is_noted_and_ends_nothing(number: signal.Signals) -> None:
    with signals_kept():
        stopped = note_stop_signals()
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()


def test_readiness_is_reported_once_and_a_closed_descriptor_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setenv(lifecycle.READY, str(writer))
    lifecycle.tell_ready(1.5)
    lifecycle.tell_ready(1.5)
    assert os.read(reader, 10) == b"1.5\n"
    assert os.read(reader, 10) == b""  # it is closed
    os.close(reader)
    reader, writer = os.pipe()
    monkeypatch.setenv(lifecycle.READY, str(writer))
    lifecycle.tell_ready(1.5, page="http://web/?token=x")
    assert os.read(reader, 100) == b"1.5 http://web/?token=x\n"
    os.close(reader)
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setenv(lifecycle.READY, str(writer))
    lifecycle.tell_ready(1.5)


def test_given_sockets_are_found_by_their_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lifecycle.SOCKETS, raising=False)
    assert lifecycle.given_sockets() == []
    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setenv(lifecycle.SOCKETS, str(os.dup(one.fileno())))
        (given,) = lifecycle.given_sockets()
        with given:
            assert given.getsockname() == one.getsockname()
            assert given.proto == socket.IPPROTO_TCP
